"""States, events and actions of a device's session; `client_sim.session` says what follows what."""

from dataclasses import dataclass, field
from enum import Enum
from typing import TypeAlias

from client_sim.egress import CheckedPlan, DevicePolicy, Refusal
from client_sim.patience import Patience
from contract.ids import Digest
from contract.messages import (
    AbortReason,
    EligibilitySpec,
    Reply,
    Request,
    ResourceRequest,
    ResultStatus,
    RetryWindow,
    TaskAssignment,
    UploadChunk,
)
from secagg import AbortReason as SecAggReason


class Fault(Enum):
    """Why a device ended a session that neither its egress gate nor its part in the secure aggregation ended."""

    UNEXPECTED_REPLY = "the server's reply does not belong there"
    MODEL_DIFFERS = "the model that came is not the one that was announced"
    TRAINING_FAILED = "the device could not train"


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What every state carries.

    The session's shape so far (see `session_shapes`), how often the connection was lost, whether the last chunk may have left, and what
    the device has waited so far at the server's word.
    """

    policy: DevicePolicy
    shape: str
    reconnects: int = 0
    sealed: bool = False
    patience: Patience = field(default_factory=Patience)


@dataclass(frozen=True, slots=True)
class CheckingIn:
    """The check-in is sent."""

    facts: Facts
    request: Request


@dataclass(frozen=True, slots=True)
class ReadingRecord:
    """The device looks up its own record."""

    facts: Facts
    spec: EligibilitySpec


@dataclass(frozen=True, slots=True)
class Declining:
    """The device has said that it does not take part."""

    facts: Facts
    request: Request


@dataclass(frozen=True, slots=True)
class Requesting:
    """The device has asked for a task, and may be holding a place in the cohort."""

    facts: Facts
    spec: EligibilitySpec
    request: Request


@dataclass(frozen=True, slots=True)
class Downloading:
    """The model is coming, in chunks."""

    facts: Facts
    spec: EligibilitySpec
    assignment: TaskAssignment
    checked: CheckedPlan
    received: tuple[bytes, ...] = field(repr=False)
    offset: int = 0


@dataclass(frozen=True, slots=True)
class Securing:
    """The phases of a secure aggregation are under way."""

    facts: Facts
    spec: EligibilitySpec


@dataclass(frozen=True, slots=True)
class Training:
    """The device trains and encodes."""

    facts: Facts
    spec: EligibilitySpec
    assignment: TaskAssignment
    checked: CheckedPlan


@dataclass(frozen=True, slots=True)
class Upload:
    """What goes out: the encoded update, int32 little-endian, and its SHA-256."""

    spec: EligibilitySpec
    assignment: TaskAssignment
    data: bytes = field(repr=False)
    sha256: Digest


@dataclass(frozen=True, slots=True)
class Charging:
    """The participation is being written down; nothing was sent yet."""

    facts: Facts
    upload: Upload


@dataclass(frozen=True, slots=True)
class Opening:
    """The upload is announced; the server says from where to send."""

    facts: Facts
    upload: Upload
    request: Request


@dataclass(frozen=True, slots=True)
class Uploading:
    """Chunks before the last are on their way."""

    facts: Facts
    upload: Upload


@dataclass(frozen=True, slots=True)
class Sealing:
    """It is being written down that the last chunk leaves now."""

    facts: Facts
    upload: Upload
    offset: int


@dataclass(frozen=True, slots=True)
class Finishing:
    """The last chunk is on its way."""

    facts: Facts
    upload: Upload


@dataclass(frozen=True, slots=True)
class Submitting:
    """The server is asked to take the contribution."""

    facts: Facts
    upload: Upload
    request: Request


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How a session ended: its shape, what the server was told, when to come back, and why it failed, if it did.

    Where the server ended it, `aborted` is its reason; the others are the device's own.
    """

    shape: str
    status: ResultStatus | None
    retry: RetryWindow | None = None
    refusal: Refusal | None = None
    aborted: AbortReason | None = None
    fault: Fault | SecAggReason | None = None

    @property
    def reason(self) -> str | None:
        """Who ended it and why; None where nobody did, or there is no more to say than the shape does.

        >>> Outcome(shape="-v[]+#", status=None, aborted=AbortReason.DEADLINE_PASSED).reason
        'server: deadline-passed'
        >>> Outcome(shape="-v*", status=None, refusal=Refusal.TOO_LITTLE_NOISE).reason
        'device: too-little-noise'
        """
        if self.shape.endswith("^"):
            return None
        own = self.refusal or self.fault
        found, who = (self.aborted, "server") if self.aborted is not None else (own, "device")
        return None if found is None else f"{who}: {found.name.lower().replace('_', '-')}"


