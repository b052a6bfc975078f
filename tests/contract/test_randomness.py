"""Streams of the simulation: named, repeatable, and independent of order."""

import numpy as np
import pytest

from contract import randomness

MASK = (1 << 64) - 1
STREAM_WORDS = [16551702480528699304, 13982725076170038280]


def test_stream_is_known() -> None:
    # A known answer: the same (seed, labels) must draw the same on every machine and with every version to come.
    assert [int(word) for word in randomness.stream(7, "order", 3).bit_generator.random_raw(2)] == STREAM_WORDS


@pytest.mark.parametrize(
    "other", [(8, "order", 3), (7, "order", 4), (7, "ordre", 3), (7, "order", "3"), (7, "order"), (7, 3, "order")]
)
def test_stream_depends_on_seed_and_every_label(other: tuple[int, *tuple[int | str, ...]]) -> None:
    first = randomness.stream(7, "order", 3).integers(1 << 62, size=4)
    assert not np.array_equal(first, randomness.stream(*other).integers(1 << 62, size=4))


def test_device_draw_does_not_depend_on_the_other_devices() -> None:
    devices = np.arange(1000, dtype=np.int64)
    together = randomness.uniform_by_device(1, devices, "drop", 2)
    some = devices[::-7]
    assert np.array_equal(randomness.uniform_by_device(1, some, "drop", 2), together[some])


def test_device_draws_are_those_of_a_naive_implementation() -> None:
    devices = np.array([0, 1, 12345, 2**40], dtype=np.int64)
    base = int(randomness.stream(3, "speed").integers(1 << 63, dtype=np.int64))
    assert randomness.uniform_by_device(3, devices, "speed").tolist() == [_splitmix_twice(int(d), base) for d in devices]


def test_device_draws_are_uniform() -> None:
    # Kolmogorov-Smirnov over 100,000 draws: a true uniform law fails with probability below 1e-9, and this draw is fixed.
    draws = np.sort(randomness.uniform_by_device(11, np.arange(100_000, dtype=np.int64), "any"))
    distance = np.max(np.abs(draws - (np.arange(100_000) + 0.5) / 100_000))
    assert distance < np.sqrt(np.log(2 / 1e-9) / (2 * 100_000))
    assert draws[0] >= 0
    assert draws[-1] < 1


def test_device_draws_of_two_purposes_are_uncorrelated() -> None:
    # |correlation| above 6.5 / sqrt(n) has probability below 1e-10 under independence.
    devices = np.arange(100_000, dtype=np.int64)
    first, second = (randomness.uniform_by_device(11, devices, label) for label in ("a", "b"))
    assert abs(np.corrcoef(first, second)[0, 1]) < 6.5 / np.sqrt(devices.size)


def test_orders_are_those_of_a_naive_implementation() -> None:
    seeds, counts = [5, 2**64 - 1, 2**70 + 5, 5, 8], [7, 300, 7, 7, 0]
    found = randomness.orders(seeds, counts, "examples", 2)
    base = int(randomness.stream(0, "examples", 2).integers(1 << 63, dtype=np.int64))
    for seed, count, order in zip(seeds, counts, found, strict=True):
        own = _mixed_twice((seed + base) & MASK)
        keys = [_mixed_twice(((position + 1) * 0x9E3779B97F4A7C15 + own) & MASK) for position in range(count)]
        assert order.tolist() == sorted(range(count), key=keys.__getitem__)
    assert found[0].tolist() == found[3].tolist() == randomness.orders([5], [7], "examples", 2)[0].tolist()
    assert randomness.orders([], [], "examples") == []


def test_every_order_of_four_is_as_likely_as_any_other() -> None:
    # Chi-square with 23 degrees of freedom over 48,000 orders: above 80 with probability below 1e-7, and this draw is fixed.
    found = randomness.orders(range(48_000), [4] * 48_000, "any")
    counts = np.unique(np.array(found), axis=0, return_counts=True)[1]
    assert len(counts) == 24
    assert np.square(counts - 2000).sum() / 2000 < 80


def _splitmix_twice(device: int, base: int) -> float:
    return (_mixed_twice(((device + 1) * 0x9E3779B97F4A7C15 + base) & MASK) >> 11) / 2**53


def _mixed_twice(x: int) -> int:
    for _ in range(2):
        x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & MASK
        x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & MASK
        x ^= x >> 31
    return x
