"""The simulated devices as columns: how fast each computes, where it lives, what its network carries."""

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from scipy.special import ndtri

from contract.randomness import uniform_by_device

SPEED_SPREAD = 0.93
"""Standard deviation of the logarithm of compute speed over 333 phones (PKU-Chengxu/FLASH, cpu_float_score)."""
NETWORK_SPREAD = 0.8
MEDIAN_DOWNLINK = 2.5e6
MEDIAN_UPLINK = 1.0e6
"""Bytes a second on Wi-Fi."""
TIME_ZONES_H = (-5, -6, -7, -8)
TIME_ZONE_SHARES = (0.47, 0.29, 0.07, 0.17)
"""Of the population of a country with four zones."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class DevicePopulation:
    """Columns of shape (n,), one row a device.

    Args:
      seed: of every draw that concerns these devices.
      speed: float32, relative to the median phone.
      utc_offset_s: int32, local time minus UTC.
      downlink, uplink: float32, bytes a second.
    """

    seed: int
    speed: npt.NDArray[np.float32] = field(repr=False)
    utc_offset_s: npt.NDArray[np.int32] = field(repr=False)
    downlink: npt.NDArray[np.float32] = field(repr=False)
    uplink: npt.NDArray[np.float32] = field(repr=False)

    @property
    def size(self) -> int:
        """How many devices there are."""
        return len(self.speed)


_MOMENT_BITS = 38
"""Of a key, for a time in milliseconds: nearly nine years, and 67 million devices."""


def at_moment(devices: npt.NDArray[np.int64], moment_ms: int | npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Names each device at a time (its own, or one for all) in a draw, int64 of shape (n,).

    >>> at_moment(np.array([1, 2]), 5).tolist()
    [274877906949, 549755813893]
    """
    return (devices << _MOMENT_BITS) | (moment_ms & ((1 << _MOMENT_BITS) - 1))


def make_population(size: int, seed: int) -> DevicePopulation:
    """`size` devices; a device's row depends on the seed and its index alone.

    Raises:
      ValueError: if `size` is below 1.

    >>> make_population(3, 0).speed.shape
    (3,)
    """
    if size < 1:
        raise ValueError(f"size must be at least 1, not {size}")
    devices = np.arange(size)
    zones = np.searchsorted(np.cumsum(TIME_ZONE_SHARES)[:-1], uniform_by_device(seed, devices, "zone"), side="right")
    return DevicePopulation(
        seed=seed,
        speed=log_normal(seed, devices, "speed", median=1.0, spread=SPEED_SPREAD),
        utc_offset_s=(np.array(TIME_ZONES_H, np.int32) * 3600)[zones],
        downlink=log_normal(seed, devices, "downlink", median=MEDIAN_DOWNLINK, spread=NETWORK_SPREAD),
        uplink=log_normal(seed, devices, "uplink", median=MEDIAN_UPLINK, spread=NETWORK_SPREAD),
    )


def log_normal(seed: int, keys: npt.NDArray[np.int64], label: str, *, median: float, spread: float) -> npt.NDArray[np.float32]:
    """One log-normal value for each of `keys` (int64, shape (n,)), float32; `spread` is the sd of the logarithm."""
    return log_normal_of(uniform_by_device(seed, keys, label), median=median, spread=spread).astype(np.float32)


def log_normal_of(uniform: npt.NDArray[np.float64], *, median: float, spread: float) -> npt.NDArray[np.float64]:
    """The log-normal values to which those in [0, 1) belong, of the same shape."""
    return median * np.exp(spread * ndtri(np.maximum(uniform, 2.0**-53)))
