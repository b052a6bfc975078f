"""Budgets as the API tells them: what a population may spend, and what its runs together have spent, recomputed from entries."""

import json

from privacy import accounting, events
from privacy.ledger import entries
from privacy.ledger.entries import EntryKind
from server.rest import bodies
from server.rest.services import Services
from server.store.values import Run
from server.tokens import Principal

BUDGET_SET = EntryKind.BUDGET_SET.value


def populations(services: Services) -> set[str]:
    """Every population whose budget was ever set."""
    return {str(json.loads(entry.body)["population"]) for entry in services.store.ledger.entries(kind=BUDGET_SET)}


def budget(services: Services, population: str, runs: list[Run]) -> bodies.BudgetBody:
    """Budget and spending of one population. Runs without a guarantee make the spending unbounded (null)."""
    changes = list(services.store.ledger.entries(population=population, kind=BUDGET_SET))
    newest = json.loads(changes[-1].body) if changes else None
    allowed = None if newest is None else float(newest["epsilon"])
    delta = _delta(runs) if newest is None else float(newest["delta"])
    spent = _spent(services, runs, delta)
    return bodies.BudgetBody(
        population=population,
        budget_epsilon=allowed,
        delta=delta,
        spent_epsilon=spent,
        remaining_epsilon=None if allowed is None or spent is None else max(0.0, allowed - spent),
        runs=len(runs),
        approval_required=services.policies.approval_required(population),
    )


def change(services: Services, principal: Principal, population: str, body: bodies.BudgetChange) -> None:
    """Puts a new budget on the record."""
    entry = entries.budget_set(
        population=population, epsilon=body.epsilon, delta=body.delta, reason=body.reason, set_by=f"{principal.name} ({principal.id})"
    )
    services.store.ledger.append(entry)


def _delta(runs: list[Run]) -> float | None:
    return max((run.spec.privacy.delta for run in runs if run.spec.privacy.delta is not None), default=None)


def _spent(services: Services, runs: list[Run], delta: float | None) -> float | None:
    charged = [event for run in runs if (event := _last_charge(services, run.id)) is not None]
    if not charged:
        return 0.0
    if delta is None:
        return None
    try:
        price = accounting.price([events.from_json(event) for event in charged], delta)
    except ValueError:
        return None  # what differs in unit or adjacency is not added up
    return price.epsilon if price.bounded else None


def _last_charge(services: Services, run: str) -> dict[str, object] | None:
    charges = services.store.ledger.entries(run=run, kind=EntryKind.ROUND_CHARGED.value)
    newest = None
    for newest in charges:
        pass
    return None if newest is None else json.loads(newest.body)["event"]
