"""How a distributed plan is chosen: scale and lane width from the cohort, local noise from the survivors that are guaranteed."""

import dataclasses
import math

from contract.collusion import colluding_devices
from privacy import overflow, rotation, rounding
from privacy.distributed import FEWEST_BITS, MECHANISMS, MOST_BITS, TAIL_Z, DistributedPlan
from privacy.rotation import Rotation
from privacy.samplers.laws import SKELLAM_LARGEST

TARGET_INFLATION = 1.01
TARGET_LOCAL_SIGMA = 2.0
"""From here on the sum of discrete Gaussians is as good as one: tau d is below 10^-8 up to 10^8 coordinates."""
TARGET_OVERFLOW = 1e-6
"""Probability of any overflow in a sum, below which a lane counts as wide enough."""


def plan(
    *,
    mechanism: str,
    dimension: int,
    clip_norm: float,
    noise_multiplier: float,
    devices: int,
    minimum_survivors: int | None = None,
    corrupt_fraction: float = 0.0,
    bits: int | None = None,
    beta: float = rounding.DEFAULT_BETA,
    minimum_separation: int = 0,
    max_participations: int | None = None,
    sum_norm: float | None = None,
    largest_block: int = rotation.LARGEST_BLOCK,
) -> DistributedPlan:
    """The plan for sums of up to `devices` updates.

    Local noise is z c / sqrt(minimum_survivors - m), m the corrupt devices (`contract.collusion`): the honest survivors that are
    guaranteed add up to z c. With `bits` the scale is the published one, at which a coordinate of the sum leaves the lane with
    probability about 10^-4: s = sqrt(2^(2 bits) - n k^2) / (2 k sqrt(c^2 n^2 / B + z^2 c^2)), with k = `TAIL_Z`. Without, the scale is
    such that rounding adds at most 1% to the norm, and the lane the narrowest that no coordinate leaves but with probability 10^-6.

    Args:
      mechanism: `ddg` or `skellam`.
      noise_multiplier: z, the deviation of the honest sum's noise over the clip norm.
      minimum_survivors: `devices` unless given.
      corrupt_fraction: g in [0, 1).
      bits: 8 to 32, or None to choose.
      sum_norm: the norm that a sum of updates is taken to have at most, n c unless tuned (`scale_tuning`).
      largest_block: of the rotation; 2^30 for one block of a power of two.

    Raises:
      ValueError: for a value that names itself, or lanes too narrow for any scale.

    Source: arXiv:2102.06387v4 (the scale of its experiments); k^2 n / 4 is the room that rounding takes.

    >>> chosen = plan(mechanism="ddg", dimension=1 << 20, clip_norm=1.0, noise_multiplier=1.0, devices=100, bits=12, beta=0.0,
    ...               largest_block=1 << 30)
    >>> round(chosen.scale, 1), round(chosen.inflated_norm / chosen.scale, 4), round(chosen.local_sigma, 2)
    (523.9, 2.9546, 52.39)
    """
    survivors = devices if minimum_survivors is None else minimum_survivors
    _check(mechanism, clip_norm, noise_multiplier, devices, survivors, corrupt_fraction, bits)
    corrupt = colluding_devices(corrupt_fraction, devices)
    if survivors <= corrupt:
        raise ValueError(f"minimum_survivors must exceed the {corrupt} corrupt devices, not be {survivors}")
    spread = rotation.plan(dimension, largest_block=largest_block)
    most = devices * clip_norm if sum_norm is None else min(sum_norm, devices * clip_norm)
    relative = noise_multiplier * clip_norm / math.sqrt(survivors - corrupt)
    if bits is None:
        scale = _coarsest(spread, clip_norm, relative, beta)
    else:
        scale = _published(bits, devices, most, spread.block, noise_multiplier * clip_norm)
    if mechanism == "skellam" and relative > 0:
        scale = min(scale, SKELLAM_LARGEST / relative)
    chosen = DistributedPlan(
        mechanism=mechanism,
        rotation=spread,
        clip_norm=clip_norm,
        scale=scale,
        bits=MOST_BITS if bits is None else bits,
        devices=devices,
        noise_multiplier=noise_multiplier,
        local_sigma=min(scale * relative, SKELLAM_LARGEST) if mechanism == "skellam" else scale * relative,
        minimum_survivors=survivors,
        corrupt=corrupt,
        beta=beta,
        minimum_separation=minimum_separation,
        max_participations=max_participations,
        sum_norm=most,
    )
    return chosen if bits is not None else dataclasses.replace(chosen, bits=narrowest_lane(chosen))


