"""The commit of a round may wait until the next round's workers train, and everything after it waits for the commit."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sqlalchemy.exc import OperationalError

from client_sim.executor import Job, Updates
from client_sim.population import make_population
from client_sim.records import ParticipationRecords
from client_sim.simulator import FleetOptions, FleetSimulator
from client_sim.timing import Effort
from contract import task
from contract.errors import ErrorCode, TuttiError
from contract.simulation import Contribution
from server import registration, tasks
from server.faults import FaultPoint
from server.orchestrator import Orchestrator
from server.pace import PaceSteering
from server.recorder import RoundRecorder
from server.registration import RunSettings
from server.store.store import Store
from server.store.values import RunState
from tutti import stores

GOAL, ROUNDS = 4, 3
TASK: dict[str, Any] = {
    "population": "test",
    "model": {"name": "mlp"},
    "cohort": {"report_goal": GOAL, "minimum_reports": GOAL},
    "privacy": {"mechanism": "tree", "clip_norm": 0.5, "noise_multiplier": 1.0, "delta": 1e-5},
    "rounds": ROUNDS,
}


class World:
    """A run under way, and what happened in which order."""

    def __init__(self, folder: str) -> None:
        self.said: list[str] = []
        self._opened = stores.opened(folder)
        self.store, keys = self._opened.__enter__()
        prepared = tasks.prepare(task.parse_mapping(TASK))
        self.dimension = prepared.model.num_parameters
        self.run = registration.register(
            store=self.store, keys=keys, prepared=prepared, settings=RunSettings(), not_covered=[], start=prepared.model.init(0)
        )
        self.rounds = Orchestrator(
            store=self.store,
            run=self.run,
            mechanism=prepared.mechanism,
            optimizer=prepared.optimizer,
            key=registration.key_of(keys, self.run),
            pace=PaceSteering(devices=100, cohort=GOAL, round_s=60.0),
            faults=self._note,
            keys=keys,
        )

    def _note(self, point: FaultPoint, index: int) -> None:
        if point in (FaultPoint.AFTER_CHARGE, FaultPoint.AFTER_COMMIT):
            self.said.append(f"{point.value} {index}")

    def close(self) -> None:
        self._opened.__exit__(None, None, None)

    def collect(self) -> None:
        position = self.rounds.position()
        assert position is not None
        self.rounds.check_in(np.full(position.cohort_target, position.opened_s))
        assert self.rounds.start(position.opened_s) is not None
        self.rounds.report(np.full(GOAL, position.opened_s))

    def contribute(self) -> None:
        self.rounds.contribute(Contribution(total=np.ones(self.dimension, np.int64), count=GOAL, metrics={}))


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(str(tmp_path))
    yield made
    made.close()


def committed(store: Store, run: str) -> int:
    return sum(row.state == "committed" for row in store.rounds(run))


def test_a_charge_is_on_the_record_at_once_and_its_outcome_when_it_is_settled(world: World) -> None:
    world.collect()
    world.contribute()
    facts = world.rounds.finish(1.0, settled=False)
    assert facts["state"] == "committed"
    assert [row.state for row in world.store.rounds(world.run.id)] == ["charged"]
    assert world.store.model(world.run.id).round == 0
    world.collect()  # the next cohort may be chosen, and its workers begin
    assert committed(world.store, world.run.id) == 0
    world.rounds.settle()
    world.rounds.settle()
    assert committed(world.store, world.run.id) == 1
    assert world.store.model(world.run.id).round == 1


def test_the_next_charge_comes_after_the_outcome_whoever_forgets_to_settle(world: World) -> None:
    for _ in range(ROUNDS):
        world.collect()
        world.contribute()
        world.rounds.finish(1.0, settled=False)
    assert world.rounds.position() is None
    assert [row.state for row in world.store.rounds(world.run.id)] == ["committed"] * ROUNDS
    assert world.store.run(world.run.id).state is RunState.COMPLETED
    kinds = [entry.kind for entry in world.store.entries(run=world.run.id)]
    assert kinds == ["run-registered", *["round-charged", "round-outcome"] * ROUNDS]


def test_what_cannot_be_committed_stays_in_the_way_of_everything_after_it(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> int:
        raise OperationalError("disk full", None, Exception())

    monkeypatch.setattr(Store, "commit_round", full)
    world.collect()
    world.contribute()
    world.rounds.finish(1.0, settled=False)
    world.collect()
    for _ in range(2):
        with pytest.raises(OperationalError):
            world.rounds.settle()
    world.contribute()
    with pytest.raises(OperationalError):
        world.rounds.finish(2.0)
    assert [row.state for row in world.store.rounds(world.run.id)] == ["charged"]
    assert world.said == ["after-charge 0"]


def test_what_could_not_be_committed_is_never_told_as_committed(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    commit, room = Store.commit_round, list[bool]()

    def full_at_first(store: Store, **row: Any) -> int:
        if not room:
            raise OperationalError("disk full", None, Exception())
        return commit(store, **row)

    monkeypatch.setattr(Store, "commit_round", full_at_first)
    world.collect()
    world.contribute()
    for _ in range(2):
        with pytest.raises(OperationalError):
            world.rounds.finish(1.0)
    with pytest.raises(OperationalError):
        world.rounds.recorded()
    room.append(True)
    assert world.rounds.finish(1.0)["state"] == "committed"
    assert committed(world.store, world.run.id) == 1


def test_a_run_that_is_paused_for_its_budget_has_settled(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.collect()
    world.contribute()
    world.rounds.finish(1.0, settled=False)

    def exhausted(*_: object, **__: object) -> None:
        raise TuttiError(ErrorCode.BUDGET_EXCEEDED, "no more")

    monkeypatch.setattr(RoundRecorder, "check_budget", exhausted)
    with pytest.raises(TuttiError, match="no more"):
        world.rounds.position()
    assert committed(world.store, world.run.id) == 1
    assert world.store.run(world.run.id).state is RunState.PAUSED


class Beginner:
    """Begins at once, and is waited for."""

    def __init__(self, world: World) -> None:
        self._world = world

    def run(self, job: Job) -> Updates:
        return self.begin(job)()

    def begin(self, job: Job) -> Callable[[], Updates]:
        self._world.said.append("training")
        count = len(job.devices)

        def wait() -> Updates:
            self._world.said.append("trained")
            total = np.zeros(self._world.dimension, np.int64)
            return Updates(total=total, count=count, metrics={}, norms_squared=np.zeros(count, np.int64))

        return wait

    def close(self) -> None: ...


def fleet(world: World, executor: Any) -> FleetSimulator:
    return FleetSimulator(
        server=world.rounds,
        population=make_population(200, 3),
        records=ParticipationRecords(num_devices=200),
        num_examples=lambda devices, _: np.full(len(devices), 20),
        executor=executor,
        options=FleetOptions(
            seed=1,
            effort=Effort(seconds_per_example=0.1, download_bytes=1, upload_bytes=1),
            diurnal=False,
            wake_interval_s=300.0,
        ),
    )


def heard(world: World, rounds: Iterator[Any]) -> list[str]:
    for trace in rounds:
        facts: Mapping[str, Any] = trace.facts
        assert committed(world.store, world.run.id) == facts["round"] + 1
        world.said.append(f"told {facts['round']}")
    return world.said


def test_a_round_is_committed_and_told_while_the_next_one_trains(world: World) -> None:
    said = heard(world, fleet(world, Beginner(world)).rounds())
    expected = ["training", "trained", "after-charge 0"]
    for index in (1, 2):
        expected += ["training", f"after-commit {index - 1}", f"told {index - 1}", "trained", f"after-charge {index}"]
    assert said == [*expected, "after-commit 2", "told 2"]


def test_who_stops_asking_gives_up_a_training_that_was_not_charged(world: World) -> None:
    rounds = fleet(world, Beginner(world)).rounds()
    for trace in rounds:
        assert trace.facts["round"] == 0
        break
    del rounds  # nobody asks any more
    assert [row.state for row in world.store.rounds(world.run.id)] == ["committed"]


def test_without_workers_of_its_own_a_round_is_committed_before_the_next_begins(world: World) -> None:
    class InThisProcess:
        def __init__(self, beginner: Beginner) -> None:
            self.run, self.close = beginner.run, beginner.close

    said = heard(world, fleet(world, InThisProcess(Beginner(world))).rounds())
    assert said[:6] == ["training", "trained", "after-charge 0", "after-commit 0", "told 0", "training"]
