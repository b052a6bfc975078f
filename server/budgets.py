"""Budgets per population, across tasks and accesses: a run that cannot fit is refused, a run stops before the round that would not.

Everything is recomputed from ledger entries; nothing is remembered that is not on the record.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection

from contract.canonical import decimal_up
from contract.errors import ErrorCode, TuttiError
from privacy.events import UnboundedEvent
from privacy.ledger import entries, forms, measured
from privacy.ledger.spending import Budget, Spending, counted, epsilon_of
from server.store.ledger import Ledger

__all__ = ["Budget", "BudgetGuard", "Statement", "set_budget", "spending"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """What a population has spent and what it would have spent afterwards; epsilons at `delta`, None where unbounded.

    `obstacle` says why the two cannot be compared with the budget; None if they can.
    """

    population: str
    budget: Budget | None
    delta: float
    spent: float | None
    after: float | None
    obstacle: str | None

    @property
    def fits(self) -> bool:
        """Whether the budget allows it; without a budget everything fits."""
        if self.budget is None:
            return True
        return self.obstacle is None and self.after is not None and self.after <= self.budget.epsilon

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values; every key is always there."""
        return {
            "population": self.population,
            "budget": None if self.budget is None else {"epsilon": self.budget.epsilon, "delta": self.budget.delta},
            "delta": self.delta,
            "spent_epsilon": self.spent,
            "after_epsilon": self.after,
            "fits": self.fits,
            "obstacle": self.obstacle,
        }


class BudgetGuard:
    """Stands between the runs of a population and its budget.

    Args:
      run: the run that asks; None before it is registered.
    """

    def __init__(self, ledger: Ledger, *, population: str, run: str | None = None) -> None:
        self._ledger, self._run = ledger, run
        self._spending = Spending(population)
        self._planned_fits: tuple[Any, ...] | None = None
        self._limited, self._looked = False, 0  # entries before this one set no budget unless it is limited

    def check_run(self, claims: Mapping[str, Any], *, seeded: Sequence[str] = ()) -> None:
        """Refuses a run whose planned rounds do not fit, before it is registered.

        Args:
          claims: what all its rounds would cost, as an entry holds it: `event`, and `colluding` where there is a second claim.
          seeded: what a seed fixes in it; no budget has room for noise that is known.

        Raises:
          TuttiError: BUDGET_EXCEEDED with the numbers.
        """
        if self._ever_limited():
            self._catch_up()
            planned = measured.actual_event(counted(claims), registered={"seeded": seeded}, checked=())
            self._require(counted(claims) if planned is None else planned, what="all rounds of this run")

    def check_round(self, claims: Mapping[str, Any], *, within: Connection | None = None) -> None:
        """Refuses a round whose worst case does not fit, before it is charged.

        Args:
          claims: what the run would have cost through this round, as an entry holds it.
          within: the transaction that will charge it and holds the ledger's head: nobody spends between this look and the charge.

        Raises:
          TuttiError: BUDGET_EXCEEDED with the numbers.
        """
        if not self._ever_limited(within):
            return
        self._catch_up(within)
        if self._spending.budget is None or self._whole_run_fits():
            return
        self._require(counted(claims), what="this round")

    def statement(self, event: Mapping[str, Any] | None, *, delta: float | None = None) -> Statement:
        """What has been spent, and what would have been with `event` (in place of the run's own, if it has any).

        Args:
          delta: used where there is no budget.
        """
        self._catch_up()
        return self._stated(event, delta=delta)

    def _stated(self, event: Mapping[str, Any] | None, *, delta: float | None = None) -> Statement:
        budget = self._spending.budget
        at = budget.delta if budget is not None else delta if delta is not None else 1e-6
        obstacle: str | None = None
        try:
            spent = epsilon_of(self._spending.events(), delta=at)
            charged = self._spending.events(instead={} if event is None else {self._run or "": event})
            after = epsilon_of(charged, delta=at)
            foreign = budget is not None and any(
                (item.unit, item.adjacency) != (budget.unit, budget.adjacency)
                for item in charged
                if not isinstance(item, UnboundedEvent)  # it breaks every budget by itself
            )
            if foreign:
                obstacle = "the budget is for another unit or adjacency than some of what is charged"
        except ValueError as error:
            spent = after = math.inf
            obstacle = str(error)
        return Statement(
            population=self._spending.population,
            budget=budget,
            delta=at,
            spent=_finite(spent),
            after=_finite(after),
            obstacle=obstacle,
        )

    def _require(self, event: Mapping[str, Any], *, what: str) -> None:
        found = self._stated(event)
        if found.fits or found.budget is None:
            return
        after = "no bound at all" if found.after is None else f"epsilon {decimal_up(found.after, 4)}"
        spent = "without bound" if found.spent is None else decimal_up(found.spent, 4)
        raise TuttiError(
            ErrorCode.BUDGET_EXCEEDED,
            found.obstacle
            or f"with {what} population {found.population} would cost {after} of epsilon {found.budget.epsilon:g} at delta "
            f"{found.budget.delta:g}; spent so far: {spent}{self._cure(found, event)}",
        )

    def _cure(self, found: Statement, event: Mapping[str, Any]) -> str:
        """What can be done about a population without any bound: what was revealed cannot be taken back."""
        if found.spent is None:
            return (
                f" ({self._spending.unbounded}). What was revealed stays revealed: go on with devices of another population, or lift "
                f"the budget on the record: tutti ledger budget {found.population} --lift --reason WHY"
            )
        return f" ({event['reason']})" if event["kind"] == UnboundedEvent.kind else ""

    def _ever_limited(self, within: Connection | None = None) -> bool:
        """Whether the population ever had a budget: most have none, and then a long history need not be read.

        What was looked at once is not looked at again: nothing is ever taken from a ledger, and whoever appends to it is seen here.
        """
        if not self._limited:
            kind = entries.EntryKind.BUDGET_SET.value
            found, self._looked = self._ledger.first(
                population=self._spending.population, kind=kind, start=self._looked, within=within
            )
            self._limited = found is not None
        return self._limited

    def _whole_run_fits(self) -> bool:
        """Whether all planned rounds fit, given what the others have spent; priced again only when that changes."""
        planned = None if self._run is None else self._spending.planned.get(self._run)
        if planned is None:
            return False
        others = self._spending.others(self._run)
        if self._planned_fits is not None and self._planned_fits[1:] == others:
            return bool(self._planned_fits[0])
        fits = self._stated(planned).fits
        self._planned_fits = (fits, *others)
        return fits

    def _catch_up(self, within: Connection | None = None) -> None:
        start = self._spending.next_index
        for entry in self._ledger.entries(population=self._spending.population, start=start, within=within):
            self._spending.take(entry.index, forms.read(entry.body))


def spending(ledger: Ledger, population: str) -> Spending:
    """What a population has spent so far."""
    found = Spending(population)
    for entry in ledger.entries(population=population):
        found.take(entry.index, forms.read(entry.body))
    return found


def set_budget(ledger: Ledger, population: str, budget: Budget | None, *, reason: str, by: str) -> int:
    """Puts a population's new budget on the record, or that it has none; returns the entry's index.

    Raises:
      TuttiError: ARGUMENT_INVALID without a reason.
    """
    if not reason.strip():
        raise TuttiError(ErrorCode.ARGUMENT_INVALID, "a change of budget needs a reason")
    body = entries.budget_set(
        population=population, budget=None if budget is None else budget.to_json(), reason=reason.strip(), by=by
    )
    return ledger.append(body)[0]


def _finite(epsilon: float) -> float | None:
    return epsilon if math.isfinite(epsilon) else None
