"""The Renyi curve of each kind of event, and whether it is a Gaussian's.

Where the curve is a line, alpha rho, rho is all there is to know; where it is not, `rdp` gives it at any real order.
"""

import dataclasses
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import assert_never

from privacy import distributed_curves, matrix_sensitivity, sampled, selection, tree_sensitivity, zcdp
from privacy.events import (
    AdaptiveClipEvent,
    Adjacency,
    BandedEvent,
    BltEvent,
    DistributedEvent,
    GaussianEvent,
    Law,
    SelectionEvent,
    SimpleEvent,
    TreeEvent,
    UnboundedEvent,
)

ORDERS: tuple[int, ...] = (*range(2, 257), *(2**x * 5 // 4 for x in range(8, 18)), *(2**x for x in range(9, 19)))
"""The fixed orders at which curves that are no lines are converted."""

_SMALL_ORDERS: tuple[float, ...] = tuple(1 + x / 10 for x in range(5, 90) if x % 10)


_TWO_STEPS = 4
"""The square of 2: a replacement is two zero-out steps."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """D_alpha <= rdp(alpha) for every real alpha > 1.

    Args:
      rho: the slope where the curve is a line through 0, None elsewhere.
      gaussian: whether the mechanism is Gaussian with mu = sqrt(2 rho), so that the exact conversion is valid.
      rdp: the curve.
      distance: total variation distance of all draws from the law that the curve is of.
      real_orders: whether the curve is worth looking at between the whole orders.
    """

    rho: float | None
    gaussian: bool
    rdp: Callable[[float], float]
    distance: float = 0.0
    real_orders: bool = False


def curve(event: SimpleEvent) -> Curve:
    """The curve of `event`.

    Under replace, a line of slope rho becomes one of 4 rho. Of two neighbours, zeroing the unit's contributions gives one and the same
    third input, from which either is one zero-out step away. Gaussian noise tells two inputs by the distance between what the noise is
    added to, which is a metric: at most twice that of a step, whatever the two took part in (for inputs chosen adaptively, along every
    path). Neither is proved for sums whose noise comes from the devices, nor for sampled ones, which are refused.

    Raises:
      ValueError: for values that no mechanism has, or a relation under which the mechanism has no proof.

    >>> curve(GaussianEvent(noise_multiplier=1.0, releases=4, minimum_separation=1)).rho
    1.0
    """
    _check_relation(event)
    match event:
        case UnboundedEvent():
            return _line(math.inf, 0.0, gaussian=False)
        case AdaptiveClipEvent():
            multiplier = (event.vector_noise_multiplier**-2 + (2 * event.bit_noise_multiplier) ** -2) ** -0.5
            return curve(dataclasses.replace(event.release, noise_multiplier=multiplier))
        case SelectionEvent():
            return _selection(event)
        case DistributedEvent():
            return Curve(
                rho=None,
                gaussian=False,
                rdp=distributed_curves.rdp(event),
                distance=math.ldexp(float(event.draws), event.distance_log2),
            )
        case GaussianEvent(sampling_rate=rate) if rate is not None:
            return Curve(
                rho=None,
                gaussian=False,
                rdp=sampled.rdp(event),
                distance=math.ldexp(float(event.draws), event.distance_log2),
                real_orders=True,
            )
        case TreeEvent() | GaussianEvent() | BandedEvent() | BltEvent():
            # The exact conversion is for a Gaussian law. Floating point has some other law, of which the curve is only an approximation.
            gaussian = event.law is not Law.FLOATING_POINT
            return _line(_rho(event), math.ldexp(float(event.draws), event.distance_log2), gaussian=gaussian)
        case _:
            assert_never(event)


def sensitivity_squared(event: TreeEvent | GaussianEvent | BandedEvent | BltEvent) -> float:
    """The squared L2 sensitivity of everything that the mechanism adds noise to, over the squared bound of a contribution.

    >>> sensitivity_squared(TreeEvent(noise_multiplier=1.0, leaves=4, minimum_separation=1))
    8.0
    """
    match event:
        case TreeEvent():
            return float(
                tree_sensitivity.squared(
                    leaves=event.leaves,
                    minimum_separation=event.minimum_separation,
                    max_participations=event.max_participations,
                    restart_every=event.restart_every,
                )
            )
        case GaussianEvent():
            return float(
                tree_sensitivity.most_participations(
                    leaves=event.releases,
                    minimum_separation=event.minimum_separation,
                    max_participations=event.max_participations,
                )
            )
        case BandedEvent():
            return matrix_sensitivity.banded(event)
        case BltEvent():
            return matrix_sensitivity.blt(event)
        case _:
            assert_never(event)


def _selection(event: SelectionEvent) -> Curve:
    trial = curve(event.trial)
    # The expected number of trials bounds how often a sampler's distance counts.
    copies = selection.mean_trials(shape=event.shape, stop_probability=event.stop_probability)
    return Curve(
        rho=None,
        gaussian=False,
        rdp=selection.rdp(trial.rdp, shape=event.shape, stop_probability=event.stop_probability),
        distance=trial.distance * copies,
        real_orders=trial.real_orders,
    )


def epsilon_rdp(parts: Sequence[Curve], delta: float) -> float:
    """Epsilon at `delta` from the sum of Renyi curves, minimised over `ORDERS`; over small real orders too where all allow it.

    >>> line = Curve(rho=None, gaussian=False, rdp=lambda alpha: alpha * 0.806122)
    >>> round(epsilon_rdp([line], 1e-10), 3)
    8.901
    """

    def bound(alpha: float) -> float:
        total = math.fsum(part.rdp(alpha) for part in parts)
        return zcdp.rdp_bound(total, alpha, delta) if math.isfinite(total) else math.inf

    orders = [*ORDERS, *(_SMALL_ORDERS if all(part.real_orders for part in parts) else ())]
    return max(0.0, min(bound(alpha) for alpha in orders))


def _line(rho: float, distance: float, *, gaussian: bool) -> Curve:
    return Curve(rho=rho, gaussian=gaussian, rdp=lambda alpha: alpha * rho, distance=distance, real_orders=True)


def _rho(event: TreeEvent | GaussianEvent | BandedEvent | BltEvent) -> float:
    squared = sensitivity_squared(event) * (_TWO_STEPS if event.adjacency is Adjacency.REPLACE else 1)
    if squared == 0:
        return 0.0
    return squared / (2 * event.noise_multiplier**2) if event.noise_multiplier > 0 else math.inf


def _check_relation(event: SimpleEvent) -> None:
    """Refuses noise from the devices under anything but zero-out: a device that is not there adds no noise either."""
    if isinstance(event, DistributedEvent) and event.adjacency is not Adjacency.ZERO_OUT:
        raise ValueError(f"noise from the devices is priced under zero-out, not {event.adjacency.value}")
