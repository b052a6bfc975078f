"""The few lines that come first: mechanism, rho, epsilon with its delta and conversion, unit, adjacency, tier, and what is not covered."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from privacy import accounting, events
from privacy.report import assumptions, cost, run_record
from privacy.report.report import first_lines
from privacy.report.tiers import tier

__all__ = ["PrivacySummary", "price_of", "spent", "summarize", "tier"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PrivacySummary:
    """`epsilon` and `rho` are None where unbounded or where the curve is no line; `first_lines` come first in every report."""

    mechanism: str
    rho: float | None
    epsilon: float | None
    delta: float | None
    conversion: str | None
    epsilons: dict[str, float | None]
    unit: str
    adjacency: str
    tier: str
    first_lines: tuple[str, ...]
    open_round: int | None = None
    """The round that is charged and has no outcome yet: it counts at its worst case."""

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values; every key is always there."""
        return {
            "mechanism": self.mechanism,
            "rho": self.rho,
            "epsilon": self.epsilon,
            "delta": self.delta,
            "conversion": self.conversion,
            "epsilons": self.epsilons,
            "unit": self.unit,
            "adjacency": self.adjacency,
            "tier": self.tier,
            "first_lines": list(self.first_lines),
            "open_round": self.open_round,
        }


def summarize(bodies: Sequence[bytes], *, violated: Sequence[str] = ()) -> PrivacySummary:
    """The summary of one run from the bodies of its entries, in order.

    Guarantee: every number follows from the entries; the last charge counts, whether or not its round had an outcome, the run's own looks
    at private statistics count with it, and an assumption that was measured and did not hold is priced as it was measured.

    Args:
      violated: further assumptions that this run was found to violate, in words.

    Raises:
      ValueError: if the entries are not those of one run.
    """
    record = run_record.read(bodies)
    whole = cost.of(record, record.event)
    price, lines = whole.price, first_lines(record, assumptions.assumptions(record), whole)
    at = next((place for place, line in enumerate(lines) if line.startswith("Not covered")), len(lines))
    return PrivacySummary(
        mechanism=record.task["privacy"]["mechanism"],
        rho=price.rho if price else None,
        epsilon=price.epsilon if price else None,
        delta=record.delta,
        conversion=price.conversion if price else None,
        epsilons=dict(price.epsilons) if price else {"generic": None, "exact": None},
        unit=record.registered["facts"]["unit"],
        adjacency=record.registered["facts"]["adjacency"],
        tier=tier(price.epsilon if price else None),
        first_lines=(*lines[:at], *(f"VIOLATED: {name}." for name in violated), *lines[at:]),
        open_round=record.open_round,
    )


def spent(bodies: Sequence[bytes]) -> accounting.Price | None:
    """The price that `summarize` tells of the same entries, without the rest; None where nothing is promised.

    Raises:
      ValueError: if the entries are not those of one run.
    """
    record = run_record.read(bodies)
    return cost.of(record, record.event).price


def price_of(event: Mapping[str, Any] | None, delta: float | None) -> accounting.Price | None:
    """The price of an event as an entry holds it; None where nothing is promised."""
    if event is None or delta is None:
        return None
    priced = accounting.price(events.from_json(event), delta)
    return priced if priced.bounded else None
