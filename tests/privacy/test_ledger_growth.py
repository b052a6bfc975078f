"""A cumulative event only grows: nothing of it gets cheaper from entry to entry, in either claim."""

import dataclasses
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contract import canonical
from privacy import accounting, events
from privacy.events import BandedEvent, BltEvent, DistributedEvent, Event, GaussianEvent, TreeEvent
from privacy.ledger import entries, forms, growth
from privacy.ledger.history import History
from privacy.ledger.problems import ProblemKind
from privacy.ledger.spending import Spending, counted, epsilon_of

FACTS: dict[str, canonical.Json] = {"unit": "device", "adjacency": "zero-out", "not_covered": [], "start_digest": "start"}
SECURE: dict[str, canonical.Json] = {
    "name": "t", "privacy": {"mechanism": "skellam", "delta": "0.000001"}, "cohort": {"report_goal": 20},
    "aggregation": {"secure": True, "corrupt_fraction": "0.05"},
}  # fmt: skip


def story(
    task: dict[str, canonical.Json],
    planned: Event,
    told: list[Event],
    *,
    planned_colluding: Event | None = None,
    colluding: list[Event] | None = None,
) -> list[bytes]:
    digest = canonical.digest(task)
    run = canonical.digest({"task": digest, "ordinal": 0})
    second = {} if planned_colluding is None else {"planned_colluding": events.to_json(planned_colluding)}
    bodies = [
        entries.run_registered(
            population="p", run=run, task=task, task_digest=digest, code_digest="c", planned=events.to_json(planned), seeded=(),
            facts={**FACTS, **second},
        )
    ]  # fmt: skip
    for number, event in enumerate(told):
        at: dict[str, Any] = {
            "population": "p",
            "run": run,
            "round_index": number,
            "leaf": number,
            "event": events.to_json(event),
        }
        if colluding is not None:
            at["colluding"] = events.to_json(colluding[number])
        bodies.append(entries.round_charged(**at, floor=16))
        bodies.append(entries.round_committed(**at, reported=16, model_digest=f"m{number}"))
    return bodies


def problems(bodies: list[bytes]) -> set[ProblemKind]:
    history = History()
    for index, body in enumerate(bodies):
        history.add(index, forms.read(body))
    return {problem.kind for problem in history.problems}


CENTRAL: dict[str, canonical.Json] = {"name": "t", "privacy": {"mechanism": "banded", "delta": "0.000001"}}


def banded(leaves: int, **changes: Any) -> BandedEvent:
    return BandedEvent(
        **{"noise_multiplier": 1.0, "leaves": leaves, "bands": 1, "draws": 8 * leaves, "distance_log2": -115} | changes
    )


def blt(leaves: int, **changes: Any) -> BltEvent:
    given: dict[str, Any] = {"noise_multiplier": 1.0, "leaves": leaves, "buf_decay": (0.5,), "output_scale": (0.5,)}
    return BltEvent(**{**given, "numerical_inflation": 0.5, **changes})


@pytest.mark.parametrize(
    ("planned", "told", "found"),
    [
        (banded(3), [banded(1), banded(2), banded(3)], set()),
        (banded(3), [banded(1), banded(2), banded(3, column_norm_squared=1e-9)], {ProblemKind.MECHANISM_CHANGED}),
        (banded(3), [banded(1), banded(2), banded(3, distance_log2=-200)], {ProblemKind.MECHANISM_CHANGED}),
        (banded(3), [banded(1), banded(2), banded(3, draws=0)], {ProblemKind.UNDERCHARGED}),
        (banded(3), [banded(1), banded(3), banded(2)], {ProblemKind.UNDERCHARGED}),
        (blt(3), [blt(1), blt(2), blt(3, numerical_inflation=0.0)], {ProblemKind.MECHANISM_CHANGED}),
        (blt(3), [blt(1), blt(2), blt(3, output_scale=(0.25,))], {ProblemKind.MECHANISM_CHANGED}),
    ],
)
def test_cumulative_event_never_gets_cheaper(planned: Event, told: list[Event], found: set[ProblemKind]) -> None:
    assert problems(story(CENTRAL, planned, told)) == found


def skellam(*contributors: int, **changes: Any) -> DistributedEvent:
    given: dict[str, Any] = {"mechanism": "skellam", "dimension": 8, "squared_norm": 100, "local_sigma": 4.0}
    return DistributedEvent(**given | {"contributors": contributors, "participations": len(contributors)} | changes)


def test_both_claims_of_an_honest_run_verify() -> None:
    bodies = story(
        SECURE, skellam(16, 16), [skellam(16), skellam(16, 16)],
        planned_colluding=skellam(15, 15), colluding=[skellam(15), skellam(15, 15)],
    )  # fmt: skip
    assert problems(bodies) == set()


