"""Windows follow latencies: the estimate respects censoring, the dynamic programme is right on small cases, and it beats fixed ones."""

import importlib.util
import math
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from contract.randomness import stream
from secagg.windows import AdaptiveWindows, PhaseObservation, latencies_of, survival
from secagg.windows import _binomial as binomial

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "secagg_windows.py"


def observed(seconds, waited, missing):
    return PhaseObservation(seconds=np.array(seconds, dtype=float), waited_s=waited, missing=missing)


def test_product_limit_estimate_is_the_textbooks():
    # Four answer at 1, 2, 3, 5; two are given up at 2.5 and 4: 5/6, 4/6, then 3 at risk, then 1.
    rounds = (observed([1, 2], 2.5, 1), observed([3], 4.0, 1), observed([5], 6.0, 0))
    times, beyond = survival(rounds)
    assert times.tolist() == [1, 2, 3, 5]
    assert beyond == pytest.approx([5 / 6, 4 / 6, 4 / 6 * 2 / 3, 0])


def test_estimate_finds_the_tail_through_censoring():
    # 60 rounds of exponentials given up at 1.0, 20 at 3.0: beyond 1.0 only the latter speak, and the pooled estimate is still unbiased.
    rng, rounds = stream(1, "censored"), []
    for waited, count in ((1.0, 60), (3.0, 20)):
        for _ in range(count):
            all_latencies = rng.exponential(1.0, 100)
            kept = all_latencies[all_latencies <= waited]
            rounds.append(observed(kept, waited, 100 - len(kept)))
    times, beyond = survival(tuple(rounds))
    for t in (0.5, 1.0, 2.0, 2.9):
        assert abs(float(beyond[np.searchsorted(times, t) - 1]) - np.exp(-t)) < 0.03


def test_beyond_observation_the_tail_goes_on():
    law = latencies_of((observed(np.linspace(0.1, 2.0, 80), 2.0, 20),))
    later = law.later(np.array([1.0, 2.0, 4.0, 40.0]))
    assert (np.diff(later) < 0).all()
    assert later[-1] > 0
    assert law.candidates().max() > 2.0


def test_pace_is_the_median_of_everybody_who_was_asked():
    assert observed([1, 2, 3], 9.0, 0).pace_s == 2
    assert observed([1, 2, 3], 9.0, 2).pace_s == 3
    assert observed([1], 9.0, 2).pace_s == 9.0


def learnt(**changes) -> AdaptiveWindows:
    windows = AdaptiveWindows(**{"first_s": (30.0, 30.0), "longest_s": 120.0, "rest_s": 5.0, **changes})
    rng = stream(2, "learnt")
    for _ in range(20):
        for phase in (0, 1):
            latencies = np.sort(np.exp(rng.normal(0.0, 0.3, 50)))
            windows = windows.observe(phase, observed(latencies[:-2], float(latencies[-3]), 2))
    return windows


def test_slow_round_gets_a_longer_window_in_proportion():
    windows = learnt()
    arrived = np.linspace(0.5, 1.4, 40)
    usual = windows.open(1, alive=50, may_leave=8).deadline_s(arrived)
    slow = windows.open(1, alive=50, may_leave=8).deadline_s(1.5 * arrived)
    assert usual < slow <= 1.5 * usual * 1.05


def test_last_phase_closes_at_once_when_nothing_is_at_stake_any_more():
    # Everybody who may leave may: in the last phase waiting cannot make success surer.
    windows = learnt()
    arrived = np.linspace(0.5, 2.0, 45)
    assert windows.open(1, alive=50, may_leave=8).deadline_s(arrived) == pytest.approx(2.0)
    assert windows.open(1, alive=50, may_leave=4).deadline_s(arrived) > 2.0
    assert windows.open(0, alive=50, may_leave=5).deadline_s(arrived) > windows.open(0, alive=50, may_leave=20).deadline_s(
        arrived
    )


def test_what_a_lost_round_costs_buys_longer_windows():
    arrived = np.linspace(0.5, 1.6, 44)
    deadlines = [replace(learnt(), loss=loss).open(0, alive=50, may_leave=7).deadline_s(arrived) for loss in (0.0, 3.0, 30.0)]
    assert deadlines == sorted(deadlines)
    assert deadlines[0] < deadlines[-1]


def test_nothing_is_closed_before_half_have_answered():
    windows = learnt()
    assert windows.open(0, alive=50, may_leave=5).deadline_s(np.linspace(0.5, 2.0, 20)) == 120.0
    assert windows.open(0, alive=50, may_leave=5).deadline_s(np.array([])) == 120.0


def test_first_windows_hold_until_something_is_known():
    windows = AdaptiveWindows(first_s=(7.0, 9.0), longest_s=60.0)
    assert windows.open(1, alive=10, may_leave=1).deadline_s(np.arange(8.0)) == 9.0
    dead = windows.observe(1, observed([], 9.0, 10))
    assert dead.open(1, alive=10, may_leave=1).deadline_s(np.arange(8.0)) == 9.0


def test_history_is_bounded():
    windows = learnt(remembered=3)
    assert [len(seen) for seen in windows.relative] == [3, 3]


@pytest.mark.parametrize(
    "changes", [{"first_s": ()}, {"first_s": (0.0,)}, {"first_s": (99.0,), "longest_s": 9.0}, {"remembered": 0}, {"loss": -1.0}]
)
def test_windows_out_of_range_are_an_error(changes):
    with pytest.raises(ValueError, match="must"):
        AdaptiveWindows(**{"first_s": (1.0,), "longest_s": 9.0, **changes})


def test_calls_out_of_range_are_an_error():
    windows = learnt()
    for phase, alive, may_leave in ((2, 5, 1), (-1, 5, 1), (0, 0, 1), (0, 5, -1)):
        with pytest.raises(ValueError, match=r"must|need"):
            windows.open(phase, alive=alive, may_leave=may_leave)


def test_windows_of_large_rosters_have_a_deadline():
    # There are more ways to choose 400 of 2,000 devices than a float can hold.
    windows = learnt()
    arrived = np.linspace(0.2, 1.4, 1500)
    assert 1.4 <= windows.open(0, alive=2000, may_leave=400).deadline_s(arrived) <= 120.0


def test_chances_of_dropouts_are_binomial_at_any_size():
    exact = [[math.comb(20, j) * p**j * (1 - p) ** (20 - j) for j in range(21)] for p in (0.0, 0.3, 1.0)]
    assert binomial(20, np.array([0.0, 0.3, 1.0]), 25)[:, :21] == pytest.approx(np.array(exact), abs=1e-12)
    assert (binomial(20, np.array([0.3]), 25)[:, 21:] == 0).all()
    assert binomial(10_000, np.array([0.05]), 10_000).sum() == pytest.approx(1.0, abs=1e-9)


@pytest.mark.slow
def test_adaptive_windows_beat_the_best_fixed_ones_in_rounds_an_hour():
    # Heavy tails, one world without and one with a tide; the fixed windows are chosen in hindsight on the same rounds.
    spec = importlib.util.spec_from_file_location("secagg_windows", BENCHMARK)
    module = importlib.util.module_from_spec(spec)
    sys.modules["secagg_windows"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    for tide in (1.0, 3.0):
        found = module.compare(100, 1, tide=tide)
        assert found["ratio"] > 1.0, found
