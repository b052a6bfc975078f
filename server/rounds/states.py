"""States, events and effects of a round. Counts, indices and deadlines only: per-device facts are columns of the cohort table.

A *round* is one attempt to produce a model; its *leaf* is the index of the mechanism's release, which devices call
`current_index`. A round abandoned before its charge leaves the leaf to the next attempt; one charged without an outcome uses it up.
"""

from dataclasses import dataclass
from enum import Enum
from typing import TypeAlias


class AbandonReason(Enum):
    """Every way in which a round can end without a model."""

    TOO_FEW_CHECK_INS = "too-few-check-ins"
    TOO_FEW_REPORTS = "too-few-reports"
    TOO_FEW_SURVIVORS = "too-few-survivors"
    KEY_PHASE_FAILED = "key-phase-failed"
    UNMASKING_FAILED = "unmasking-failed"
    BUDGET_EXCEEDED = "budget-exceeded"
    CANCELLED = "cancelled"
    INTERRUPTED = "interrupted"
    INTERNAL = "internal"


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundFacts:
    """What does not change during a round. `cohort_target` is the goal with over-selection.

    `minimum_reports` is the fewest devices with which a cohort (under SecAgg: a roster) goes to work, `minimum_survivors` the fewest
    reports with which the round goes on; they differ under SecAgg only.
    """

    index: int
    leaf: int
    attempt: int
    report_goal: int
    cohort_target: int
    minimum_reports: int
    minimum_survivors: int
    reporting_s: float
    secure: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Selecting:
    """Devices check in and are held until the cohort is full or the deadline passes."""

    facts: RoundFacts
    deadline_s: float
    accepted: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Configuring:
    """The cohort is fixed; plans (and under SecAgg keys and shares) are going out."""

    facts: RoundFacts
    cohort: int
    deadline_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Collecting:
    """Devices train and upload; `reported` uploads are complete and verified."""

    facts: RoundFacts
    cohort: int
    deadline_s: float
    reported: int = 0
    lost: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Aggregating:
    """No further upload counts; the charge, the noise and the outcome follow. `charged` once the charge is committed."""

    facts: RoundFacts
    reported: int
    charged: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Completed:
    """Entry, model and state are committed."""

    facts: RoundFacts
    reported: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Abandoned:
    """No model. `leaf_used` if the charge was committed before."""

    facts: RoundFacts
    reason: AbandonReason
    leaf_used: bool


State: TypeAlias = Selecting | Configuring | Collecting | Aggregating | Completed | Abandoned


@dataclass(frozen=True, slots=True)
class CheckedIn:
    """`count` devices ask to take part, at `at_s`."""

    count: int
    at_s: float


@dataclass(frozen=True, slots=True)
class DeadlinePassed:
    """The timer of the current state has run out."""

    at_s: float


@dataclass(frozen=True, slots=True)
class Configured:
    """`cohort` devices hold their plan (under SecAgg: are on the roster and have shared their keys)."""

    cohort: int
    at_s: float


@dataclass(frozen=True, slots=True)
class Reported:
    """`count` uploads are complete and verified."""

    count: int
    at_s: float


@dataclass(frozen=True, slots=True)
class Lost:
    """`count` devices of the cohort are known to be gone."""

    count: int
    at_s: float


@dataclass(frozen=True, slots=True)
class Charged:
    """The worst-case charge of the round is committed."""


@dataclass(frozen=True, slots=True)
class Committed:
    """Outcome, model and state are committed in one transaction."""


@dataclass(frozen=True, slots=True)
class Failed:
    """The round cannot go on, for an enumerated reason."""

    reason: AbandonReason


Event: TypeAlias = CheckedIn | DeadlinePassed | Configured | Reported | Lost | Charged | Committed | Failed


@dataclass(frozen=True, slots=True)
class Admit:
    """Of the devices in the event, the first `accepted` are in; the rest get a retry window."""

    accepted: int
    turned_away: int


@dataclass(frozen=True, slots=True)
class SetTimer:
    """Replace the round's timer."""

    at_s: float


@dataclass(frozen=True, slots=True)
class Configure:
    """Send the plan to the cohort (and start the key phases under SecAgg)."""


@dataclass(frozen=True, slots=True)
class TakeReports:
    """Of the uploads in the event, the first `accepted` are in the sum; the rest are late."""

    accepted: int
    late: int


@dataclass(frozen=True, slots=True)
class CommitCharge:
    """Put the worst case on the record; nothing may be revealed before."""


@dataclass(frozen=True, slots=True)
class Reveal:
    """Draw the noise (or unmask), compute the outcome, commit it."""


@dataclass(frozen=True, slots=True)
class Publish:
    """Show the model and begin the next round."""


@dataclass(frozen=True, slots=True)
class Discard:
    """Forget every contribution; tell the cohort."""

    reason: AbandonReason


Effect: TypeAlias = Admit | SetTimer | Configure | TakeReports | CommitCharge | Reveal | Publish | Discard