@pytest.mark.parametrize(
    ("planned_colluding", "colluding", "found"),
    [
        (skellam(15, 15), [skellam(15), skellam(15, 15, local_sigma=4e3)], ProblemKind.MECHANISM_CHANGED),
        (skellam(15, 15), [skellam(15), skellam(15)], ProblemKind.UNDERCHARGED),
        (skellam(15, 15), [skellam(15), skellam(16, 16)], ProblemKind.UNDERCHARGED),
        (skellam(15, 15, squared_norm=1), [skellam(15, squared_norm=1)] * 2, ProblemKind.UNDERCHARGED),
        (None, [skellam(15), skellam(15, 15)], ProblemKind.MECHANISM_CHANGED),
        (None, None, ProblemKind.UNDERCHARGED),
        (skellam(15, 15), None, ProblemKind.UNDERCHARGED),
    ],
    ids=[
        "less noise told",
        "a release left out",
        "corrupt noise counted",
        "cheap from the start",
        "unregistered",
        "none",
        "left out",
    ],
)
def test_claim_against_a_colluding_server_is_bound_like_the_other(
    planned_colluding: Event | None, colluding: list[Event] | None, found: ProblemKind
) -> None:
    bodies = story(
        SECURE, skellam(16, 16), [skellam(16), skellam(16, 16)], planned_colluding=planned_colluding, colluding=colluding
    )
    assert found in problems(bodies)


def test_central_run_makes_no_second_claim() -> None:
    cheap = GaussianEvent(noise_multiplier=1000.0, releases=1)
    told: list[Event] = [GaussianEvent(noise_multiplier=0.2, releases=1)]
    assert problems(story(CENTRAL, told[0], told, colluding=[cheap])) == {ProblemKind.MECHANISM_CHANGED}


def test_budget_counts_the_dearer_of_two_claims_that_cannot_be_compared() -> None:
    dear, cheap = GaussianEvent(noise_multiplier=0.2, releases=1), GaussianEvent(noise_multiplier=1000.0, releases=1)
    spent = Spending("p")
    for index, body in enumerate(story(CENTRAL, dear, [dear], colluding=[cheap])):
        spent.take(index, forms.read(body))
    assert epsilon_of(spent.events(), delta=1e-6) >= accounting.price(dear, 1e-6).epsilon
    assert counted({"event": events.to_json(dear), "colluding": None}) == events.to_json(dear)
    assert counted({"event": events.to_json(cheap), "colluding": {"kind": "magic"}}) == {"kind": "magic"}


@st.composite
def pairs(draw: st.DrawFn) -> tuple[Event, Event]:
    """An event, and one that has grown from it."""
    few, more = sorted((draw(st.integers(1, 9)), draw(st.integers(1, 9))))
    schedule: dict[str, Any] = {
        "noise_multiplier": draw(st.sampled_from([0.5, 2.0])), "minimum_separation": draw(st.integers(0, 3)),
        "max_participations": draw(st.sampled_from([None, 1, 2])),
    }  # fmt: skip
    drawn = [{"draws": draw(st.integers(0, 5)), "distance_log2": -40}, {"draws": draw(st.integers(5, 9)), "distance_log2": -40}]
    match draw(st.sampled_from(["tree", "gaussian", "banded", "blt", "skellam"])):
        case "tree":
            kind: Any = TreeEvent(leaves=few, restart_every=draw(st.sampled_from([None, 2])), **schedule, **drawn[0])
            return kind, dataclasses.replace(kind, leaves=more, **drawn[1])
        case "gaussian":
            kind = GaussianEvent(releases=few, **schedule, **drawn[0])
            return kind, dataclasses.replace(kind, releases=more, **drawn[1])
        case "banded":
            kind = BandedEvent(leaves=few, bands=1, **schedule, **drawn[0])
            return kind, dataclasses.replace(kind, leaves=more, **drawn[1])
        case "blt":
            kind = BltEvent(leaves=few, buf_decay=(0.5,), output_scale=(0.5,), **schedule, **drawn[0])
            return kind, dataclasses.replace(kind, leaves=more, **drawn[1])
        case _:
            fewer = draw(st.lists(st.integers(1, 20), min_size=1, max_size=3))
            added = draw(st.lists(st.integers(1, 20), max_size=2))
            lower = [max(1, one - draw(st.integers(0, 3))) for one in fewer]
            return skellam(*fewer), skellam(*lower, *added)


@settings(max_examples=150, deadline=None)
@given(pair=pairs())
def test_event_that_has_grown_costs_no_less(pair: tuple[Event, Event]) -> None:
    small, large = (events.to_json(event) for event in pair)
    assert growth.covers(large, small)
    assert large == small or not growth.covers(small, large)
    before, after = (accounting.price(event, 1e-6) for event in pair)
    assert after.epsilon >= before.epsilon * (1 - 1e-12)
    assert before.rho is None or (after.rho is not None and after.rho >= before.rho)
