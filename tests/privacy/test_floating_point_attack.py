"""Mironov's attack (CCS 2012) on a released tree node: the low bits of naive noise tell which neighbour was there; integers tell nothing.

The attacker knows two possible sums of a node, the deviation of the noise, and how the noise is made. A hypothesis survives if noise that
the sampler can produce leads from its sum to the released number, bit for bit.
"""

import numpy as np
from scipy.special import ndtr, ndtri

from contract.randomness import stream
from privacy import central

SIGMA, TRIALS = 7.0, 300
WITHOUT, WITH = 0.7310585786, 0.7310585786 + 0.3
UNIFORM_BITS = 32


def naive_noise(index: np.ndarray) -> np.ndarray:
    """Gaussian noise by inversion of a 32-bit uniform number, as float generators make it."""
    return SIGMA * ndtri((index + 0.5) / 2.0**UNIFORM_BITS)


def survives_naive(released: float, hypothesis: float) -> bool:
    guess = round(float(ndtr((released - hypothesis) / SIGMA)) * 2**UNIFORM_BITS - 0.5)
    near = np.arange(max(0, guess - 64), min(2**UNIFORM_BITS - 1, guess + 64) + 1, dtype=np.float64)
    return bool(np.any(hypothesis + naive_noise(near) == released))


def test_the_attack_finds_the_neighbour_behind_naive_float_noise():
    generator = stream(1, "attack")
    caught = 0
    for trial in range(TRIALS):
        truth, other = (WITH, WITHOUT) if trial % 2 else (WITHOUT, WITH)
        released = float(truth + naive_noise(generator.integers(1 << UNIFORM_BITS, size=1).astype(np.float64))[0])
        assert survives_naive(released, truth)
        caught += not survives_naive(released, other)
    assert caught > 0.99 * TRIALS


def test_the_attack_finds_nothing_on_the_integer_grid():
    """Both sums are integers and every integer within reach is noise that the sampler can produce: no hypothesis ever falls."""
    plan = central.plan(mechanism="tree", dimension=TRIALS, clip_norm=0.3, noise_multiplier=SIGMA / 0.3, rounds=4)
    without, with_ = (round(value / plan.grid.step) for value in (WITHOUT, WITH))
    reach = plan._sampler().reach
    noise = plan.stream(bytes(32)).next()
    truth = np.where(np.arange(TRIALS) % 2, with_, without)
    for hypothesis in (with_, without):
        needed = truth + noise - hypothesis
        assert np.array_equal(needed, needed.astype(np.int64))
        assert np.abs(needed).max() <= reach


def test_released_prefixes_are_exact_decimals_of_the_step():
    plan = central.plan(mechanism="tree", dimension=50, clip_norm=0.3, noise_multiplier=1.0, rounds=4)
    noise = plan.stream(bytes(32))
    total = np.zeros(50, np.int64)
    for leaf in range(4):
        total += leaf + noise.next()
        assert np.array_equal(plan.grid.decode(total) / plan.grid.step, total)
