"""What a population has spent, read from entries: the latest cumulative event of each run, and every tuned parameter's own.

Where a round makes two claims, the one against a server that some devices give their noise to counts: a task that names a corrupt
fraction does not count on those devices' noise, so its budget may not either.

A run is counted as it was, not as it was planned (`measured`): noise from a known seed, or a violation that no price covers, leaves its
population without any bound.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from contract.canonical import Json, decimal_of
from privacy import accounting, events
from privacy.events import Adjacency, Event, UnboundedEvent, Unit, simple
from privacy.ledger import growth, measured
from privacy.ledger.entries import EntryKind

_DELTAS = (1e-4, 1e-6, 1e-9, 1e-12)
"""At which two claims are compared that no theorem orders."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """What all accesses to a population's data together may cost.

    >>> Budget(epsilon=8.0, delta=1e-6).to_json()
    {'epsilon': '8', 'delta': '0.000001', 'unit': 'device', 'adjacency': 'zero-out'}
    """

    epsilon: float
    delta: float
    unit: Unit = Unit.DEVICE
    adjacency: Adjacency = Adjacency.ZERO_OUT

    def __post_init__(self) -> None:
        if not 0 <= self.epsilon < float("inf"):
            raise ValueError(f"a budget's epsilon must be finite and not negative, not {self.epsilon}")
        if not 0 < self.delta < 1:
            raise ValueError(f"a budget's delta must lie strictly between 0 and 1, not {self.delta}")

    def to_json(self) -> dict[str, Json]:
        """As a `budget-set` entry holds it."""
        return {
            "epsilon": decimal_of(self.epsilon), "delta": decimal_of(self.delta), "unit": self.unit.value,
            "adjacency": self.adjacency.value,
        }  # fmt: skip

    @classmethod
    def from_json(cls, facts: Mapping[str, Any]) -> "Budget":
        """The budget that `to_json` wrote."""
        return cls(
            epsilon=float(facts["epsilon"]),
            delta=float(facts["delta"]),
            unit=Unit(facts["unit"]),
            adjacency=Adjacency(facts["adjacency"]),
        )


class Spending:
    """The spending of one population, after the entries that it was shown in order."""

    def __init__(self, population: str) -> None:
        self.population = population
        self.budget: Budget | None = None
        self.next_index = 0
        self.planned: dict[str, Mapping[str, Any]] = {}
        self._runs: dict[str, Mapping[str, Any]] = {}
        self._accesses: list[Event] = []
        self._registered: dict[str, Mapping[str, Any]] = {}
        self._checked: dict[str, list[Mapping[str, Any]]] = {}

    def take(self, index: int, facts: Mapping[str, Any]) -> None:
        """The next entry; those of other populations do not matter."""
        self.next_index = index + 1
        if facts["population"] != self.population:
            return
        kind, run = facts["kind"], facts.get("run")
        if kind == EntryKind.BUDGET_SET.value:
            self.budget = None if facts["budget"] is None else Budget.from_json(facts["budget"])
        elif kind == EntryKind.PARAMETER_TUNED.value and "covered_by" in facts:
            return  # a function of sums whose event is counted with its run
        elif kind == EntryKind.PARAMETER_TUNED.value:
            self._accesses.append(measured.look(facts))
        elif kind == EntryKind.RUN_REGISTERED.value:
            self.planned[str(run)] = counted({"event": facts["planned"], "colluding": facts["facts"].get("planned_colluding")})
            self._registered[str(run)] = facts
        elif kind == EntryKind.ASSUMPTION_CHECKED.value:
            self._checked.setdefault(str(run), []).append(facts)
        elif "event" in facts:
            self._runs[str(run)] = counted(facts)

    @property
    def runs(self) -> int:
        """Runs that have been charged."""
        return len(self._runs)

    def events(self, *, instead: Mapping[str, Mapping[str, Any]] | None = None) -> list[Event]:
        """Everything that was charged, each run by its latest event, or by the one given for it."""
        latest = {**self._runs, **(instead or {})}
        return [*(self._actual(run, event) for run, event in latest.items()), *self._accesses]

    @property
    def unbounded(self) -> str | None:
        """What leaves the population without any bound, each with its reason; None where there is no such thing."""
        runs = [(f"run {run[:12]}: ", self._actual(run, event)) for run, event in self._runs.items()]
        looks = [("", event) for event in self._accesses]
        found = [
            f"{whose}{part.reason}"
            for whose, event in (*runs, *looks)
            for part in simple([event])
            if isinstance(part, UnboundedEvent)
        ]
        return "; ".join(dict.fromkeys(found)) or None

    def others(self, run: str | None) -> tuple[Any, ...]:
        """Changes whenever anything but `run` spends, or the budget does."""
        rest = tuple((name, tuple(sorted(map(str, event.items())))) for name, event in self._runs.items() if name != run)
        return (*rest, len(self._accesses), sum(map(len, self._checked.values())), self.budget)

    def _actual(self, run: str, event: Mapping[str, Any]) -> Event:
        """What a run's event comes to, by what its registration says of seeds and by what was measured on it."""
        actual = measured.actual_event(event, registered=self._registered.get(run, {}), checked=self._checked.get(run, ()))
        return measured.read_event(event if actual is None else actual, of=f"run {run[:12]}")


def counted(claims: Mapping[str, Any]) -> Mapping[str, Any]:
    """Of the claims of a round, the event that a budget counts: the dearer one, which in an honest record is the colluding one.

    Where neither is the dearer at every delta that is tried, both are counted together.
    """
    event, colluding = claims["event"], claims.get("colluding")
    if colluding is None:
        return event
    read = [(one, measured.read_event(one, of="a claim")) for one in (event, colluding)]
    for one, found in read:
        if isinstance(found, UnboundedEvent):
            return one
    if growth.covers(colluding, event):
        return colluding
    prices = [[_epsilon(found, delta) for delta in _DELTAS] for _, found in read]
    for (one, _), own, other in zip(read, prices, reversed(prices), strict=True):
        if all(mine >= others for mine, others in zip(own, other, strict=True)):
            return one
    try:
        return events.to_json(events.ComposedEvent(parts=simple(found for _, found in read)))
    except ValueError as error:
        return events.to_json(UnboundedEvent(reason=f"two claims that cannot be compared: {error}"))


def _epsilon(event: Event, delta: float) -> float:
    try:
        return accounting.price(event, delta).epsilon
    except ValueError:
        return float("inf")


def epsilon_of(charged: list[Event], *, delta: float) -> float:
    """What events cost together; 0 for none, inf without a guarantee.

    Raises:
      ValueError: if they differ in unit or adjacency: then they are not added up.
    """
    if any(isinstance(event, UnboundedEvent) for event in simple(charged)):
        return float("inf")
    return accounting.price(charged, delta).epsilon if charged else 0.0
