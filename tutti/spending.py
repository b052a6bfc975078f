"""What a run has spent after each of its rounds, for their rows and for whoever watches."""

from privacy.report import Standing, spent
from server.store.store import Store
from server.store.values import Run


class Spending:
    """Reads a run's entries as they come; costs milliseconds a round, however many there were.

    Guarantee: says what `privacy.report.summarize` says of all entries at that time, as lists, pages and reports do.
    """

    def __init__(self, database: Store, run: Run) -> None:
        self._ledger, self._run = database.ledger, run.id
        self._standing, self._next = Standing(), 0

    def now(self) -> dict[str, float | None]:
        """rho and epsilon over all outcomes so far; None where there is no line, or no bound."""
        for entry in self._ledger.entries(run=self._run, start=self._next):
            self._standing.take(entry.body)
            self._next = entry.index + 1
        price = spent(self._standing.bodies)
        return {"rho": None if price is None else price.rho, "epsilon": None if price is None else price.epsilon}
