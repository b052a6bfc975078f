"""Adaptive quantile clipping and adaptive zeroing: a norm that follows a quantile of the updates' norms, by noised bits.

Each device says by one bit whether its norm is at most the current estimate; bits are summed with noise, and the estimate moves
geometrically towards the quantile. The noise of the vectors is raised a little so that vectors and bits together cost what the vectors
alone would have cost at the asked multiplier. Zeroing uses a second such estimate of a high quantile: an update beyond a multiple of it
counts as zero, which is the device's own doing and costs nothing but the bits.

On the integer grid a bit is sent as +1 (at most the estimate) or -1 in units of one half. A neighbour contributes 0, which is neither, so
that it changes the sum by 1 unit, under zero-out as under add-or-remove; the noise is a rounded Gaussian of 2 sigma_b units.
"""

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass

from privacy.events import AdaptiveClipEvent, GaussianEvent, TreeEvent

DEFAULT_BIT_SHARE = 20
"""sigma_b = n / 20 unless given."""

_FARTHEST = 8.0
"""An estimate moves by at most e^8 a release, whatever the noise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class QuantileState:
    """The estimate and the release that it will change at next.

    >>> state = QuantileState(estimate=1.0, target_quantile=0.5, learning_rate=0.2)
    >>> round(update(state, noised_sum=10.0, devices=100).estimate, 6)  # 55 of 100 below: too high
    0.99005
    """

    estimate: float
    target_quantile: float
    learning_rate: float

    def __post_init__(self) -> None:
        if not (self.estimate > 0 and math.isfinite(self.estimate)):
            raise ValueError(f"estimate must be positive and finite, not {self.estimate}")
        if not 0 < self.target_quantile < 1:
            raise ValueError(f"target_quantile must lie in (0, 1), not {self.target_quantile}")
        if not self.learning_rate > 0:
            raise ValueError(f"learning_rate must be positive, not {self.learning_rate}")


def bit(norm: float, state: QuantileState) -> int:
    """What a device sends: +1 if its norm is at most the estimate, else -1 (halves of a unit).

    >>> bit(0.5, QuantileState(estimate=1.0, target_quantile=0.5, learning_rate=0.2))
    1
    """
    return 1 if norm <= state.estimate else -1


def update(state: QuantileState, *, noised_sum: float, devices: float) -> QuantileState:
    """The estimate after a release of bits: multiplied by exp(-learning_rate (share below - target)).

    Args:
      noised_sum: sum of the bits in halves, with its noise.
      devices: the fixed denominator n.

    Source: arXiv:1905.03871v5 (Andrew, Thakkar, McMahan, Ramaswamy), section 2 and Algorithm 1.
    """
    below = noised_sum / (2 * devices) + 0.5
    exponent = -state.learning_rate * (below - state.target_quantile)
    return dataclasses.replace(state, estimate=state.estimate * math.exp(min(max(exponent, -_FARTHEST), _FARTHEST)))


def vector_noise_multiplier(noise_multiplier: float, bit_noises: Sequence[float]) -> float:
    """z_delta = (z^-2 - sum (2 sigma_b)^-2)^(-1/2): the vectors' multiplier when each of `bit_noises` is spent on bits.

    Args:
      noise_multiplier: z > 0, what vectors and bits cost together.
      bit_noises: sigma_b of each sum of bits (clipping; zeroing).

    Raises:
      ValueError: if the bits alone cost z or more.

    Source: arXiv:1905.03871v5, Theorem 1.

    >>> round(vector_noise_multiplier(1.0, [100 / 20]), 7)
    1.0050378
    """
    if not noise_multiplier > 0 or not all(noise > 0 for noise in bit_noises):
        raise ValueError(f"noise must be positive: {noise_multiplier}, {tuple(bit_noises)}")
    left = noise_multiplier**-2 - math.fsum((2 * noise) ** -2 for noise in bit_noises)
    if left <= 0:
        raise ValueError(
            f"bits with noise {tuple(bit_noises)} cost as much as noise multiplier {noise_multiplier}: raise their noise"
        )
    return left**-0.5


def combined(
    release: TreeEvent | GaussianEvent, *, vector_multiplier: float, bit_noises: Sequence[float], changes_at: Sequence[int] = ()
) -> AdaptiveClipEvent:
    """The event of vectors and bits together: (zeta* / 2) (1 / z_delta^2 + sum 1 / (2 sigma_b)^2).

    Args:
      release: the vectors' event; its own multiplier is not read.
      changes_at: leaves at which the clip norm changed.

    Raises:
      ValueError: for a clip that changed inside a tree: nodes would then add up contributions of different scales.
    """
    if isinstance(release, TreeEvent):
        every = release.restart_every or max(release.leaves, 1)
        inside = [leaf for leaf in changes_at if leaf % every]
        if inside:
            raise ValueError(f"under a tree the clip norm may change at a restart only, not at leaf {inside[0]}")
    bits = math.fsum((2 * noise) ** -2 for noise in bit_noises) ** -0.5 / 2
    return AdaptiveClipEvent(
        release=release,
        vector_noise_multiplier=vector_multiplier,
        bit_noise_multiplier=bits,
        unit=release.unit,
        adjacency=release.adjacency,
    )
