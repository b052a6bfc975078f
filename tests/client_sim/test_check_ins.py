"""A round's cohort against a fleet in which every device is looked at by itself, in the order of the devices' times."""

import heapq
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from client_sim import check_ins
from client_sim.check_ins import SHORTEST_RETRY_S, CheckIns
from client_sim.conditions import conditions_at, conditions_hold
from client_sim.faults import Fault, FaultKind
from client_sim.fleet_options import FleetOptions
from client_sim.population import DevicePopulation, at_moment, make_population
from client_sim.records import ParticipationRecords
from client_sim.timing import Effort
from client_sim.wheel import WakeWheel
from contract.messages import RetryWindow
from contract.randomness import uniform_by_device
from contract.simulation import RoundPosition

SIZE, TARGET, SELECTION_S, BUSY_S = 150, 12, 400.0, 250.0
POPULATION = make_population(SIZE, 7)
Cohort = tuple[list[int], float]


class Door:
    """A server that accepts whoever comes and says when to come back; the simulator's other questions are not asked."""

    def __init__(self, window: RetryWindow) -> None:
        self.window, self.heard = window, list[float]()

    def check_in(self, times_s: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
        self.heard += times_s.tolist()
        return np.ones(len(times_s), np.bool_)

    def retry_window(self) -> RetryWindow:
        return self.window


def position(leaf: int) -> RoundPosition:
    return RoundPosition(
        run="r", round_index=leaf, attempt=0, leaf=leaf, cohort_target=TARGET, report_goal=TARGET, minimum_separation=2,
        max_participations=None, opened_s=0.0, deadline_s=0.0,
    )  # fmt: skip


def options(interval_s: float, *, diurnal: bool = True, faults: tuple[Fault, ...] = ()) -> FleetOptions:
    effort = Effort(seconds_per_example=0.1, download_bytes=1, upload_bytes=1)
    return FleetOptions(seed=1, effort=effort, wake_interval_s=interval_s, diurnal=diurnal, faults=faults)


def drawn(label: str, device: int, time_s: float) -> float:
    key = at_moment(np.array([device]), int(time_s * 1000.0))
    return float(uniform_by_device(POPULATION.seed, key, label)[0])


def one_by_one(behaviour: FleetOptions, window: RetryWindow, rounds: int) -> tuple[list[Cohort], list[float]]:
    """The cohorts and when each was complete, and everybody's next wake-up after the last round."""
    records = ParticipationRecords(num_devices=SIZE)
    wakes = uniform_by_device(POPULATION.seed, np.arange(SIZE), "first wake") * behaviour.wake_interval_s
    greedy = {fault.device for fault in behaviour.faults}
    queue = [(float(time), device) for device, time in enumerate(wakes)]
    heapq.heapify(queue)
    cohorts, opened = list[Cohort](), 0.0

    def sleeps(device: int, time: float) -> None:
        share = drawn("sleep", device, time)
        heapq.heappush(queue, (time + (0.5 + share) * behaviour.wake_interval_s, device))

    for leaf in range(rounds):
        deadline, taken, closes = opened + SELECTION_S, list[int](), opened + SELECTION_S
        while queue[0][0] < deadline and len(taken) < TARGET:
            time, device = heapq.heappop(queue)
            own = np.array([device])
            may = records.eligible(own, leaf, minimum_separation=2)[0]
            may |= device in greedy and records.last(own)[0] < leaf
            if time < opened:
                wait = window.minimum_s + drawn("retry", device, time) * (window.maximum_s - window.minimum_s)
                heapq.heappush(queue, (time + max(wait, SHORTEST_RETRY_S), device))
            elif (behaviour.diurnal and not conditions_at(POPULATION, own, np.array([time])).hold[0]) or not may:
                sleeps(device, time)
            else:
                taken.append(device)
                closes = time if len(taken) == TARGET else closes
        cohorts.append((taken, closes))
        records.charge(np.array(taken, np.int64), leaf)
        opened = closes + BUSY_S
        for device in taken:
            sleeps(device, opened)
    return cohorts, [time for _, time in sorted((device, time) for time, device in queue)]


def in_steps(
    behaviour: FleetOptions,
    window: RetryWindow,
    rounds: int,
    *,
    change: Callable[[CheckIns], None] = lambda _: None,
    restored_at: int | None = None,
) -> tuple[list[Cohort], list[float]]:
    """The same from the arrays; `change` may set how they are cut."""
    records, door = ParticipationRecords(num_devices=SIZE), Door(window)

    def made() -> CheckIns:
        return CheckIns(server=door, population=POPULATION, records=records, options=behaviour)  # type: ignore[arg-type]

    devices, cohorts, opened = made(), list[Cohort](), 0.0
    for leaf in range(rounds):
        if leaf == restored_at:
            wakes = devices.wakes_s.copy()
            devices = made()
            devices.restore(wakes)
        change(devices)
        selection = devices.select(position(leaf), opened_s=opened, deadline_s=opened + SELECTION_S)
        closes = selection.last_accepted_s if selection.num_accepted == TARGET else opened + SELECTION_S
        cohorts.append((selection.cohort.tolist(), closes))
        records.charge(selection.cohort, leaf)
        opened = closes + BUSY_S
        devices.sleep(selection.cohort, np.full(len(selection.cohort), opened))
    assert door.heard == sorted(door.heard)
    return cohorts, devices.wakes_s.tolist()


LONG, SHORT = RetryWindow(100.0, 900.0), RetryWindow(0.0, 5.0)
GREEDY = tuple(Fault(device=device, kind=FaultKind.GREEDY) for device in range(20))
CASES = [
    (options(300.0), LONG),
    (options(300.0), SHORT),
    (options(60.0, diurnal=False), LONG),
    (options(2000.0, diurnal=False), SHORT),
    (options(300.0, diurnal=False, faults=GREEDY), LONG),
]


@pytest.mark.parametrize(("behaviour", "window"), CASES)
def test_cohorts_are_those_of_devices_that_come_one_by_one(behaviour: FleetOptions, window: RetryWindow) -> None:
    expected, found = one_by_one(behaviour, window, 12), in_steps(behaviour, window, 12)
    assert found == expected
    assert sum(len(taken) for taken, _ in expected[0]) > 40


@pytest.mark.parametrize(("behaviour", "window"), CASES)
def test_how_steps_are_cut_and_where_a_run_was_stopped_changes_nothing(
    behaviour: FleetOptions, window: RetryWindow, monkeypatch: pytest.MonkeyPatch
) -> None:
    def tiny(devices: CheckIns) -> None:
        devices.woken = devices.came = 0.01

    def huge(devices: CheckIns) -> None:
        devices.woken, devices.came = 1e9, 1.0

    whole = in_steps(behaviour, window, 12)
    assert in_steps(behaviour, window, 12, change=tiny) == whole
    assert in_steps(behaviour, window, 12, change=huge, restored_at=5) == whole
    monkeypatch.setattr(check_ins, "_FEWEST_SLOTS", 128)
    assert in_steps(behaviour, window, 12, restored_at=8) == whole


def test_a_server_that_names_no_time_to_come_back_does_not_stop_the_clock() -> None:
    cohorts, _ = in_steps(options(300.0), RetryWindow(0.0, 0.0), 6)
    assert all(closes > 0 for _, closes in cohorts)


def test_nobody_at_all_wakes_within_a_round() -> None:
    cohorts, _ = in_steps(options(300.0), RetryWindow(1e9, 1e9), 6)
    assert cohorts[-1][0] == []


def test_a_fleet_of_which_nobody_may_come_any_more_is_asked_in_vain_for_as_long_as_it_takes() -> None:
    records = ParticipationRecords(num_devices=SIZE)
    records.charge(np.arange(SIZE), 0)
    devices = CheckIns(server=Door(LONG), population=POPULATION, records=records, options=options(60.0))  # type: ignore[arg-type]
    for opened in (0.0, 40_000.0):  # of steps of 30 s
        found = devices.select(position(1), opened_s=opened, deadline_s=opened + 40_000.0)
        assert found.num_accepted == 0
        assert found.not_eligible > SIZE


def test_conditions_that_are_looked_at_in_turn_are_the_same_conditions() -> None:
    population: DevicePopulation = make_population(5000, 2)
    devices = np.arange(population.size)[::-1]
    times_s = 1e6 * uniform_by_device(3, devices, "times")
    found = conditions_hold(population, devices, times_s)
    assert np.array_equal(found, conditions_at(population, devices, times_s).hold)
    assert 0.05 < found.mean() < 0.6
    assert len(conditions_hold(population, devices[:0], times_s[:0])) == 0


@given(
    times=st.lists(st.floats(0, 1000), min_size=1, max_size=60),
    ends=st.lists(st.floats(0, 1500), min_size=1, max_size=12).map(sorted),
    slot_s=st.floats(0.5, 400),
)
@settings(max_examples=150, deadline=None)
def test_a_wheel_gives_everybody_once_in_order_whatever_its_slots(times: list[float], ends: list[float], slot_s: float) -> None:
    wheel, waiting = WakeWheel(np.array(times), slot_s=slot_s), dict(enumerate(times))
    for end_s in ends:
        expected = sorted(
            (device for device, time in waiting.items() if time < end_s), key=lambda device: (waiting[device], device)
        )
        found = wheel.take(end_s).tolist()
        assert found == expected
        for device in found:
            del waiting[device]
        if found:  # back at a time that may be past
            waiting[found[0]] = end_s / 2 + 3
            wheel.push(np.array(found[:1]), np.array([end_s / 2 + 3]))
        guess = wheel.time_of(3, latest_s=end_s + 100)
        assert end_s < guess <= end_s + 100
