"""What populations have spent, kept up to date entry by entry."""

import threading

from server.budgets import BudgetGuard, Statement
from server.store.ledger import Ledger


class Spendings:
    """What each population has spent; entries are read once and then only the new ones."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger, self._lock = ledger, threading.Lock()
        self._guards: dict[str, BudgetGuard] = {}

    def statement(self, population: str, *, delta: float | None) -> Statement:
        """Budget and spending of a population; `delta` where it has no budget."""
        with self._lock:
            guard = self._guards.get(population)
            if guard is None:
                guard = self._guards[population] = BudgetGuard(self._ledger, population=population)
            return guard.statement(None, delta=delta)
