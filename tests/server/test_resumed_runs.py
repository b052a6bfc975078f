"""A run goes on with the mechanism and the key that it was registered with, or not at all."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from contract import task
from contract.errors import ErrorCode, TuttiError
from server import registration, tasks
from server.keys import KeyDirectory, NoiseKey
from server.recorder import RoundRecorder
from server.registration import RunSettings
from server.store.store import Store
from server.store.values import Run
from tutti import stores

TASK: dict[str, Any] = {
    "population": "test",
    "model": {"name": "mlp"},
    "cohort": {"report_goal": 20, "minimum_separation": 3},
    "privacy": {"mechanism": "banded", "bands": 4, "clip_norm": 0.5, "noise_multiplier": 1.0, "delta": 1e-5},
    "rounds": 8,
}


@pytest.fixture
def registered(tmp_path: Path) -> Iterator[tuple[Store, KeyDirectory, Run]]:
    """A run on the record, not yet played."""
    with stores.opened(str(tmp_path)) as (store, keys):
        prepared = tasks.prepare(task.parse_mapping(TASK))
        run = registration.register(
            store=store, keys=keys, prepared=prepared, settings=RunSettings(), not_covered=[], start=prepared.model.init(0)
        )
        yield store, keys, run


def test_another_strategy_may_not_go_on(registered: tuple[Store, KeyDirectory, Run]) -> None:
    store, _, run = registered
    RoundRecorder(store, run, tasks.prepare(run.spec).mechanism)
    other = tasks.prepare(task.replace(run.spec, privacy={"bands": 3})).mechanism
    with pytest.raises(TuttiError) as raised:
        RoundRecorder(store, run, other)
    assert raised.value.code is ErrorCode.RUN_STATE


def test_another_runs_key_is_refused(registered: tuple[Store, KeyDirectory, Run]) -> None:
    _, keys, run = registered
    assert registration.key_of(keys, run).id == run.noise_key_id
    keys.destroy(run.id)
    keys.create(run.id, NoiseKey(bytes(range(32))))
    with pytest.raises(TuttiError) as raised:
        registration.key_of(keys, run)
    assert raised.value.code is ErrorCode.RUN_STATE
