"""Runs, rounds and costs of the domain as bodies of the API."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from contract import task
from privacy import accounting
from privacy.ledger.spending import counted
from privacy.report import PrivacySummary, Standing, price_of, summarize
from server.budgets import BudgetGuard
from server.jobs import Job
from server.recorder import planned_claims
from server.rest import bodies
from server.rest.services import Services
from server.store.values import Round, Run
from server.tasks import PreparedTask


def run_body(run: Run, job: Job | None) -> bodies.RunBody:
    """One line of a list."""
    return bodies.RunBody(**_run_facts(run, job))


def run_detail(services: Services, run: Run) -> bodies.RunDetail:
    """A run with everything about it."""
    rounds = services.store.rounds(run.id)
    committed = [row for row in rounds if row.state == "committed"]
    return bodies.RunDetail(
        **_run_facts(run, services.jobs.of(run.id)),
        spec=task.to_mapping(run.spec),
        settings=dict(run.settings),
        abandoned=sum(row.state == "abandoned" for row in rounds),
        model_digest=committed[-1].model_digest or "" if committed else services.store.model(run.id, 0).digest,
        metrics=finite(committed[-1].facts) if committed else {},
        privacy=privacy_body(spent(services, run)),
    )


def spent(services: Services, run: Run) -> PrivacySummary:
    """What a run has spent, recomputed from its entries."""
    standing = Standing()
    for entry in services.store.entries(run=run.id):
        standing.take(entry.body)
    return _summary(*standing.bodies)


def privacy_body(summary: PrivacySummary) -> bodies.PrivacyBody:
    """A summary as the API tells it."""
    return bodies.PrivacyBody(**summary.to_json())


def round_body(row: Round) -> bodies.RoundBody:
    """One attempt at a round."""
    return bodies.RoundBody(
        round=row.index, leaf=row.leaf, state=row.state, reason=row.reason, reported=row.reported, charge_entry=row.charge_entry,
        outcome_entry=row.outcome_entry, model_digest=row.model_digest, facts=without_infinities(row.facts),
    )  # fmt: skip


def sessions_body(rounds: Sequence[Round]) -> bodies.SessionsBody:
    """How the sessions of these rounds went, the most frequent first."""
    shapes, refused, reasons = Counter[str](), Counter[str](), dict[str, Counter[str]]()
    for row in rounds:
        shapes.update(row.facts.get("shapes", {}))
        refused.update(row.facts.get("refused", {}))
        for shape, counts in row.facts.get("reasons", {}).items():
            reasons.setdefault(shape, Counter()).update(counts)
    return bodies.SessionsBody(
        shapes=dict(shapes.most_common()),
        reasons={shape: dict(counts.most_common()) for shape, counts in reasons.items()},
        refused=dict(refused.most_common()),
    )


def cost_answer(services: Services, prepared: PreparedTask, *, run: str | None) -> bodies.CostAnswer:
    """What all rounds of a task cost, and whether its population's budget has room for them.

    Args:
      run: whose rounds they are, if some of them are charged already.
    """
    spec = prepared.spec
    claims = planned_claims(prepared.mechanism, spec)
    priced = _price(json.dumps(claims["event"]), spec.privacy.delta)
    colluding = _price(json.dumps(claims["colluding"]), spec.privacy.delta) if "colluding" in claims else None
    guard = BudgetGuard(services.store.ledger, population=spec.population, run=run)
    after = guard.statement(counted(claims), delta=spec.privacy.delta)
    told = accounting.to_json(priced) if priced is not None else {}
    nothing = {"rho": None, "epsilon": None, "delta": spec.privacy.delta, "conversion": None, "unit": "device"}
    return bodies.CostAnswer.model_validate(
        {
            "rounds": spec.rounds,
            "colluding_epsilon": None if colluding is None else colluding.epsilon,
            "population_epsilon": after.after,
            "fits": after.fits,
            "mechanism": spec.privacy.mechanism,
            "noise_multiplier": spec.privacy.noise_multiplier,
            "adjacency": "zero-out",
            "epsilons": {"generic": None, "exact": None},
            **nothing,
            **told,
        }
    )


def finite(facts: Mapping[str, Any]) -> dict[str, float]:
    """The numbers of `facts` that JSON can hold.

    >>> finite({"loss": float("nan"), "accuracy": 0.5, "name": "x"})
    {'accuracy': 0.5}
    """
    numbers = {name: float(value) for name, value in facts.items() if isinstance(value, int | float)}
    return {name: value for name, value in numbers.items() if abs(value) < float("inf")}


def without_infinities(facts: Any) -> Any:
    """`facts` with null where JSON has no number.

    >>> without_infinities({"a": [float("inf"), 1]})
    {'a': [None, 1]}
    """
    if isinstance(facts, float):
        return facts if abs(facts) < float("inf") else None
    if isinstance(facts, Mapping):
        return {str(name): without_infinities(value) for name, value in facts.items()}  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType] - JSON of any shape
    if isinstance(facts, list | tuple):
        return [without_infinities(value) for value in facts]  # pyright: ignore[reportUnknownVariableType] - JSON of any shape
    return facts


def _run_facts(run: Run, job: Job | None) -> dict[str, Any]:
    told = (
        None
        if job is None
        else {"state": job.state.value, "attempts": job.attempts, "problem": job.problem, "detail": job.detail}
    )
    return {
        "run": run.id, "task": run.spec.name, "task_digest": run.spec.digest, "population": run.spec.population,
        "state": run.state.value, "rounds": run.next_leaf, "planned": run.spec.rounds, "started": run.created_at, "job": told,
    }  # fmt: skip


@lru_cache(maxsize=2000)
def _summary(*bodies: bytes) -> PrivacySummary:
    return summarize(bodies)


@lru_cache(maxsize=500)
def _price(event: str, delta: float | None) -> accounting.Price | None:
    return price_of(json.loads(event), delta)
