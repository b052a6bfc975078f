"""What the executor on Ray does with shares and lost actors, against a Ray that is played in this process."""

import socket
import sys
from typing import Any

import numpy as np
import pytest

from client_sim import ray_cluster, ray_executor
from client_sim.data import SyntheticFeatures
from client_sim.executor import Job
from client_sim.local_work import LocalWork, WorkSetup, add_up
from client_sim.ray_executor import RayExecutor, Seat
from contract import plan
from contract.errors import ErrorCode, TuttiError
from contract.task import TrainingSpec
from privacy import grid
from trainer.models import registry

DIMENSION = registry.get("mlp").num_parameters
SETUP = WorkSetup(
    loader=SyntheticFeatures(num_devices=120, seed=3, num_held_out=1),
    model="mlp",
    training=TrainingSpec(batch_size=10, max_examples=20, learning_rate=0.1),
)


class RayFault(Exception):
    """As Ray's."""


class ActorLost(RayFault):
    """As Ray's."""


class TookTooLong(RayFault):
    """As Ray's."""


class PlayedRay:
    """As much of Ray as the executor uses; the first `lost` shares are lost with the actor that had them, and an actor that is
    called for after `room` others never starts.
    """

    def __init__(self, lost: int, room: int = 99) -> None:
        self.lost, self.room, self.started, self.killed, self.shares = lost, room, 0, 0, list[int]()
        self.seats = list[Seat]()
        kinds = {"RayError": RayFault, "RayActorError": ActorLost, "ObjectLostError": ActorLost, "GetTimeoutError": TookTooLong}
        self.exceptions = type("exceptions", (), kinds)

    def is_initialized(self) -> bool:
        return True

    def cluster_resources(self) -> dict[str, float]:
        return {"CPU": 4.0}

    def available_resources(self) -> dict[str, float]:
        return {"CPU": 3.0}

    def put(self, value: Any) -> Any:
        return value

    def kill(self, actor: Any) -> None:
        self.killed += 1

    def get(self, waiting: Any, timeout: float | None = None) -> Any:
        if timeout is not None and self.started > self.room:
            raise TookTooLong
        return [one() for one in waiting] if isinstance(waiting, list) else waiting()

    def remote(self, **_options: Any) -> Any:
        played = self

        class Handle:
            def __init__(self, made: Any) -> None:
                self._made = made

            def __getattr__(self, name: str) -> Any:
                def call(*arguments: Any) -> Any:
                    def answer() -> Any:
                        if name == "seat" and played.seats:
                            return played.seats.pop(0)
                        if name == "train":
                            played.shares.append(len(arguments[1].devices))
                            if played.lost:
                                played.lost -= 1
                                raise ActorLost
                        return getattr(self._made, name)(*arguments)

                    return answer

                return type("method", (), {"remote": staticmethod(call)})

        def make(*arguments: Any) -> Any:
            played.started += 1
            return Handle(ray_executor.Actor(*arguments))

        return lambda _class: type("class_", (), {"remote": staticmethod(make)})


def job(count: int) -> Job:
    encoding = grid.plan(dimension=DIMENSION, clip_norm=1.0).to_json()
    outputs = (plan.Output(name="delta", length=DIMENSION, aggregated=True),)
    facts: dict[str, Any] = {"task": {}, "run": "r", "round_index": 0, "leaf": 0, "model_digest": ""}
    encoded = plan.encode(plan.Plan(**facts, encoding=encoding, outputs=outputs))
    parameters = registry.get("mlp").init(0)
    return Job(plan=encoded, parameters=parameters, devices=np.arange(count), order_seed=5, noise_seed=bytes(32))


def executor(monkeypatch: pytest.MonkeyPatch, played: PlayedRay, *, actors: int | None = 2) -> tuple[RayExecutor, list[int]]:
    """On `played`; and the cores on which its actors stay, in the order in which they began."""
    pinned: list[int] = []
    monkeypatch.setattr(ray_cluster, "load", lambda *, own: played)
    monkeypatch.setattr(ray_executor.os, "sched_setaffinity", lambda _, cores: pinned.extend(cores))
    return RayExecutor(SETUP, num_actors=actors), pinned


