"""When a device may work: idle, charging and on an unmetered network, over a day in which nights are four times better.

All three conditions hold or fail for half an hour at a time. Time is in virtual seconds; 0 is midnight UTC.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from client_sim.population import DevicePopulation
from contract.randomness import uniform_by_device

DAY_S = 86_400.0
SLOT_S = 1_800.0
BEST_LOCAL_HOUR = 3.0
SWING = 4.0
"""Availability at the best local hour over availability twelve hours later (arXiv:1902.01046v2, section 9)."""
IDLE_AT_BEST = 0.9
CHARGING_AT_BEST = 0.7
UNMETERED = 0.8
_SLOTS_PER_DEVICE = 1 << 22


@dataclass(frozen=True, slots=True)
class Conditions:
    """Which condition holds for each device, bool of shape (n,)."""

    idle: npt.NDArray[np.bool_]
    charging: npt.NDArray[np.bool_]
    unmetered: npt.NDArray[np.bool_]

    @property
    def hold(self) -> npt.NDArray[np.bool_]:
        """All three at once."""
        return self.idle & self.charging & self.unmetered


def diurnal(local_s: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Availability relative to the best hour, from 1 down to 1 / SWING, for local times in seconds.

    >>> diurnal(np.array([3.0, 15.0]) * 3600).tolist()
    [1.0, 0.25]
    """
    mean, amplitude = (1 + 1 / SWING) / 2, (1 - 1 / SWING) / 2
    return mean + amplitude * np.cos(2 * np.pi * (local_s / DAY_S - BEST_LOCAL_HOUR / 24))


def conditions_at(population: DevicePopulation, devices: npt.NDArray[np.int64], times_s: npt.NDArray[np.float64]) -> Conditions:
    """The conditions of each device at its own time.

    Idle and charging follow the square root of the diurnal curve each, so that together they swing by `SWING`.

    Args:
      devices: int64, shape (n,).
      times_s: float64, shape (n,), at least 0.
    """
    slots = np.floor(times_s / SLOT_S).astype(np.int64)
    keys = devices * _SLOTS_PER_DEVICE + slots
    share = _share(population, devices, slots)
    return Conditions(
        idle=uniform_by_device(population.seed, keys, "idle") < IDLE_AT_BEST * share,
        charging=uniform_by_device(population.seed, keys, "charging") < CHARGING_AT_BEST * share,
        unmetered=uniform_by_device(population.seed, keys, "unmetered") < UNMETERED,
    )


def conditions_hold(
    population: DevicePopulation, devices: npt.NDArray[np.int64], times_s: npt.NDArray[np.float64]
) -> npt.NDArray[np.bool_]:
    """Whether all three hold for each device at its own time, bool of shape (n,): `conditions_at(...).hold`, for less.

    The rarer condition is looked at first, the others where it holds.
    """
    slots = np.floor(times_s / SLOT_S).astype(np.int64)
    keys = devices * _SLOTS_PER_DEVICE + slots
    share = _share(population, devices, slots)
    left = np.flatnonzero(uniform_by_device(population.seed, keys, "charging") < CHARGING_AT_BEST * share)
    left = left[uniform_by_device(population.seed, keys[left], "idle") < IDLE_AT_BEST * share[left]]
    left = left[uniform_by_device(population.seed, keys[left], "unmetered") < UNMETERED]
    hold = np.zeros(len(devices), np.bool_)
    hold[left] = True
    return hold


def _share(
    population: DevicePopulation, devices: npt.NDArray[np.int64], slots: npt.NDArray[np.int64]
) -> npt.NDArray[np.float64]:
    """Of idle and of charging devices, relative to the best hour, shape (n,)."""
    return np.sqrt(diurnal((slots * int(SLOT_S) + population.utc_offset_s[devices]).astype(np.float64)))