@dataclass(frozen=True, slots=True)
class Refunding:
    """The charge is being taken back."""

    outcome: Outcome
    spec: EligibilitySpec


@dataclass(frozen=True, slots=True)
class Reporting:
    """The server is being told how it ended."""

    outcome: Outcome


@dataclass(frozen=True, slots=True)
class Ended:
    """Nothing more happens."""

    outcome: Outcome


State: TypeAlias = (
    CheckingIn
    | ReadingRecord
    | Declining
    | Requesting
    | Downloading
    | Securing
    | Training
    | Charging
    | Opening
    | Uploading
    | Sealing
    | Finishing
    | Submitting
    | Refunding
    | Reporting
    | Ended
)


@dataclass(frozen=True, slots=True)
class RecordRead:
    """What the device's own record and cache say: whether it may take part in the release that the spec names."""

    eligible: bool


@dataclass(frozen=True, slots=True)
class ModelHeld:
    """The model that the assignment names is there already, whole and checked against its digest."""

    parameters: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Trained:
    """The encoded update, int32 little-endian."""

    data: bytes | memoryview = field(repr=False)


@dataclass(frozen=True, slots=True)
class TrainingFailed:
    """The device could not train."""


@dataclass(frozen=True, slots=True)
class Written:
    """What was to be written into the record is on disk."""


@dataclass(frozen=True, slots=True)
class Interrupted:
    """The device's conditions no longer hold, or its user wants it back."""


@dataclass(frozen=True, slots=True)
class ConnectionLost:
    """No answer came, or a stream broke off."""


@dataclass(frozen=True, slots=True)
class SecureEnded:
    """How the secure part of the session ended."""

    outcome: Outcome


Event: TypeAlias = (
    SecureEnded | Reply | RecordRead | ModelHeld | Trained | TrainingFailed | Written | Interrupted | ConnectionLost
)


@dataclass(frozen=True, slots=True)
class Send:
    """Send this, after a pause; answer with its reply."""

    request: Request
    after_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Fetch:
    """Read the resource from the request's offset; each chunk is an event."""

    request: ResourceRequest
    after_s: float = 0.0


@dataclass(frozen=True, slots=True)
class SendChunks:
    """Send these in order; one reply follows."""

    chunks: tuple[UploadChunk, ...] = field(repr=False)


@dataclass(frozen=True, slots=True)
class ReadRecord:
    """Find out whether the device may take part; separation and trustworthiness are at its own floors or above, its cap at most its own."""

    spec: EligibilitySpec
    minimum_separation: int
    trustworthiness_s: float
    max_participations: int | None


@dataclass(frozen=True, slots=True)
class Train:
    """Train on `parameters` (float32, little-endian) as the plan says, encode, and answer with `Trained`."""

    assignment: TaskAssignment
    checked: CheckedPlan
    parameters: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Charge:
    """Write down the participation in this release; answer when it is on disk."""

    run: str
    index: int


@dataclass(frozen=True, slots=True)
class Seal:
    """Write down that the last chunk leaves; answer when it is on disk."""

    run: str
    index: int


@dataclass(frozen=True, slots=True)
class Refund:
    """Take the charge back; answer when it is on disk."""

    run: str
    index: int


@dataclass(frozen=True, slots=True)
class Secure:
    """Play the phases of a secure aggregation (client_sim.secure_session); answer with `SecureEnded`."""

    spec: EligibilitySpec
    assignment: TaskAssignment
    checked: CheckedPlan
    parameters: bytes = field(repr=False)
    shape: str


Action: TypeAlias = Secure | Send | Fetch | SendChunks | ReadRecord | Train | Charge | Seal | Refund
