"""Prices as a report holds them: numbers rounded up, with the conversion, the delta, and what a cap or a group would change."""

import math
from typing import Any

from contract import canonical
from privacy import accounting, events, tree_sensitivity
from privacy.events import AdaptiveClipEvent, BandedEvent, BltEvent, GaussianEvent, TreeEvent, UnboundedEvent
from privacy.ledger import measured
from privacy.report.run_record import Facts

DIGITS = 6
CONVERSIONS = {
    "generic": "Canonne, Kamath and Steinke 2020 (arXiv:2004.00010v5): any mechanism with this Renyi curve",
    "exact": "Gaussian differential privacy: Gaussian noise on real values or rounded ones only",
}


def claim(event: Facts | None, delta: float | None) -> dict[str, Any]:
    """What an event costs at `delta` by itself; nulls where nothing is promised."""
    if event is None or delta is None:
        return nothing(delta)
    found = measured.read_event(event, of="an entry")
    return nothing(delta) if isinstance(found, UnboundedEvent) else told(accounting.price(found, delta))


def of(price: accounting.Price | None, delta: float | None) -> dict[str, Any]:
    """A price as a report holds it, or that nothing is promised."""
    return nothing(delta) if price is None else told(price)


def nothing(delta: float | None) -> dict[str, Any]:
    """That nothing is promised."""
    return {"rho": None, "epsilon": None, "delta": delta, "conversion": None, "epsilons": {"generic": None, "exact": None}}


def told(price: accounting.Price) -> dict[str, Any]:
    """A price with its numbers rounded up to six digits."""
    return {
        "rho": up(price.rho),
        "epsilon": up(price.epsilon),
        "delta": price.delta,
        "conversion": price.conversion if price.bounded else None,
        "epsilons": {name: up(epsilon) for name, epsilon in price.epsilons.items()},
    }


def up(value: float | None) -> float | None:
    """`value` rounded up to six digits; None where there is none or it is infinite.

    >>> up(0.80612244898), up(math.inf)
    (0.806123, None)
    """
    if value is None or not math.isfinite(value):
        return None
    return float(canonical.decimal_up(value, DIGITS))


def shown_up(value: float, digits: int = 4) -> str:
    """A price for people to read: `digits` digits, and never below the price itself.

    >>> shown_up(1.18012), shown_up(8.0)
    ('1.181', '8')
    """
    return canonical.decimal_up(value, digits)


def remarks(event: Facts | None, delta: float | None) -> list[str]:
    """What a careful reader would ask about the participation bound, answered."""
    if event is None or delta is None:
        return []
    found = measured.read_event(event, of="the run")
    if isinstance(found, AdaptiveClipEvent):
        found = found.release
    if not isinstance(found, TreeEvent | GaussianEvent | BandedEvent | BltEvent) or found.max_participations is None:
        return []
    leaves = found.releases if isinstance(found, GaussianEvent) else found.leaves
    free = tree_sensitivity.most_participations(leaves=leaves, minimum_separation=found.minimum_separation)
    cap = found.max_participations
    if free <= cap:
        return []
    uncapped = events.from_json({**events.to_json(found), "max_participations": None})
    without = told(accounting.price(uncapped, delta))
    told_apart = f"rho would be {without['rho']} and epsilon {without['epsilons']['generic']} (generic)"
    schedule = f"a separation of {found.minimum_separation} allows over {leaves} rounds"
    keeper = f"each device's own record caps it (max_participations: {cap})"
    return [f"k is {cap}, not the {free} that {schedule}, because {keeper}; without the cap {told_apart}."]
