"""What can be wrong with a ledger, in words and with the place."""

from dataclasses import dataclass
from enum import Enum


class ProblemKind(Enum):
    """The ways in which a record betrays that it is not what was written, or that what was done was not recorded."""

    MALFORMED = "malformed"
    EDITED = "edited"
    OUT_OF_PLACE = "out-of-place"
    REMOVED = "removed"
    FORKED = "forked"
    UNSIGNED = "unsigned"
    SIGNATURE = "signature"
    RESIGNED = "re-signed"
    TREE = "tree"
    RUN_TWICE = "run-twice"
    RUN_ID = "run-id"
    TASK_DIGEST = "task-digest"
    OTHER_THAN_TASK = "other-than-task"
    WITHOUT_RUN = "without-run"
    OUT_OF_ORDER = "out-of-order"
    CHARGE_OPEN = "charge-open"
    MECHANISM_CHANGED = "mechanism-changed"
    UNDERCHARGED = "undercharged"
    REVEAL_WITHOUT_CHARGE = "reveal-without-charge"
    BELOW_FLOOR = "below-floor"
    MODEL_WITHOUT_ENTRY = "model-without-entry"
    ENTRY_WITHOUT_ROW = "entry-without-row"
    ROW_WITHOUT_ENTRY = "row-without-entry"
    ROW_DIFFERS = "row-differs"
    MISFILED = "misfiled"
    MODEL_CHANGED = "model-changed"


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerProblem:
    """One fault: what, at which entry (None where it has no single place), and the facts."""

    kind: ProblemKind
    entry: int | None
    detail: str

    def to_json(self) -> dict[str, str | int | None]:
        """Plain JSON values.

        >>> LedgerProblem(kind=ProblemKind.EDITED, entry=3, detail="...").to_json()
        {'kind': 'edited', 'entry': 3, 'detail': '...'}
        """
        return {"kind": self.kind.value, "entry": self.entry, "detail": self.detail}
