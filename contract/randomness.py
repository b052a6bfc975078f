"""Counter-based streams for the simulation: who, when, which examples. Never for noise or keys.

A stream is named by a seed and labels, so that the same (seed, round, device) draws the same numbers in every process and in
any order. It is the only module that constructs NumPy generators.
"""

import functools
import hashlib
from collections.abc import Sequence

import numpy as np

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def stream(seed: int, *labels: int | str) -> np.random.Generator:
    """A generator for one purpose; equal arguments give equal streams.

    >>> bool(stream(1, "order", 3).integers(1 << 62) == stream(1, "order", 3).integers(1 << 62))
    True
    """
    name = "\x1f".join([str(seed), *(f"{type(label).__name__}:{label}" for label in labels)])
    key = int.from_bytes(hashlib.sha256(name.encode()).digest()[:16], "little")
    return np.random.Generator(np.random.Philox(key=key))


def uniform_by_device(seed: int, devices: np.ndarray, *labels: int | str) -> np.ndarray:
    """One float64 in [0, 1) for each device, shape (n,): a hash of (seed, labels, device), so it needs no stream per device.

    Args:
      devices: int64, shape (n,).
    """
    return _uniform(devices, _base(seed, *labels))


def uniforms_by_device(seed: int, devices: np.ndarray, labels: Sequence[str]) -> np.ndarray:
    """`uniform_by_device` for each of `labels` at once, shape (len(labels), n).

    >>> devices = np.arange(5)
    >>> bool((uniforms_by_device(1, devices, ["a", "b"])[1] == uniform_by_device(1, devices, "b")).all())
    True
    """
    return _uniform(devices, np.array([_base(seed, label) for label in labels], np.uint64)[:, None])


def _uniform(devices: np.ndarray, base: np.ndarray | np.uint64) -> np.ndarray:
    with np.errstate(over="ignore"):
        x = _mixed((devices.astype(np.uint64) + np.uint64(1)) * _GOLDEN + base)
    x >>= np.uint64(11)
    return x * 2.0**-53


def orders(seeds: Sequence[int], counts: Sequence[int], *labels: int | str) -> list[np.ndarray]:
    """For each seed a uniform order of 0 .. count - 1, int64 of shape (count,): a function of (seed, count, labels), many at once.

    >>> [order.tolist() for order in orders([3, 4, 3], [4, 2, 4], "doc")]
    [[3, 2, 0, 1], [0, 1], [3, 2, 0, 1]]
    """
    sizes = np.array(counts, np.int64)
    ends = np.cumsum(sizes)
    owners = np.repeat(np.arange(len(sizes)), sizes)
    positions = np.arange(len(owners)) - (ends - sizes)[owners]
    with np.errstate(over="ignore"):
        own = _mixed(np.array([seed % (1 << 64) for seed in seeds], np.uint64) + _base(0, *labels))
        drawn = _mixed((positions.astype(np.uint64) + np.uint64(1)) * _GOLDEN + own[owners])
    found = positions[np.lexsort((drawn, owners))]
    return [found[end - size : end] for end, size in zip(ends.tolist(), sizes.tolist(), strict=True)]


def _mixed(x: np.ndarray) -> np.ndarray:
    """splitmix64's finaliser, twice; `x` is used up."""
    for _ in range(2):
        x ^= x >> np.uint64(30)
        x *= np.uint64(0xBF58476D1CE4E5B9)
        x ^= x >> np.uint64(27)
        x *= np.uint64(0x94D049BB133111EB)
        x ^= x >> np.uint64(31)
    return x


@functools.lru_cache(maxsize=1024, typed=True)
def _base(seed: int, *labels: int | str) -> np.uint64:
    """Kept, since a fleet asks for the same few names over and over."""
    return np.uint64(stream(seed, *labels).integers(1 << 63, dtype=np.int64))
