"""Phase deadlines follow latencies: fixed until something is known, shorter afterwards, never so short that a round is lost for it."""

import json

import numpy as np
import pytest

from secagg import Phase
from secagg.parameters import Parameters, Vector, choose
from server.secure_windows import LEAST_ROUNDS, SHORTEST_ADAPTED_S, PhaseWindows, allowance, answers_until

PARAMETERS: Parameters = choose(
    roster_size=40,
    vectors=(Vector(name="delta", length=8, lane_bits=16, largest=9),),
    corrupt_fraction=0.0,
    drop_fraction=0.1,
    minimum_survivors=30,
)


def arrivals(pace_s: float, count: int = 39) -> np.ndarray:
    return pace_s * np.linspace(0.5, 1.6, count)


def played(windows: PhaseWindows, phase: Phase, pace_s: float, *, needed: int = 30) -> float:
    clock = windows.open(phase, at_s=0.0, alive=40, may_leave=4, needed=needed)
    return answers_until(clock, arrivals(pace_s))


def test_unknown_phases_wait_as_long_as_the_task_says() -> None:
    windows = PhaseWindows(reporting_s=120.0)
    assert played(windows, Phase.SHARE_KEYS, 3.0) == 20.0
    assert played(windows, Phase.MASKED_INPUT, 3.0) == 120.0


def test_a_device_that_never_answers_costs_less_once_latencies_are_known() -> None:
    windows = PhaseWindows(reporting_s=120.0)
    took = [played(windows, Phase.MASKED_INPUT, 3.0) for _ in range(6)]
    assert took[:LEAST_ROUNDS] == [120.0] * LEAST_ROUNDS
    assert max(took[LEAST_ROUNDS:]) < 20.0
    assert min(took) >= arrivals(3.0)[35]


def test_a_phase_is_not_cut_short_while_more_are_missing_than_may_leave() -> None:
    windows = PhaseWindows(reporting_s=120.0)
    for _ in range(8):
        played(windows, Phase.SHARE_KEYS, 0.5)
    slow = np.concatenate([arrivals(0.5, 34), np.linspace(15.0, 19.0, 6)])  # more than ever were late
    clock = windows.open(Phase.SHARE_KEYS, at_s=0.0, alive=40, may_leave=4, needed=36)
    assert answers_until(clock, slow) >= slow[35]


def test_windows_follow_a_slower_round() -> None:
    windows = PhaseWindows(reporting_s=600.0)
    for _ in range(4):
        usual = played(windows, Phase.MASKED_INPUT, 3.0)
    assert played(windows, Phase.MASKED_INPUT, 9.0) > 2 * usual


def test_no_window_closes_before_there_are_enough_for_a_sum() -> None:
    windows = PhaseWindows(reporting_s=120.0)
    for _ in range(4):
        played(windows, Phase.MASKED_INPUT, 3.0)
    clock = windows.open(Phase.MASKED_INPUT, at_s=0.0, alive=40, may_leave=4, needed=30)
    assert answers_until(clock, arrivals(3.0, 29)) == 120.0


def test_a_deadline_of_the_task_holds_whatever_was_learnt() -> None:
    windows = PhaseWindows(reporting_s=120.0)
    clock = windows.open(Phase.MASKED_INPUT, at_s=10.0, alive=40, may_leave=4, needed=30, until_s=15.0)
    assert clock.deadline_s == 15.0


def test_windows_are_not_shorter_than_devices_ask() -> None:
    windows = PhaseWindows(reporting_s=120.0)
    for _ in range(5):
        took = played(windows, Phase.SHARE_KEYS, 0.001)
    assert took == SHORTEST_ADAPTED_S


def test_what_was_learnt_can_be_put_away_and_taken_up_again() -> None:
    windows, other = PhaseWindows(reporting_s=120.0), PhaseWindows(reporting_s=120.0)
    windows.rests(3.25)
    for pace in (1.0, 2.0, 1.5):
        played(windows, Phase.MASKED_INPUT, pace)
        played(windows, Phase.SHARE_KEYS, pace / 3)
    other.load(windows.dump())
    assert json.loads(other.dump()) == json.loads(windows.dump())
    assert played(other, Phase.MASKED_INPUT, 1.7) == played(windows, Phase.MASKED_INPUT, 1.7)


@pytest.mark.parametrize(("alive", "left"), [(40, 4), (38, 2), (36, 0), (35, 5), (30, 0), (20, 0)])
def test_the_allowance_is_the_drop_fraction_and_then_what_can_be_borne(alive: int, left: int) -> None:
    assert allowance(PARAMETERS, 40, alive, 30) == left
