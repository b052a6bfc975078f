"""Training caches in use: what a device learns from is bounded and new, in every process and over every transport."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tutti
from client_sim.data import SyntheticFeatures
from client_sim.device_caches import DeviceCaches
from client_sim.executor import Executor, Job, Updates
from client_sim.fleet_setup import FleetSetup
from client_sim.fleet_work import FleetTraining, TrainOrder
from client_sim.local_work import LocalWork, WorkSetup
from client_sim.splitting import shares
from client_sim.training_cache import DAY_S
from client_sim.workers import WorkerPool
from contract import plan
from contract.canonical import plain
from contract.randomness import stream, uniform_by_device
from contract.task import CacheSpec, DataSpec, ModelSpec, TrainingSpec
from privacy import grid
from trainer.models import registry
from tutti import simulation

ARRIVING = CacheSpec(most_examples=6, longest_days=10.0, arrival_days=25.0)
TASK: dict[str, Any] = {
    "name": "caching",
    "population": "test",
    "model": {"name": "mlp"},
    "cohort": {"report_goal": 8, "over_selection": 1.5, "minimum_reports": 5},
    "training": {"batch_size": 10, "max_examples": 10, "learning_rate": 0.1},
    "privacy": {"mechanism": "tree", "clip_norm": 0.5, "noise_multiplier": 2.0, "delta": 1e-5},
    "rounds": 6,
}


@dataclass(frozen=True)
class Numbered:
    """Devices whose examples carry their number; each device has as many as `counts` says."""

    counts: tuple[int, ...]
    digest: str = "0" * 64

    @property
    def num_devices(self) -> int:
        return len(self.counts)

    def num_examples(self, devices: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        return np.array(self.counts, np.int64)[devices]

    def examples(self, index: int) -> Sequence[dict[str, object]]:
        pixels = stream(1, "pixels", index).random((self.counts[index], 784)).astype(np.float32)
        return [{"x": pixels[number], "y": number % 62, "owner": index, "number": number} for number in range(len(pixels))]

    def held_out(self) -> Iterator[Sequence[dict[str, object]]]:
        return iter(())


def numbers(examples: Sequence[Any]) -> list[int]:
    return [example["number"] for example in examples]


def age_days(device: int, number: int, count: int, seed: int, period_days: float, now_days: float) -> float:
    """The naive reckoning: the newest of all the times at which the example ever arrived, one after another."""
    begins = float(uniform_by_device(seed, np.array([device]), "first arrival")[0])
    within = float(uniform_by_device(seed, np.array([device * 2**32 + number]), "arrival")[0])
    first = (begins + (number + within) / count) * period_days
    times = [first + turn * period_days for turn in range(-3, int(now_days / period_days) + 3)]
    return now_days - max(at for at in times if at <= now_days)


# -- what is in a cache ----------------------------------------------------------------------------------------------------------


@given(
    count=st.integers(0, 12), most=st.integers(1, 12), longest=st.floats(0.5, 60), period=st.floats(0.5, 60),
    now=st.floats(0, 200), seed=st.integers(0, 5),
)  # fmt: skip
@settings(max_examples=150, deadline=None)
def test_a_cache_holds_the_newest_that_are_not_too_old(
    count: int, most: int, longest: float, period: float, now: float, seed: int
) -> None:
    spec = CacheSpec(most_examples=most, longest_days=longest, arrival_days=period)
    caches = DeviceCaches(loader=Numbered((3, count)), spec=spec, seed=seed)
    ages = {number: age_days(1, number, count, seed, period, now) for number in range(count)}
    if any(abs(age - bound) < 1e-6 for age in ages.values() for bound in (0.0, longest, period)):
        return  # on the edge the last bit decides
    kept = sorted((number for number in ages if ages[number] <= longest), key=lambda number: -ages[number])[-most:]
    assert numbers(caches.examples(1, now * DAY_S)) == kept
    assert caches.num_examples(np.array([1, 0]), now * DAY_S)[0] == len(kept)


def test_a_device_with_more_examples_than_its_cache_holds_learns_from_the_newest_only() -> None:
    caches = DeviceCaches(loader=Numbered((50,)), spec=CacheSpec(most_examples=4), seed=0)
    assert numbers(caches.examples(0, 0.0)) == [46, 47, 48, 49]
    assert caches.num_examples(np.array([0]), 0.0).tolist() == [4]


def test_where_no_bound_bites_the_loader_is_asked_once_and_nothing_is_copied() -> None:
    examples = [{"number": 0}]

    class Once(Numbered):
        def examples(self, index: int) -> Any:
            return examples

    caches = DeviceCaches(loader=Once((1,)), spec=CacheSpec(), seed=0)
    assert caches.examples(0, 1e9) is examples


def test_what_a_cache_holds_does_not_depend_on_who_else_is_asked() -> None:
    caches = DeviceCaches(loader=Numbered((9, 0, 40, 7)), spec=ARRIVING, seed=3)
    together = caches.num_examples(np.arange(4), 5 * DAY_S)
    apart = [int(caches.num_examples(np.array([device]), 5 * DAY_S)[0]) for device in range(4)]
    assert together.tolist() == apart == [len(caches.examples(device, 5 * DAY_S)) for device in range(4)]


def test_over_a_period_every_example_has_its_time() -> None:
    caches = DeviceCaches(loader=Numbered((40,)), spec=ARRIVING, seed=3)
    seen = {number for day in range(25) for number in numbers(caches.examples(0, day * DAY_S))}
    assert seen == set(range(40))


# -- who uses it -----------------------------------------------------------------------------------------------------------------


def plan_bytes() -> bytes:
    dimension = registry.get("mlp").num_parameters
    task = {"model": plain(ModelSpec(name="mlp")), "training": {**_mapping(TRAINING)}}
    output = plan.Output(name="delta", length=dimension, aggregated=True)
    encoding = grid.plan(dimension=dimension, clip_norm=1.0).to_json()
    return plan.encode(
        plan.Plan(task=task, run="r", round_index=0, leaf=0, model_digest="", encoding=encoding, outputs=(output,))
    )


def _mapping(training: TrainingSpec) -> dict[str, Any]:
    rate = training.learning_rate
    return {"batch_size": training.batch_size, "max_examples": training.max_examples, "learning_rate": str(rate)}


TRAINING = TrainingSpec(batch_size=10, max_examples=20, learning_rate=0.1)
LOADER = SyntheticFeatures(num_devices=40, seed=3, num_held_out=1)
SETUP = WorkSetup(loader=LOADER, model="mlp", training=TRAINING, cache=ARRIVING, data_seed=3)


def job(devices: Sequence[int], at_s: float) -> Job:
    return Job(
        plan=plan_bytes(), parameters=registry.get("mlp").init(0), devices=np.array(devices), order_seed=5, noise_seed=bytes(32),
        at_s=at_s,
    )  # fmt: skip


@pytest.fixture(scope="module")
def work() -> LocalWork:
    return LocalWork(SETUP)


def test_a_device_whose_cache_is_empty_contributes_zero(work: LocalWork) -> None:
    caches, now_s = SETUP.caches, 7 * DAY_S
    counts = caches.num_examples(np.arange(40), now_s)
    (empty, full) = int(np.flatnonzero(counts == 0)[0]), int(np.flatnonzero(counts > 0)[0])
    nothing, something = work.updates(job([empty, full], now_s))
    # Rounding to the grid makes no difference between -0.5 and 0.5 of nothing.
    assert nothing.norm_squared == 0
    assert not nothing.diverged
    assert something.norm_squared > 0
    assert (nothing.metrics["examples"], something.metrics["examples"]) == (0.0, float(counts[full]))


def test_two_workers_find_the_same_in_the_caches_as_one_process(work: LocalWork) -> None:
    devices, at_s = range(20), 12 * DAY_S
    pool = WorkerPool(SETUP, num_workers=2)
    now, later = pool.run(job(devices, at_s)), pool.run(job(devices, at_s + 9 * DAY_S))
    pool.close()
    assert np.array_equal(now.total, sum(update.vector.astype(np.int64) for update in work.updates(job(devices, at_s))))
    assert not np.array_equal(later.total, now.total)


def test_a_share_of_a_round_is_weighed_by_what_its_devices_hold() -> None:
    setup = WorkSetup(loader=Numbered((600, 600, 5, 5)), model="mlp", training=TRAINING, cache=CacheSpec(most_examples=6))
    assert sorted(len(share) for share in shares(setup, job(range(4), 0.0), 2)) == [2, 2]


@pytest.mark.parametrize("data", [DataSpec(devices=40, seed=3, cache=ARRIVING), LOADER], ids=["opened", "given"])
def test_a_fleet_over_grpc_trains_on_what_the_same_devices_hold_in_process(work: LocalWork, data: Any) -> None:
    clock = [3 * DAY_S]
    described = DataSpec(seed=3, cache=ARRIVING)
    setup = FleetSetup(
        server="127.0.0.1:1", population="p", num_devices=40, data=data, described=described, order_seed=5, noise_seed=bytes(32)
    )
    fleet = FleetTraining(setup, now_s=lambda: clock[0])
    start = registry.get("mlp").init(0).astype("<f4").tobytes()
    orders = [TrainOrder(device, plan_bytes(), start) for device in range(6)]
    for at_s in (3 * DAY_S, 16 * DAY_S):
        clock[0] = at_s
        expected = [update.vector.tobytes() for update in work.updates(job(range(6), at_s))]
        assert list(fleet.train(orders)) == expected


# -- a whole run -----------------------------------------------------------------------------------------------------------------


class Noting:
    """An executor that notes when each round trained, and on which examples."""

    def __init__(self, made: Executor, monkeypatch: pytest.MonkeyPatch) -> None:
        self._made, self.rounds = made, list[tuple[float, dict[int, list[int]]]]()
        whole = DeviceCaches.examples

        def noted(caches: DeviceCaches, device: int, now_s: float) -> Sequence[Any]:
            found = whole(caches, device, now_s)
            self.rounds[-1][1][device] = numbers(found)
            return found

        monkeypatch.setattr(DeviceCaches, "examples", noted)

    def run(self, job: Job) -> Updates:
        self.rounds.append((job.at_s, {}))
        return self._made.run(job)

    def close(self) -> None:
        self._made.close()


def test_no_example_that_is_too_old_is_trained_on_in_a_whole_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Checked on each example of each device against the naive reckoning; rounds take minutes, so an hour is long here."""
    loader, opened, notes = Numbered((12,) * 60), simulation.open_executor, list[Noting]()

    def noting(*arguments: Any, **options: Any) -> Noting:
        notes.append(Noting(opened(*arguments, **options), monkeypatch))
        return notes[-1]

    monkeypatch.setattr(simulation, "open_executor", noting)
    cache = {"most_examples": 4, "longest_days": 0.02, "arrival_days": 0.05}
    spec = {**TASK, "data": {"seed": 7, "cache": cache}, "rounds": 12}
    tutti.run(spec, data=loader, store=str(tmp_path), workers=0, seed=2)
    rounds = notes[0].rounds
    assert len(rounds) == 12
    assert all(earlier[0] < later[0] for earlier, later in pairwise(rounds))
    trained, expired = 0, 0
    for at_s, devices in rounds:
        for device, kept in devices.items():
            ages = [age_days(device, number, 12, 7, 0.05, at_s / DAY_S) for number in range(12)]
            young = sorted((number for number in range(12) if ages[number] <= 0.02), key=lambda number: -ages[number])
            assert kept == young[-4:]
            trained, expired = trained + len(kept), expired + 12 - len(young)
    assert trained > 100
    assert expired > 100
