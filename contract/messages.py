"""What devices and the server say to each other, as frozen values; `protos` carries the same over gRPC.

Names follow the field's protocol (google.internal.federatedcompute.v1): check-in, eligibility, assignment, upload. Nothing here
can name a device: a session id lives for one check-in, a token for one upload. Durations are in seconds, sizes in bytes.
"""

from dataclasses import dataclass, field
from enum import Enum
from typing import TypeAlias

from contract.ids import AggregationId, Digest, RunId, SessionId

MAX_CHUNK_BYTES = 1 << 20
"""Largest piece of a resource or an upload in one message."""


class RejectReason(Enum):
    """Why the server turns a device away; never anything about the device itself."""

    NO_TASK = "no-task"
    NOT_SELECTING = "not-selecting"
    COHORT_FULL = "cohort-full"
    NOT_ELIGIBLE = "not-eligible"
    SHUTTING_DOWN = "shutting-down"


class AbortReason(Enum):
    """Why a contribution is not taken."""

    GOAL_REACHED = "goal-reached"
    DEADLINE_PASSED = "deadline-passed"
    ROUND_ABANDONED = "round-abandoned"
    UNKNOWN_SESSION = "unknown-session"
    UNAUTHORIZED = "unauthorized"
    WRONG_LENGTH = "wrong-length"
    WRONG_HASH = "wrong-hash"
    WRONG_OFFSET = "wrong-offset"
    NORM_EXCEEDED = "norm-exceeded"
    ALREADY_SUBMITTED = "already-submitted"
    TOO_MANY_UPLOADS = "too-many-uploads"
    FOREIGN_MESSAGE = "foreign-message"


class ResultStatus(Enum):
    """How a session ended, as the device tells it (names of the published protocol)."""

    UPLOAD_COMPLETED = "upload-completed"
    LOCAL_FAILED = "local-failed"
    LOCAL_NOT_ELIGIBLE = "local-not-eligible"
    LOCAL_TIMEOUT = "local-timeout"
    REMOTE_FAILED = "remote-failed"
    UPLOAD_TIMEOUT = "upload-timeout"
    CANCELED = "canceled"


@dataclass(frozen=True, slots=True)
class RetryWindow:
    """Come back between `minimum_s` and `maximum_s` from now; the device draws the moment itself."""

    minimum_s: float
    maximum_s: float


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing to do yet: send the same request again after `after_s`. A held place in the cohort, or an upload's turn."""

    after_s: float


@dataclass(frozen=True, slots=True)
class EligibilityRequest:
    """A check-in: the device's conditions hold and it asks what there is to do."""

    population: str
    client_version: str


@dataclass(frozen=True, slots=True)
class EligibilitySpec:
    """What a device needs to decide for itself whether it may take part. `current_index` is the mechanism's leaf, not the attempt."""

    session_id: SessionId
    task_name: str
    run: RunId
    current_index: int
    minimum_separation: int
    max_participations: int | None
    trustworthiness_s: float
    minimum_examples: int


@dataclass(frozen=True, slots=True)
class Rejected:
    """Not now."""

    reason: RejectReason
    retry: RetryWindow


@dataclass(frozen=True, slots=True)
class AssignmentRequest:
    """The device's own record allows it to take part (`eligible`), or not; the server keeps neither answer."""

    session_id: SessionId
    eligible: bool


@dataclass(frozen=True, slots=True)
class Resource:
    """Something large that is fetched in chunks."""

    name: str
    num_bytes: int
    sha256: Digest


@dataclass(frozen=True, slots=True)
class TaskAssignment:
    """A place in the cohort. `plan` is canonical JSON (contract.plan), `model` the float32 little-endian parameters."""

    session_id: SessionId
    aggregation_id: AggregationId
    authorization_token: bytes = field(repr=False)
    plan: bytes = field(repr=False)
    model: Resource
    secure: bool = False
    """Whether the round is a secure aggregation; the plan says with which parameters."""


@dataclass(frozen=True, slots=True)
class ResourceRequest:
    """One chunk of a resource."""

    session_id: SessionId
    name: str
    offset: int


@dataclass(frozen=True, slots=True)
class ResourceChunk:
    """At most `MAX_CHUNK_BYTES` of a resource, from `offset`; `last` if it ends there."""

    offset: int
    data: bytes = field(repr=False)
    last: bool = True


@dataclass(frozen=True, slots=True)
class UploadRequest:
    """Opens (or resumes) an upload of `num_bytes` whose SHA-256 is `sha256`."""

    session_id: SessionId
    authorization_token: bytes = field(repr=False)
    num_bytes: int
    sha256: Digest
    secure: bool = False
    """Of a masked input; a task in the clear refuses it, and a secure task everything else."""


@dataclass(frozen=True, slots=True)
class UploadProgress:
    """The server holds everything before `offset`."""

    offset: int


@dataclass(frozen=True, slots=True)
class UploadChunk:
    """At most `MAX_CHUNK_BYTES` of an upload, from `offset`."""

    session_id: SessionId
    offset: int
    data: bytes | memoryview = field(repr=False)
    secure: bool = False


@dataclass(frozen=True, slots=True)
class SubmitResult:
    """All chunks are sent: take the contribution."""

    session_id: SessionId
    secure: bool = False


@dataclass(frozen=True, slots=True)
class Accepted:
    """The contribution is in the sum."""


@dataclass(frozen=True, slots=True)
class Aborted:
    """The contribution is not taken; nothing of it is kept."""

    reason: AbortReason
    retry: RetryWindow


@dataclass(frozen=True, slots=True)
class TaskResult:
    """How the session ended; the server answers nothing of interest."""

    session_id: SessionId
    status: ResultStatus


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """The server has heard how the session ended."""


class SecureStep(Enum):
    """The phases of a secure aggregation that a device takes part in, in their order."""

    ADVERTISE_KEYS = "advertise-keys"
    SHARE_KEYS = "share-keys"
    MASKED_INPUT = "masked-input"
    CONSISTENCY_CHECK = "consistency-check"
    UNMASKING = "unmasking"


@dataclass(frozen=True, slots=True)
class SecureRequest:
    """A device's message of a phase, as `secagg.wire` writes it, or None to ask for the answer only.

    A masked input is uploaded in chunks instead; its request has no message. None of these can carry an update that is not masked.
    """

    session_id: SessionId
    authorization_token: bytes = field(repr=False)
    step: SecureStep
    message: bytes | None = field(repr=False)


@dataclass(frozen=True, slots=True)
class SecureAnswer:
    """The server's message to one device, as `secagg.wire` writes it: what the phase after the request's begins with."""

    message: bytes = field(repr=False)


Request: TypeAlias = (
    EligibilityRequest
    | AssignmentRequest
    | ResourceRequest
    | UploadRequest
    | UploadChunk
    | SubmitResult
    | SecureRequest
    | TaskResult
)
Reply: TypeAlias = (
    EligibilitySpec
    | Rejected
    | Wait
    | TaskAssignment
    | ResourceChunk
    | UploadProgress
    | Accepted
    | SecureAnswer
    | Aborted
    | Acknowledged
)
