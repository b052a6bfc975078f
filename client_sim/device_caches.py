"""What each simulated device has in its training cache at a moment: a function of its data and the time, in every process.

The examples of a device are what its user produces, in the loader's order. Where a task says over how many days (`arrival_days`), they
come in one after another over that time and then again, for ever and since ever: a device that the simulation meets at second 0 has a past.
An example that comes again replaces its older self. Without `arrival_days` all examples count as collected just now.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from client_sim.data.loader import Example, Loader, example_counts
from client_sim.training_cache import DAY_S, TrainingCache
from contract.randomness import uniform_by_device
from contract.task import CacheSpec

_POSITIONS = 1 << 32
"""More examples than a device has: tells (device, position) pairs apart."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceCaches:
    """The training caches of the devices of `loader`.

    Nothing is kept between two calls: a cache is filled again with what arrived until then, so that any worker can train any device, and a
    run that goes on after a crash finds the same examples.

    Args:
      seed: of the arrivals' times; a property of the data.

    Guarantee: what a device trains on at `now_s` is at most `spec.most_examples` examples, the newest, none of which arrived more than
      `spec.longest_days` before.

    >>> from client_sim.data.synthetic_features import SyntheticFeatures
    >>> loader = SyntheticFeatures(num_devices=9, seed=0)
    >>> spec = CacheSpec(longest_days=1.0, arrival_days=4.0)
    >>> caches = DeviceCaches(loader=loader, spec=spec, seed=0)
    >>> everything = sum(len(loader.examples(device)) for device in range(9))
    >>> everything, [int(caches.num_examples(np.arange(9), day * DAY_S).sum()) for day in range(4)]
    (120, [29, 31, 30, 30])
    """

    loader: Loader = field(repr=False)
    spec: CacheSpec
    seed: int

    def examples(self, device: int, now_s: float) -> Sequence[Example]:
        """What the device at position `device` can train on at `now_s`, oldest first; empty if all of it has expired."""
        produced, most = self.loader.examples(device), self.spec.most_examples
        if self.spec.arrival_days is None:
            if len(produced) <= most:  # neither bound bites, so that nothing needs to be filled
                return produced
            ages_s = np.zeros(most)
            produced = produced[-most:]
        else:
            ages_s = self._ages_s(np.array([device]), np.array([len(produced)]), now_s)
        cache = TrainingCache(most_examples=most, longest_s=self.spec.longest_days * DAY_S)
        oldest_first: list[int] = np.argsort(-ages_s, kind="stable").tolist()
        for row in oldest_first:
            cache.add(produced[row], now_s - float(ages_s[row]))
        return cache.examples(now_s)

    def num_examples(self, devices: npt.NDArray[np.int64], now_s: float) -> npt.NDArray[np.int64]:
        """How many examples each of `devices` can train on at `now_s`, without making them where the loader counts by itself.

        Args:
          devices: int64, shape (n,).

        Returns:
          int64, shape (n,).
        """
        counts = example_counts(self.loader, devices)
        if self.spec.arrival_days is not None:
            fresh = now_s - (now_s - self._ages_s(devices, counts, now_s)) <= self.spec.longest_days * DAY_S
            counts = np.bincount(np.repeat(np.arange(len(devices)), counts)[fresh], minlength=len(devices))
        return np.minimum(counts, self.spec.most_examples)

    def _ages_s(self, devices: npt.NDArray[np.int64], counts: npt.NDArray[np.int64], now_s: float) -> npt.NDArray[np.float64]:
        """Seconds since each example last arrived, below `arrival_days`: the examples of all devices, one device behind the other."""
        period_s = (self.spec.arrival_days or 0.0) * DAY_S
        owners = np.repeat(np.arange(len(devices)), counts)
        positions = np.arange(len(owners)) - np.repeat(np.cumsum(counts) - counts, counts)
        within = uniform_by_device(self.seed, devices[owners] * _POSITIONS + positions, "arrival")
        begins = uniform_by_device(self.seed, devices, "first arrival")
        arrives = begins[owners] + (positions + within) / counts[owners]
        return np.mod(now_s / period_s - arrives, 1.0) * period_s
