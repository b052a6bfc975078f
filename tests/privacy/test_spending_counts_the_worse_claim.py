"""Budgets count what a task really relies on: where corrupt devices give their noise away, the claim without it."""

import json

import pytest

from contract import canonical
from privacy import events
from privacy.ledger import entries
from privacy.ledger.spending import Spending, counted, epsilon_of
from privacy.report import population_report


def claim(noise: float) -> dict[str, canonical.Json]:
    return dict(events.to_json(events.GaussianEvent(noise_multiplier=noise, releases=3)))


def test_the_colluding_claim_is_counted_where_a_round_makes_one() -> None:
    spent = Spending("p")
    body = entries.round_charged(
        population="p", run="r", round_index=0, leaf=0, event=claim(4.0), colluding=claim(3.0), floor=10
    )
    spent.take(0, json.loads(body))
    alone = [epsilon_of([events.from_json(claim(noise))], delta=1e-6) for noise in (4.0, 3.0)]
    assert epsilon_of(spent.events(), delta=1e-6) == pytest.approx(alone[1])
    assert alone[1] > alone[0]
    assert counted({"event": claim(4.0)}) == claim(4.0)


def test_the_plan_of_a_run_is_counted_by_its_worse_claim_too() -> None:
    spent = Spending("p")
    facts: dict[str, canonical.Json] = {
        "unit": "device", "adjacency": "zero-out", "not_covered": [], "start_digest": "s", "planned_colluding": claim(3.0)
    }  # fmt: skip
    task: dict[str, canonical.Json] = {"name": "t", "privacy": {"mechanism": "gaussian", "delta": "0.000001"}}
    body = entries.run_registered(
        population="p", run="r", task=task, task_digest="d", code_digest="c", planned=claim(4.0), seeded=(), facts=facts
    )
    spent.take(0, json.loads(body))
    assert spent.planned["r"] == claim(3.0)
    charge = entries.round_charged(
        population="p", run="r", round_index=0, leaf=0, event=claim(4.0), colluding=claim(3.0), floor=10
    )
    report = population_report([body, charge], "p")
    assert report["joint"]["epsilon"] > report["runs"][0]["guarantee"]["epsilon"]
    assert "corrupt devices" in report["joint"]["claim"]
