"""Budgets as the API tells them: what a population may spend, and what its runs together have spent, recomputed from entries."""

import json

from privacy.ledger.entries import EntryKind
from server import budgets
from server.budgets import Budget
from server.rest import bodies
from server.rest.services import Services
from server.tokens import Principal


def populations(services: Services) -> set[str]:
    """Every population whose budget was ever set."""
    changes = services.store.ledger.entries(kind=EntryKind.BUDGET_SET.value)
    return {str(json.loads(entry.body)["population"]) for entry in changes}


def budget(services: Services, population: str) -> bodies.BudgetBody:
    """Budget and spending of one population; what is unbounded is null."""
    tasks = services.store.lists.tasks(populations={population})
    delta = max((tally.spec.privacy.delta for tally in tasks if tally.spec.privacy.delta is not None), default=None)
    found = services.spendings.statement(population, delta=delta)
    limit = found.budget
    left = None if limit is None or found.spent is None else max(0.0, limit.epsilon - found.spent)
    return bodies.BudgetBody(
        population=population,
        budget_epsilon=None if limit is None else limit.epsilon,
        delta=found.delta,
        spent_epsilon=found.spent,
        remaining_epsilon=left,
        obstacle=found.obstacle,
        runs=sum(tally.runs for tally in tasks),
        approval_required=services.policies.approval_required(population),
    )


def change(services: Services, principal: Principal, population: str, body: bodies.BudgetChange) -> None:
    """Puts a new budget on the record."""
    limit = Budget(epsilon=body.epsilon, delta=body.delta)
    budgets.set_budget(services.store.ledger, population, limit, reason=body.reason, by=f"token {principal.id}")