@pytest.mark.parametrize("lost", [0, 1, 2])
def test_a_lost_share_is_done_anew_and_counts_once(monkeypatch: pytest.MonkeyPatch, lost: int) -> None:
    expected = add_up(LocalWork(SETUP), job(100), np.zeros(DIMENSION, np.int64))
    played = PlayedRay(lost)
    made, _ = executor(monkeypatch, played)
    found = made.run(job(100))
    assert np.array_equal(found.total, expected.total)
    assert found.count == 100
    assert np.array_equal(found.norms_squared, expected.norms_squared)
    assert (played.started, played.killed) == (2 + lost, lost)


def test_a_share_that_is_lost_every_time_ends_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    played = PlayedRay(lost=99)
    made, _ = executor(monkeypatch, played)
    with pytest.raises(TuttiError, match="3 times") as caught:
        made.run(job(100))
    assert caught.value.code is ErrorCode.INTERNAL
    assert len(played.shares) == 3


def test_a_cluster_without_room_for_a_successor_ends_the_run_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    made, _ = executor(monkeypatch, PlayedRay(lost=1, room=2))
    with pytest.raises(TuttiError, match="3 CPUs of the cluster are free") as caught:
        made.run(job(100))
    assert caught.value.code is ErrorCode.UNAVAILABLE


def test_an_actor_gets_at_least_fifty_devices_or_none(monkeypatch: pytest.MonkeyPatch) -> None:
    played = PlayedRay(lost=0)
    made, _ = executor(monkeypatch, played)
    made.run(job(99))
    assert played.shares == [99]


def test_more_actors_than_the_cluster_has_processors_are_refused_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    played = PlayedRay(lost=0)
    with pytest.raises(TuttiError, match="the Ray cluster has 4 CPUs") as caught:
        executor(monkeypatch, played, actors=5)
    assert caught.value.code is ErrorCode.ARGUMENT_INVALID
    assert played.started == 0


def test_without_a_number_there_is_an_actor_for_each_free_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    played = PlayedRay(lost=0)
    executor(monkeypatch, played, actors=None)
    assert played.started == 3


def test_actors_of_one_machine_stay_on_different_cores_wherever_ray_puts_them(monkeypatch: pytest.MonkeyPatch) -> None:
    played = PlayedRay(lost=1)
    here = ray_executor.seat().versions
    first, second = Seat("first", (4, 5), here), Seat("second", (0, 1), here)
    played.seats = [first, second, first, second, first]
    made, pinned = executor(monkeypatch, played, actors=4)
    assert pinned == [4, 0, 5, 1]
    made.run(job(100))
    assert pinned[4:] == [4]


def test_a_machine_with_other_versions_is_refused_because_its_sums_would_differ(monkeypatch: pytest.MonkeyPatch) -> None:
    played = PlayedRay(lost=0)
    played.seats = [Seat("first", (0,), ("Python 3.11.7", "jax 0.1"))]
    with pytest.raises(TuttiError, match=r"jax 0\.1, this process on") as caught:
        executor(monkeypatch, played)
    assert caught.value.code is ErrorCode.ARGUMENT_INVALID
    assert played.killed == 2


def test_an_address_where_nobody_listens_is_named_at_once() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    with pytest.raises(TuttiError, match=f"no Ray cluster at {address}") as caught:
        ray_cluster.join(PlayedRay(lost=0), address)
    assert caught.value.code is ErrorCode.UNAVAILABLE


def test_ray_that_was_imported_too_early_to_be_told_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    class Early(PlayedRay):
        def is_initialized(self) -> bool:
            return False

    monkeypatch.setitem(sys.modules, "ray", Early(lost=0))
    monkeypatch.delenv("RAY_AUTH_TOKEN", raising=False)
    with pytest.raises(TuttiError, match="imported before") as caught:
        ray_cluster.load(own=True)
    assert caught.value.code is ErrorCode.ARGUMENT_INVALID
    monkeypatch.setenv("RAY_AUTH_TOKEN", "told")
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    for name in ("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "RAY_ENABLE_UV_RUN_RUNTIME_ENV", "RAY_USAGE_STATS_ENABLED"):
        monkeypatch.setenv(name, "0")
    assert ray_cluster.load(own=True) is sys.modules["ray"]
