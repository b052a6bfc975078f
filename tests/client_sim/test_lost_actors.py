"""What the executor on Ray does with shares and lost actors, against a Ray that is played in this process."""

from typing import Any

import numpy as np
import pytest

from client_sim import ray_executor
from client_sim.data import SyntheticFeatures
from client_sim.executor import Job
from client_sim.local_work import LocalWork, WorkSetup, add_up
from client_sim.ray_executor import RayExecutor
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


class ActorLost(Exception):
    """As Ray's."""


class PlayedRay:
    """As much of Ray as the executor uses; the first `lost` shares are lost with the actor that had them."""

    def __init__(self, lost: int) -> None:
        self.lost, self.started, self.shares = lost, 0, list[int]()
        self.exceptions = type("exceptions", (), {"RayActorError": ActorLost})

    def is_initialized(self) -> bool:
        return True

    def put(self, value: Any) -> Any:
        return value

    def kill(self, actor: Any) -> None: ...

    def get(self, waiting: Any) -> Any:
        return [one() for one in waiting] if isinstance(waiting, list) else waiting()

    def remote(self, **_options: Any) -> Any:
        played = self

        class Handle:
            def __init__(self, made: Any) -> None:
                self._made = made

            def __getattr__(self, name: str) -> Any:
                def call(*arguments: Any) -> Any:
                    def answer() -> Any:
                        if name == "train":
                            played.shares.append(len(arguments[1][1]))
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


def executor(monkeypatch: pytest.MonkeyPatch, *, lost: int, actors: int = 2) -> tuple[RayExecutor, PlayedRay]:
    played = PlayedRay(lost)
    monkeypatch.setattr(ray_executor, "_ray", lambda: played)
    monkeypatch.setattr(ray_executor.os, "sched_setaffinity", lambda *_: None)
    return RayExecutor(SETUP, num_actors=actors), played


@pytest.mark.parametrize("lost", [0, 1, 2])
def test_a_lost_share_is_done_anew_and_counts_once(monkeypatch: pytest.MonkeyPatch, lost: int) -> None:
    expected = add_up(LocalWork(SETUP), job(100), np.zeros(DIMENSION, np.int64))
    made, played = executor(monkeypatch, lost=lost)
    found = made.run(job(100))
    assert np.array_equal(found.total, expected.total)
    assert found.count == 100
    assert np.array_equal(found.norms_squared, expected.norms_squared)
    assert played.started == 2 + lost


def test_a_share_that_is_lost_every_time_ends_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    made, played = executor(monkeypatch, lost=99)
    with pytest.raises(TuttiError, match="3 times") as caught:
        made.run(job(100))
    assert caught.value.code is ErrorCode.INTERNAL
    assert len(played.shares) == 3


def test_an_actor_gets_at_least_fifty_devices_or_none(monkeypatch: pytest.MonkeyPatch) -> None:
    made, played = executor(monkeypatch, lost=0)
    made.run(job(99))
    assert played.shares == [99]
