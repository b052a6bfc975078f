"""The few lines that come first: mechanism, rho, epsilon with its delta and conversion, unit, adjacency, tier, and what is not covered."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from privacy import accounting, events

TIER_EDGES = ((1.0, "strong (epsilon at most 1)"), (10.0, "reasonable (epsilon at most 10)"))
"""Tiers 1 and 2 of "How to DP-fy ML" (arXiv:2303.00654v3, section 5.1); tier 3 is everything beyond."""


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
        }


def summarize(bodies: Sequence[bytes], *, violated: Sequence[str] = ()) -> PrivacySummary:
    """The summary of one run from the bodies of its entries, in order.

    Guarantee: every number follows from the entries; the last committed charge counts, whether or not its round had an outcome.

    Args:
      violated: names of assumptions that this run was found to violate.

    Raises:
      ValueError: if the entries hold no registered run.
    """
    entries = [json.loads(body) for body in bodies]
    registered = next((entry for entry in entries if entry["kind"] == "run-registered"), None)
    if registered is None:
        raise ValueError("no run-registered entry among these")
    charges = [entry for entry in entries if entry["kind"] == "round-charged"]
    task = registered["task"]
    delta = float(task["privacy"]["delta"]) if task["privacy"]["delta"] else None
    seeded, not_covered = registered["seeded"], registered["facts"]["not_covered"]
    price = price_of(charges[-1]["event"] if charges else None, delta)
    return PrivacySummary(
        mechanism=task["privacy"]["mechanism"],
        rho=price.rho if price else None,
        epsilon=price.epsilon if price else None,
        delta=delta,
        conversion=price.conversion if price else None,
        epsilons=dict(price.epsilons) if price else {"generic": None, "exact": None},
        unit=registered["facts"]["unit"],
        adjacency=registered["facts"]["adjacency"],
        tier=tier(price.epsilon if price else None),
        first_lines=tuple(_first_lines(seeded=seeded, violated=violated, not_covered=not_covered, private=price is not None)),
    )


def price_of(event: Mapping[str, Any] | None, delta: float | None) -> accounting.Price | None:
    """The price of an event as an entry holds it; None where nothing is promised."""
    if event is None or delta is None:
        return None
    priced = accounting.price(events.from_json(event), delta)
    return priced if priced.bounded else None


def tier(epsilon: float | None) -> str:
    """The tier of an epsilon.

    >>> tier(0.5), tier(8.9), tier(None)
    ('strong (epsilon at most 1)', 'reasonable (epsilon at most 10)', 'weak (epsilon above 10 or none)')
    """
    for edge, name in TIER_EDGES:
        if epsilon is not None and epsilon <= edge:
            return name
    return "weak (epsilon above 10 or none)"


def _first_lines(*, seeded: Sequence[str], violated: Sequence[str], not_covered: Sequence[str], private: bool) -> list[str]:
    lines: list[str] = []
    if "noise" in seeded:
        lines.append("GUARANTEE VOID: the noise came from a seed that is known, so it hides nothing.")
    if not private:
        lines.append("NO GUARANTEE: no differentially private mechanism has been charged.")
    lines += [f"VIOLATED: {name}." for name in violated]
    if not_covered:
        lines.append("Not covered: " + "; ".join(not_covered) + ".")
    return lines
