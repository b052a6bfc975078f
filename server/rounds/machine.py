"""The round as one total, pure function: `step(state, event) -> (state, effects)`.

    Selecting -> Configuring -> Collecting -> Aggregating -> Completed | Abandoned(reason)

`LEGAL` lists the events that mean something in each state; `step` raises `IllegalEvent` for every other pair, because an event in
the wrong state is a bug of ours: what a peer sends late or twice never becomes an event of a later round (see the orchestrator).
The picture in ARCHITECTURE.md is drawn from `LEGAL` by `python -m server.rounds.picture`.
"""

from dataclasses import replace
from typing import Final, assert_never

from server.rounds.states import (
    Abandoned,
    AbandonReason,
    Admit,
    Aggregating,
    Charged,
    CheckedIn,
    Collecting,
    CommitCharge,
    Committed,
    Completed,
    Configure,
    Configured,
    Configuring,
    DeadlinePassed,
    Discard,
    Effect,
    Event,
    Failed,
    Lost,
    Publish,
    Reported,
    Reveal,
    RoundFacts,
    Selecting,
    SetTimer,
    State,
    TakeReports,
)

LEGAL: Final[dict[type[State], frozenset[type[Event]]]] = {
    Selecting: frozenset({CheckedIn, DeadlinePassed, Lost, Failed}),
    Configuring: frozenset({CheckedIn, Configured, DeadlinePassed, Lost, Failed}),
    Collecting: frozenset({CheckedIn, Reported, DeadlinePassed, Lost, Failed}),
    Aggregating: frozenset({CheckedIn, Reported, Lost, Charged, Committed, Failed}),
    Completed: frozenset(),
    Abandoned: frozenset(),
}

Step = tuple[State, tuple[Effect, ...]]


class IllegalEvent(ValueError):
    """An event that means nothing in this state: a bug of the caller."""

    def __init__(self, state: State, event: Event) -> None:
        super().__init__(f"{type(event).__name__} means nothing in {type(state).__name__}")


def begin(facts: RoundFacts, *, at_s: float, selection_s: float) -> Step:
    """A new round, selecting from `at_s` for at most `selection_s`."""
    deadline_s = at_s + selection_s
    return Selecting(facts=facts, deadline_s=deadline_s), (SetTimer(deadline_s),)


def step(state: State, event: Event) -> Step:
    """The state after `event` and what is to be done now, in order.

    Raises:
      IllegalEvent: for a pair that `LEGAL` does not list.
    """
    if type(event) not in LEGAL[type(state)]:
        raise IllegalEvent(state, event)
    match state:
        case Selecting():
            return _selecting(state, event)
        case Configuring():
            return _configuring(state, event)
        case Collecting():
            return _collecting(state, event)
        case Aggregating():
            return _aggregating(state, event)
        case Completed() | Abandoned():
            raise IllegalEvent(state, event)
        case _:
            assert_never(state)


def _selecting(state: Selecting, event: Event) -> Step:
    match event:
        case CheckedIn(count, at_s):
            accepted = min(count, state.facts.cohort_target - state.accepted)
            admit = Admit(accepted, count - accepted)
            after = replace(state, accepted=state.accepted + accepted)
            if after.accepted < state.facts.cohort_target:
                return after, (admit,)
            following, effects = _close_selection(after, at_s)
            return following, (admit, *effects)
        case Lost(count, _):
            return replace(state, accepted=max(0, state.accepted - count)), ()
        case DeadlinePassed(at_s):
            if state.accepted < state.facts.minimum_reports:
                return _abandon(state.facts, AbandonReason.TOO_FEW_CHECK_INS)
            return _close_selection(state, at_s)
        case Failed(reason):
            return _abandon(state.facts, reason)
        case _:
            raise IllegalEvent(state, event)


def _close_selection(state: Selecting, at_s: float) -> Step:
    deadline_s = at_s + state.facts.reporting_s
    following = Configuring(facts=state.facts, cohort=state.accepted, deadline_s=deadline_s)
    return following, (SetTimer(deadline_s), Configure())


def _configuring(state: Configuring, event: Event) -> Step:
    match event:
        case CheckedIn(count, _):
            return state, (Admit(0, count),)
        case Configured(cohort, _):
            if cohort < state.facts.minimum_reports:
                return _abandon(state.facts, AbandonReason.KEY_PHASE_FAILED)
            return Collecting(facts=state.facts, cohort=cohort, deadline_s=state.deadline_s), ()
        case Lost(count, _):
            left = state.cohort - count
            if left < state.facts.minimum_reports:
                return _abandon(state.facts, AbandonReason.KEY_PHASE_FAILED)
            return replace(state, cohort=left), ()
        case DeadlinePassed():
            return _abandon(state.facts, AbandonReason.KEY_PHASE_FAILED)
        case Failed(reason):
            return _abandon(state.facts, reason)
        case _:
            raise IllegalEvent(state, event)


def _collecting(state: Collecting, event: Event) -> Step:
    match event:
        case CheckedIn(count, _):
            return state, (Admit(0, count),)
        case Reported(count, _):
            accepted = min(count, state.facts.report_goal - state.reported)
            take = TakeReports(accepted, count - accepted)
            after = replace(state, reported=state.reported + accepted)
            if after.reported < state.facts.report_goal and after.reported + after.lost < after.cohort:
                return after, (take,)
            following, effects = _close_collection(after)
            return following, (take, *effects)
        case Lost(count, _):
            after = replace(state, lost=min(state.cohort - state.reported, state.lost + count))
            return (after, ()) if after.reported + after.lost < after.cohort else _close_collection(after)
        case DeadlinePassed():
            return _close_collection(state)
        case Failed(reason):
            return _abandon(state.facts, reason)
        case _:
            raise IllegalEvent(state, event)


def _close_collection(state: Collecting) -> Step:
    if state.reported < state.facts.minimum_survivors:
        secure = state.facts.secure
        return _abandon(state.facts, AbandonReason.TOO_FEW_SURVIVORS if secure else AbandonReason.TOO_FEW_REPORTS)
    return Aggregating(facts=state.facts, reported=state.reported), (CommitCharge(),)


def _aggregating(state: Aggregating, event: Event) -> Step:
    match event:
        case CheckedIn(count, _):
            return state, (Admit(0, count),)
        case Reported(count, _):
            return state, (TakeReports(0, count),)
        case Lost():
            return state, ()
        case Charged():
            if state.charged:
                raise IllegalEvent(state, event)
            return replace(state, charged=True), (Reveal(),)
        case Committed():
            if not state.charged:
                raise IllegalEvent(state, event)
            return Completed(facts=state.facts, reported=state.reported), (Publish(),)
        case Failed(reason):
            return Abandoned(facts=state.facts, reason=reason, leaf_used=state.charged), (Discard(reason),)
        case _:
            raise IllegalEvent(state, event)


def _abandon(facts: RoundFacts, reason: AbandonReason) -> Step:
    return Abandoned(facts=facts, reason=reason, leaf_used=False), (Discard(reason),)
