"""Group privacy: what events cost when one person owns several devices (or several units of whatever kind).

Each device keeps its own separation and cap; what two devices of one person do jointly is not limited, so that their contributions
add up in the worst way.
"""

import dataclasses
import math
from collections import Counter
from collections.abc import Callable, Sequence
from types import MappingProxyType

from privacy import accounting, curves, distributed_curves, zcdp
from privacy.accounting import Price
from privacy.curves import Curve
from privacy.events import DistributedEvent, Event, simple


def price(events: Event | Sequence[Event], delta: float, *, size: int) -> Price:
    """The price of `events` at `delta` for a group of `size` units that change together.

    A line of slope rho becomes one of size^2 rho (and a Gaussian stays one). Encoded contributions of norm D2 add up to size D2 at
    most where all are in one sum, and may as well be in several (`_together`). Anything else goes through `approximate`.

    Source: arXiv:1605.02065v1 (Bun, Steinke), Proposition 1.9.

    >>> from privacy.events import TreeEvent
    >>> event = TreeEvent(noise_multiplier=7.0, leaves=2000, minimum_separation=313, max_participations=6)
    >>> round(price(event, 1e-10, size=2).rho, 5)
    3.22449
    """
    if size < 1:
        raise ValueError(f"size must be at least 1, not {size}")
    several = simple(events if isinstance(events, Sequence) else (events,))
    alone = accounting.price(several, delta)
    if size == 1:
        return alone
    distance = math.fsum(curves.curve(event).distance for event in several)
    if alone.rho is not None:
        rho = alone.rho * size**2
        epsilons = {
            accounting.GENERIC: zcdp.with_distance(lambda d: zcdp.epsilon_generic(rho, d), delta, distance),
            accounting.EXACT: None
            if alone.epsilons[accounting.EXACT] is None
            else zcdp.with_distance(lambda d: zcdp.epsilon_exact(rho, d), delta, distance),
        }
        return _regrouped(alone, epsilons, rho)
    if all(isinstance(event, DistributedEvent) for event in several):
        together = [_together(event, size) for event in several if isinstance(event, DistributedEvent)]
        epsilon = zcdp.with_distance(lambda d: curves.epsilon_rdp(together, d), delta, size * distance)
        return _regrouped(alone, {accounting.GENERIC: epsilon, accounting.EXACT: None}, None)
    epsilon = approximate(lambda d: accounting.price(several, d).epsilon, delta, size=size)
    return _regrouped(alone, {accounting.GENERIC: epsilon, accounting.EXACT: None}, None)


def _together(event: DistributedEvent, size: int) -> Curve:
    """The curve of `size` units of a distributed sum, each in at most `event.participations` of the releases.

    With g of them in a release it costs h(g), the curve at the norm g D2. At most size participations a release are spread over them
    as one likes, so that the total is at most the sum, over the dearest releases, of max_g h(g) size / g. The maximum is at g = size
    for Skellam; for sums of discrete Gaussians tau is paid once a release, however many of the group are in it.
    """
    dearest = Counter(sorted(event.contributors)[: event.participations])

    def one(count: int, members: int) -> Callable[[float], float]:
        norm = members**2 * event.squared_norm
        return distributed_curves.rdp(dataclasses.replace(event, squared_norm=norm, contributors=(count,), participations=1))

    shares = {count: [(size / members, one(count, members)) for members in range(1, size + 1)] for count in dearest}

    def rdp(alpha: float) -> float:
        return math.fsum(
            times * max(share * curve(alpha) for share, curve in shares[count]) for count, times in dearest.items()
        )

    return Curve(rho=None, gaussian=False, rdp=rdp)


def approximate(epsilon_at: Callable[[float], float], delta: float, *, size: int) -> float:
    """size epsilon(delta') with the largest delta' for which delta' (e^(size epsilon) - 1) / (e^epsilon - 1) <= delta.

    Args:
      epsilon_at: epsilon of one unit as a function of delta, non-increasing.

    Source: Vadhan 2017, "The Complexity of Differential Privacy", Lemma 2.2 (the geometric sum of its proof).

    >>> round(approximate(lambda delta: 1.0, 1e-5, size=3), 3)
    3.0
    """

    def allowed(log_delta: float) -> bool:
        epsilon = epsilon_at(math.exp(log_delta))
        return log_delta + _log_geometric(epsilon, size) <= math.log(delta)

    low, high = -700.0, math.log(delta)
    if not allowed(low):
        return math.inf
    while high - low > 1e-9:
        middle = (low + high) / 2
        low, high = (middle, high) if allowed(middle) else (low, middle)
    return size * epsilon_at(math.exp(low))


def _log_geometric(epsilon: float, size: int) -> float:
    """ln of 1 + e^epsilon + ... + e^((size - 1) epsilon), without overflow."""
    if math.isinf(epsilon):
        return math.inf
    top = (size - 1) * epsilon
    return top + math.log(math.fsum(math.exp(index * epsilon - top) for index in range(size)))


def _regrouped(alone: Price, epsilons: dict[str, float | None], rho: float | None) -> Price:
    valid = {name: epsilon for name, epsilon in epsilons.items() if epsilon is not None}
    conversion = min(valid, key=lambda name: (valid[name], name))
    return dataclasses.replace(
        alone, rho=rho, epsilon=valid[conversion], conversion=conversion, epsilons=MappingProxyType(epsilons)
    )
