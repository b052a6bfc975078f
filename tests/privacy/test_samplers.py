"""Samplers against their laws and against OpenDP. False alarms: each chi-squared fails with probability 10^-6, seeds are fixed."""

import math
from fractions import Fraction

import numpy as np
import pytest
from scipy import special, stats

from contract.randomness import stream
from privacy.keystream import Keystream
from privacy.samplers import discrete_gaussian, rounded_gaussian, skellam
from privacy.samplers.bessel import Skellam, masses
from privacy.samplers.laws import Gaussian
from privacy.samplers.table import Table, from_weights
from privacy.samplers.wide import Wide

FALSE_ALARM = 1e-6


def keystream(purpose: str) -> Keystream:
    return Keystream(b"\x07" * 32, purpose, 0)


def chi_squared(draws: np.ndarray, mass: np.ndarray, first: int) -> float:
    """P value of `draws` under integer masses, cells of fewer than 20 expected draws pooled into the ends."""
    keep = np.flatnonzero(mass * draws.size >= 20)
    low, high = first + keep[0], first + keep[-1]
    clipped = np.clip(draws, low - 1, high + 1) - (low - 1)
    seen = np.bincount(clipped, minlength=high - low + 3).astype(float)
    wanted = np.concatenate([[mass[: keep[0]].sum()], mass[keep[0] : keep[-1] + 1], [mass[keep[-1] + 1 :].sum()]]) * draws.size
    pool = wanted >= 5
    seen, wanted = np.append(seen[pool], seen[~pool].sum()), np.append(wanted[pool], wanted[~pool].sum())
    keep_last = wanted > 1e-9
    return float(stats.chisquare(seen[keep_last], wanted[keep_last] * seen[keep_last].sum() / wanted[keep_last].sum()).pvalue)


@pytest.mark.parametrize("deviation", [0.3, 1.0, 7.5, 63.0, 64.0, 127.0, 300.0])
def test_discrete_gaussian_has_its_law(deviation: float):
    draws = np.asarray(discrete_gaussian(deviation).draw(keystream(f"d{deviation}"), 1 << 20))
    x = np.arange(-round(9 * deviation) - 3, round(9 * deviation) + 4)
    mass = np.exp(-(x**2) / (2 * deviation**2))
    assert chi_squared(draws, mass / mass.sum(), int(x[0])) > FALSE_ALARM


@pytest.mark.parametrize("deviation", [0.3, 1.0, 7.5, 63.0, 64.0, 127.0, 300.0])
def test_rounded_gaussian_has_its_law(deviation: float):
    draws = np.asarray(rounded_gaussian(deviation).draw(keystream(f"r{deviation}"), 1 << 20))
    x = np.arange(-round(9 * deviation) - 3, round(9 * deviation) + 4)
    mass = stats.norm.cdf((x + 0.5) / deviation) - stats.norm.cdf((x - 0.5) / deviation)
    assert chi_squared(draws, mass / mass.sum(), int(x[0])) > FALSE_ALARM


@pytest.mark.parametrize("deviation", [0.3, 1.0, 7.5, 127.0, 128.0, 300.0])
def test_skellam_has_its_law(deviation: float):
    draws = np.asarray(skellam(deviation).draw(keystream(f"s{deviation}"), 1 << 20))
    x = np.arange(-round(9 * deviation) - 12, round(9 * deviation) + 13)
    mass = special.ive(np.abs(x), deviation**2)  # exp(-mu) I_|x|(mu)
    assert chi_squared(draws, mass / mass.sum(), int(x[0])) > FALSE_ALARM


def test_skellam_is_a_difference_of_poissons():
    generator = stream(7, "poissons")
    theirs = generator.poisson(8.0, 400_000) - generator.poisson(8.0, 400_000)
    ours = np.asarray(skellam(4.0).draw(keystream("poissons"), 400_000))
    counts = np.array([np.bincount(np.clip(part, -16, 16) + 16, minlength=33) for part in (theirs, ours)])
    assert stats.chi2_contingency(counts).pvalue > FALSE_ALARM


@pytest.mark.parametrize("deviation", [128.0, 1000.0])
def test_quick_ratios_of_skellam_masses_are_within_what_the_sampler_allows(deviation: float):
    kept = masses(Fraction(deviation * deviation), reach=round(14 * deviation) + 2)
    density = Skellam(deviation=deviation, masses=kept)
    for top in range(0, round(13 * deviation), round(deviation / 3)):
        x = top + round(deviation / 16)
        quick = density.ratio(np.array([float(x)]), np.array([float(top)]))[0]
        assert abs(quick - float(Fraction(kept[x], kept[top]))) < 2.0**-40


@pytest.mark.parametrize("deviation", [1e5, 2.0**33, 2.0**50])
def test_wide_laws_are_gaussian_at_any_width(deviation: float):
    for law in (rounded_gaussian, discrete_gaussian):
        draws = law(deviation).draw(keystream(f"{law.__name__}{deviation}"), 1 << 18) / deviation
        assert stats.kstest(draws, "norm").pvalue > FALSE_ALARM


