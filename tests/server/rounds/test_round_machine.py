"""The round machine: every (state, event) pair, and the promises that hold along any path."""

import itertools
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from server.rounds import machine
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
    Configured,
    Configuring,
    DeadlinePassed,
    Discard,
    Event,
    Failed,
    Lost,
    Publish,
    Reported,
    Reveal,
    RoundFacts,
    Selecting,
    State,
    TakeReports,
)

FACTS = RoundFacts(
    index=3, leaf=2, attempt=0, report_goal=4, cohort_target=5, minimum_reports=3, minimum_survivors=3, reporting_s=60.0
)
STATES: list[State] = [
    Selecting(facts=FACTS, deadline_s=10.0),
    Configuring(facts=FACTS, cohort=5, deadline_s=70.0),
    Collecting(facts=FACTS, cohort=5, deadline_s=70.0),
    Aggregating(facts=FACTS, reported=4),
    Aggregating(facts=FACTS, reported=4, charged=True),
    Completed(facts=FACTS, reported=4),
    Abandoned(facts=FACTS, reason=AbandonReason.CANCELLED, leaf_used=False),
]
EVENTS: list[Event] = [
    CheckedIn(1, 1.0),
    DeadlinePassed(10.0),
    Configured(5, 2.0),
    Reported(1, 3.0),
    Lost(1, 3.0),
    Charged(),
    Committed(),
    Failed(AbandonReason.INTERNAL),
]


@pytest.mark.parametrize(("state", "event"), list(itertools.product(STATES, EVENTS)))
def test_every_pair_is_legal_or_refused(state: State, event: Event) -> None:
    legal = type(event) in machine.LEGAL[type(state)]
    twice = isinstance(event, Charged) and isinstance(state, Aggregating) and state.charged
    early = isinstance(event, Committed) and isinstance(state, Aggregating) and not state.charged
    if legal and not twice and not early:
        following, effects = machine.step(state, event)
        assert following.facts is FACTS
        assert isinstance(effects, tuple)
    else:
        with pytest.raises(machine.IllegalEvent):
            machine.step(state, event)


def test_the_first_devices_are_admitted_and_the_rest_turned_away() -> None:
    following, effects = machine.step(Selecting(facts=FACTS, deadline_s=10.0, accepted=3), CheckedIn(9, 1.0))
    assert effects[0] == Admit(2, 7)
    assert isinstance(following, Configuring)
    assert following.cohort == 5


def test_reports_beyond_the_goal_are_late() -> None:
    following, effects = machine.step(Collecting(facts=FACTS, cohort=5, deadline_s=70.0, reported=3), Reported(2, 5.0))
    assert effects == (TakeReports(1, 1), CommitCharge())
    assert following == Aggregating(facts=FACTS, reported=4)


@pytest.mark.parametrize(("reported", "outcome"), [(2, Abandoned), (3, Aggregating)])
def test_the_deadline_decides_by_the_minimum(reported: int, outcome: type[State]) -> None:
    following, _ = machine.step(Collecting(facts=FACTS, cohort=5, deadline_s=70.0, reported=reported), DeadlinePassed(70.0))
    assert isinstance(following, outcome)


def test_a_round_ends_early_once_all_others_are_lost() -> None:
    following, effects = machine.step(Collecting(facts=FACTS, cohort=5, deadline_s=70.0, reported=3, lost=1), Lost(1, 9.0))
    assert isinstance(following, Aggregating)
    assert effects == (CommitCharge(),)


def test_a_leaf_is_used_up_only_after_its_charge() -> None:
    before, _ = machine.step(Aggregating(facts=FACTS, reported=4), Failed(AbandonReason.INTERNAL))
    after, _ = machine.step(Aggregating(facts=FACTS, reported=4, charged=True), Failed(AbandonReason.INTERNAL))
    assert (before, after) == (
        Abandoned(facts=FACTS, reason=AbandonReason.INTERNAL, leaf_used=False),
        Abandoned(facts=FACTS, reason=AbandonReason.INTERNAL, leaf_used=True),
    )


def _events() -> st.SearchStrategy[Event]:
    counts, times = st.integers(1, 6), st.floats(0, 100)
    build: list[st.SearchStrategy[Event]] = [
        st.builds(CheckedIn, counts, times),
        st.builds(DeadlinePassed, times),
        st.builds(Configured, counts, times),
        st.builds(Reported, counts, times),
        st.builds(Lost, counts, times),
        st.just(Charged()),
        st.just(Committed()),
        st.builds(Failed, st.sampled_from(AbandonReason)),
    ]
    return st.one_of(*build)


@settings(max_examples=300, deadline=None)
@given(st.lists(_events(), max_size=40))
def test_nothing_is_revealed_before_the_charge_on_any_path(path: list[Event]) -> None:
    state, _ = machine.begin(FACTS, at_s=0.0, selection_s=10.0)
    charged = revealed = False
    for event in path:
        try:
            state, effects = machine.step(state, event)
        except machine.IllegalEvent:
            continue
        charged = charged or isinstance(event, Charged)
        revealed = revealed or any(isinstance(effect, Reveal) for effect in effects)
        assert charged or not revealed
        assert not any(isinstance(effect, Publish) for effect in effects) or (charged and isinstance(event, Committed))
        assert not (isinstance(state, Collecting | Aggregating | Completed) and state.reported > FACTS.report_goal)
        if isinstance(state, Abandoned):
            assert any(isinstance(effect, Discard) for effect in effects)
            assert state.leaf_used == charged
            return


def test_every_legal_event_is_reachable() -> None:
    seen: Callable[[type[State]], set[type[Event]]] = lambda kind: {type(event) for event in EVENTS} & machine.LEGAL[kind]  # noqa: E731
    assert all(seen(type(state)) == set(machine.LEGAL[type(state)]) for state in STATES)
