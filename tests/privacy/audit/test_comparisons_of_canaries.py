"""Permutation tests, paired rank ratios and trends: their false-alarm rates and what they detect."""

import numpy as np
import pytest
from scipy.stats import spearmanr

from contract import randomness
from privacy.audit import comparison


def test_permutation_test_keeps_its_level_when_nothing_was_learned() -> None:
    """200 repetitions at level 0.1: 20 expected; above 38 has probability below 1e-4."""
    rejected = 0
    for repetition in range(200):
        generator = randomness.stream(repetition, "nothing learned")
        pooled = generator.exponential(size=24)
        rejected += comparison.permutation_p_value(pooled[:12], pooled[12:], permutations=199, seed=repetition) <= 0.1
    assert rejected <= 38


def test_permutation_test_sees_what_was_learned() -> None:
    generator = randomness.stream(0, "learned")
    p = comparison.permutation_p_value(generator.normal(3, 1, 20), generator.normal(0, 1, 20), permutations=9999)
    assert p == pytest.approx(1e-4)


def test_rank_ratio_is_paired_and_its_interval_covers_the_truth() -> None:
    generator = randomness.stream(3, "ranks")
    control = np.exp(generator.normal(3, 2, 400)).astype(np.int64) + 1
    found = comparison.median_rank_ratio(control, 4 * control, seed=1)
    assert found.ratio == pytest.approx(4.0)
    assert found.low == pytest.approx(4.0)
    assert found.high == pytest.approx(4.0)


def test_rank_ratio_of_independent_ranks_covers_1() -> None:
    generator = randomness.stream(4, "ranks")
    found = comparison.median_rank_ratio(generator.integers(1, 1000, 300), generator.integers(1, 1000, 300))
    assert found.low < 1 < found.high


def test_trend_is_spearmans_and_finds_order() -> None:
    generator = randomness.stream(5, "trend")
    doses = np.repeat([1.0, 4.0, 16.0], 10)
    responses = np.log(doses) + generator.normal(size=30)
    assert comparison.spearman(doses.tolist(), responses) == pytest.approx(spearmanr(doses, responses).statistic)
    assert comparison.trend_p_value(doses.tolist(), responses, permutations=999) < 0.01
    assert comparison.trend_p_value(doses.tolist(), -responses, permutations=999) > 0.9


def test_unpaired_or_empty_arguments_are_refused() -> None:
    with pytest.raises(ValueError, match="paired"):
        comparison.median_rank_ratio(np.ones(2, np.int64), np.ones(3, np.int64))
    with pytest.raises(ValueError, match="inserted"):
        comparison.permutation_p_value(np.zeros(0), np.zeros(3))
    with pytest.raises(ValueError, match="trend"):
        comparison.trend_p_value([1.0], np.zeros(1))


def test_drop_test_is_paired_and_keeps_its_level() -> None:
    """200 repetitions at level 0.1: 20 expected; above 38 has probability below 1e-4."""
    rejected = 0
    for repetition in range(200):
        generator = randomness.stream(repetition, "drop")
        shared = generator.normal(0, 10, 15)
        pair = shared + generator.normal(size=(2, 15))
        rejected += comparison.drop_p_value(pair[0], pair[1], permutations=199, seed=repetition) <= 0.1
    assert rejected <= 38
    shared = randomness.stream(0, "drop").normal(0, 10, 15)
    assert comparison.drop_p_value(shared + 1, shared, permutations=999) == pytest.approx(0.001)
    with pytest.raises(ValueError, match="paired"):
        comparison.drop_p_value(shared, shared[:3])