def scale_for(chosen: DistributedPlan, sum_norm: float) -> float:
    """The published scale for `chosen`'s lane when a sum's norm is at most `sum_norm`."""
    noise = chosen.noise_multiplier * chosen.clip_norm
    scale = _published(chosen.bits, chosen.devices, sum_norm, chosen.rotation.block, noise)
    if chosen.mechanism == "skellam" and chosen.local_sigma > 0:
        scale = min(scale, SKELLAM_LARGEST * chosen.scale / chosen.local_sigma)
    return scale


def finest_useful_scale(chosen: DistributedPlan) -> float:
    """The scale from which on rounding adds at most 1% to the norm: a finer one gains nothing; at least `chosen`'s own."""
    relative = chosen.local_sigma / chosen.scale
    return max(chosen.scale, _coarsest(chosen.rotation, chosen.clip_norm, relative, chosen.beta))


def narrowest_lane(chosen: DistributedPlan) -> int:
    """The fewest bits at which no coordinate of a sum leaves its lane but with probability `TARGET_OVERFLOW`.

    Raises:
      ValueError: if 32 are not enough.
    """
    for bits in range(FEWEST_BITS, MOST_BITS + 1):
        one = overflow.coordinate(
            mechanism=chosen.mechanism,
            bits=bits,
            devices=chosen.devices,
            sum_norm=chosen.sum_norm * chosen.scale,
            block=chosen.rotation.block,
            local_sigma=chosen.local_sigma,
        )
        if one * chosen.padded_dimension <= TARGET_OVERFLOW:
            return bits
    raise ValueError(f"{chosen.devices} devices need lanes wider than {MOST_BITS} bits; split the cohort")


def _published(bits: int, devices: int, sum_norm: float, block: int, noise: float) -> float:
    left = 4.0**bits - devices * TAIL_Z**2
    if left <= 0 or devices >= 1 << (bits - 1):
        raise ValueError(f"bits must be more than {bits} for {devices} devices: rounding alone fills the lane")
    return math.sqrt(left) / (2 * TAIL_Z * math.sqrt(sum_norm**2 / block + noise**2))


def _coarsest(spread: Rotation, clip_norm: float, relative_sigma: float, beta: float) -> float:
    """The least scale at which rounding adds at most 1% to the norm and local noise is wide enough, to a power of sqrt(2)."""
    scale = 2.0 ** math.floor(math.log2(1 / clip_norm))
    while True:
        bound = rounding.squared_norm_bound(scaled_norm=clip_norm * scale, dimension=spread.padded, beta=beta)
        wide = relative_sigma == 0 or scale * relative_sigma >= TARGET_LOCAL_SIGMA
        if wide and math.sqrt(bound) <= TARGET_INFLATION * clip_norm * scale:
            return scale
        scale *= math.sqrt(2)


def _check(
    mechanism: str,
    clip_norm: float,
    noise_multiplier: float,
    devices: int,
    survivors: int,
    corrupt_fraction: float,
    bits: int | None,
) -> None:
    if mechanism not in MECHANISMS:
        raise ValueError(f"mechanism must be one of {MECHANISMS}, not {mechanism!r}")
    if not (clip_norm > 0 and math.isfinite(clip_norm)):
        raise ValueError(f"clip_norm must be positive and finite, not {clip_norm}")
    if not (noise_multiplier >= 0 and math.isfinite(noise_multiplier)):
        raise ValueError(f"noise_multiplier must be finite and not negative, not {noise_multiplier}")
    if not 1 <= survivors <= devices:
        raise ValueError(f"minimum_survivors must lie in [1, devices = {devices}], not {survivors}")
    if not 0 <= corrupt_fraction < 1:
        raise ValueError(f"corrupt_fraction must lie in [0, 1), not {corrupt_fraction}")
    if bits is not None and not FEWEST_BITS <= bits <= MOST_BITS:
        raise ValueError(f"bits must lie in [{FEWEST_BITS}, {MOST_BITS}], not {bits}")
