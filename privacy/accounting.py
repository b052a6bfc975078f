"""The price of events: rho where the curve is a line, and epsilon at a delta under every conversion that is valid.

Events compose by adding their curves, provided that they speak of the same unit under the same relation; anything else is
refused, as is an event that no rule here prices. Nothing is assumed that the events do not say.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TypeAlias

from privacy import curves, sampled, zcdp
from privacy.events import Adjacency, Event, GaussianEvent, Unit, simple

GENERIC = "generic"
EXACT = "exact"
PLD = "pld"


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """What events cost together.

    Args:
      rho: zCDP parameter, None where the Renyi curve is no line, inf where there is no guarantee.
      epsilon: the smallest of `epsilons`, inf where there is no guarantee.
      delta: at which epsilon holds.
      conversion: which of `epsilons` that is.
      epsilons: epsilon by conversion; None where the conversion is not valid.
    """

    rho: float | None
    epsilon: float
    delta: float
    conversion: str
    epsilons: Mapping[str, float | None]
    unit: Unit
    adjacency: Adjacency

    @property
    def bounded(self) -> bool:
        """Whether there is any guarantee."""
        return math.isfinite(self.epsilon)


def price(events: Event | Sequence[Event], delta: float, *, pld: bool = False) -> Price:
    """The joint price of `events` at `delta`; with `pld`, Poisson-sampled sums also by privacy-loss distributions (seconds).

    Raises:
      ValueError: for no event, a delta outside (0, 1), or events whose units or relations differ.

    Guarantee:
      Whoever sees all outputs that the events describe, chosen adaptively, sees an (epsilon, delta)-DP mechanism for the events'
      unit and relation; the distance of the samplers from their laws is in delta.

    Source: composition of zCDP and RDP, arXiv:1605.02065v1, Lemma 1.7, and arXiv:1702.07476v3, Proposition 1; of Gaussian DP
    with adaptively chosen queries, arXiv:2210.17520v2 (Smith, Thakurta), main theorem.

    >>> from privacy.events import TreeEvent
    >>> event = TreeEvent(noise_multiplier=7.0, leaves=2000, minimum_separation=313, max_participations=6)
    >>> found = price(event, 1e-10)
    >>> round(found.rho, 6), round(found.epsilons["generic"], 4), round(found.epsilon, 3), found.conversion
    (0.806122, 8.8985, 8.526, 'exact')
    """
    several = simple(events if isinstance(events, Sequence) else (events,))
    if not several:
        raise ValueError("nothing was released: there is no price of no event")
    if not 0 < delta < 1:
        raise ValueError(f"delta must lie strictly between 0 and 1, not {delta}")
    scopes = {(event.unit, event.adjacency) for event in several}
    if len(scopes) > 1:
        kinds = sorted(f"{unit.value} under {adjacency.value}" for unit, adjacency in scopes)
        raise ValueError(f"events of different units or relations are not added up: {', '.join(kinds)}")
    parts = [curves.curve(event) for event in several]
    distance = math.fsum(part.distance for part in parts)
    conversions = _conversions(parts)
    if pld and all(isinstance(event, GaussianEvent) and event.sampling_rate is not None for event in several):
        poisson = [event for event in several if isinstance(event, GaussianEvent)]
        conversions[PLD] = lambda delta: sampled.epsilon_pld(poisson, delta)
    epsilons = {name: None if at is None else zcdp.with_distance(at, delta, distance) for name, at in conversions.items()}
    valid = {name: epsilon for name, epsilon in epsilons.items() if epsilon is not None}
    conversion = min(valid, key=lambda name: (valid[name], name))
    rhos = [part.rho for part in parts]
    return Price(
        rho=None if None in rhos else math.fsum(rho for rho in rhos if rho is not None),
        epsilon=valid[conversion],
        delta=delta,
        conversion=conversion,
        epsilons=MappingProxyType(epsilons),
        unit=several[0].unit,
        adjacency=several[0].adjacency,
    )


JsonNumbers: TypeAlias = "None | str | float | dict[str, float | None]"


def to_json(found: Price) -> dict[str, JsonNumbers]:
    """The fields of a run's `privacy` object: JSON numbers, null where a value is unbounded or not valid; never hashed."""
    return {
        "rho": _finite(found.rho),
        "epsilon": _finite(found.epsilon),
        "delta": found.delta,
        "conversion": found.conversion,
        "epsilons": {name: _finite(epsilon) for name, epsilon in found.epsilons.items()},
        "unit": found.unit.value,
        "adjacency": found.adjacency.value,
    }


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _conversions(parts: Sequence[curves.Curve]) -> dict[str, Callable[[float], float] | None]:
    if all(part.rho is not None for part in parts):
        rho = math.fsum(part.rho or 0.0 for part in parts)
        exact = all(part.gaussian for part in parts)
        return {
            GENERIC: lambda delta: zcdp.epsilon_generic(rho, delta),
            EXACT: (lambda delta: zcdp.epsilon_exact(rho, delta)) if exact else None,
        }
    return {GENERIC: lambda delta: curves.epsilon_rdp(parts, delta), EXACT: None}
