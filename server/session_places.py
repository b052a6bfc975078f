"""What the server remembers of a device while it holds a place in a cohort."""

from dataclasses import dataclass, field
from enum import Enum

from contract.ids import Digest
from contract.messages import AbortReason, Resource, UploadRequest


class Place(Enum):
    """Where a device of the cohort stands."""

    HELD = "held"
    ASSIGNED = "assigned"
    OPENED = "opened"
    ACCEPTED = "accepted"
    GONE = "gone"


@dataclass(slots=True)
class Session:
    """A place in the cohort; `fault` says why a session that is gone was ended by the server."""

    place: Place
    sha256: Digest | None = None
    fault: AbortReason | None = None


@dataclass(frozen=True, slots=True)
class Work:
    """What the cohort of a round is given."""

    plan: bytes = field(repr=False)
    model: bytes = field(repr=False)
    resource: Resource


def cannot_open(session: Session, request: UploadRequest) -> AbortReason | None:
    """Why this place may not open an upload, if it may not."""
    match session.place:
        case Place.ACCEPTED:
            return AbortReason.ALREADY_SUBMITTED
        case Place.GONE | Place.HELD:
            return session.fault or AbortReason.FOREIGN_MESSAGE
        case Place.OPENED if session.sha256 != request.sha256:
            return AbortReason.WRONG_HASH  # a resumed upload sends the same bytes
        case _:
            return None


def without_upload(session: Session) -> AbortReason:
    """What is said to who submits an upload that is not there: where it stalled and gave its buffer up, it may begin again."""
    stalled = session.place is Place.OPENED
    return session.fault or (AbortReason.WRONG_OFFSET if stalled else AbortReason.FOREIGN_MESSAGE)