@pytest.mark.parametrize("rounded", [True, False])
def test_the_exact_decision_is_taken_and_changes_nothing(rounded: bool):
    loose = Wide(Gaussian(deviation=80.0, rounded=rounded), tolerance=0.01)
    draws = loose.draw(keystream(f"loose {rounded}"), 1 << 16)
    x = np.arange(-700, 701)
    half = 0.5 if rounded else 0.0
    mass = stats.norm.cdf((x + half) / 80) - stats.norm.cdf((x - half) / 80) if rounded else np.exp(-(x**2) / 12800)
    assert chi_squared(draws, mass / mass.sum(), -700) > FALSE_ALARM


@pytest.mark.parametrize("deviation", [0.7, 10.0, 52.0])
def test_discrete_gaussian_agrees_with_opendp(deviation: float):
    dp = pytest.importorskip("opendp.prelude")
    dp.enable_features("contrib")
    space = dp.vector_domain(dp.atom_domain(T="i32")), dp.l2_distance(T=float)
    reference = np.array(dp.m.make_gaussian(*space, scale=deviation)([0] * 40_000))
    ours = np.asarray(discrete_gaussian(deviation).draw(keystream(f"o{deviation}"), 400_000))
    edges = np.unique(np.concatenate([[-(10**9)], np.quantile(ours, np.linspace(0.02, 0.98, 40)).astype(int), [10**9]]))
    counts = np.array([np.histogram(part, edges)[0] for part in (reference, ours)])
    assert stats.chi2_contingency(counts[:, counts.sum(axis=0) > 0]).pvalue > FALSE_ALARM


def test_a_table_gives_what_comparing_all_128_bits_gives():
    sampler = discrete_gaussian(40.0).table
    assert sampler.draw_cells(keystream("bits"), 5000).tolist() == by_hand(sampler, keystream("bits"), 5000)


def by_hand(sampler: Table, stream: Keystream, count: int) -> list[int]:
    prefixes = stream.words(count, np.uint16).tolist()
    unclear = [
        index
        for index, prefix in enumerate(prefixes)
        if any(prefix << 112 < border < (prefix + 1) << 112 for border in sampler.borders)
    ]
    more = stream.words(len(unclear), np.uint64).tolist()
    middle = dict(zip(unclear, more, strict=True))
    numbers = [prefix << 112 | (middle.get(index, 0) >> 16) << 64 for index, prefix in enumerate(prefixes)]
    return [sum(border <= number for border in sampler.borders) for number in numbers]


def test_a_number_that_equals_a_border_is_settled_by_the_last_64_bits():
    half = 1 << 127
    sampler = Table(first=0, borders=(half + (1 << 63), half + (1 << 64)))  # cells meet inside one 64-bit prefix

    class Fixed:
        def words(self, count: int, dtype: type) -> np.ndarray:
            return np.full(count, 1 << 15, np.uint16) if dtype is np.uint16 else np.zeros(count, np.uint64)

        def integer(self, bits: int) -> int:
            return (1 << 63) - 1

    class Higher(Fixed):
        def integer(self, bits: int) -> int:
            return 1 << 63

    assert sampler.draw_cells(Fixed(), 1).tolist() == [0]  # type: ignore[arg-type]
    assert sampler.draw_cells(Higher(), 1).tolist() == [1]  # type: ignore[arg-type]


def test_borders_are_within_the_stated_distance_of_the_law():
    weights = [3, 1, 4, 1, 5, 9, 2, 6]
    sampler, total = from_weights(first=0, weights=weights), 31
    running = np.cumsum(weights).tolist()
    assert all(0 <= part * 2**128 - border * total < total for part, border in zip(running, sampler.borders, strict=False))
    assert discrete_gaussian(40.0).distance_log2 <= -115


def test_equal_streams_give_equal_draws_and_other_counters_others():
    law = rounded_gaussian(1e5)
    assert np.array_equal(law.draw(keystream("a"), 70_000), law.draw(keystream("a"), 70_000))
    assert not np.array_equal(law.draw(keystream("a"), 100), law.draw(Keystream(b"\x07" * 32, "a", 1), 100))


@pytest.mark.parametrize("deviation", [0.0, -1.0, math.inf, math.nan])
def test_a_deviation_that_is_none_is_refused(deviation: float):
    for law in (rounded_gaussian, discrete_gaussian, skellam):
        with pytest.raises(ValueError, match="deviation"):
            law(deviation)


def test_skellam_too_wide_for_its_masses_is_refused():
    with pytest.raises(ValueError, match="32768"):
        skellam(40_000.0)


@pytest.mark.parametrize("deviation", [1e-3, 5e-3, 1e-300])
def test_rounded_gaussian_too_narrow_for_its_masses_is_refused_by_value(deviation: float):
    with pytest.raises(ValueError, match=rf"deviation of 0\.0078125 on, not {deviation}"):
        rounded_gaussian(deviation)
