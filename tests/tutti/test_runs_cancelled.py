"""`tutti runs cancel` and `pause`: a run that is over stays over, and its noise key goes with it."""

from pathlib import Path

import pytest

from contract import task
from contract.errors import ErrorCode, TuttiError
from server import registration, tasks
from server.registration import RunSettings
from server.store.values import RunState
from tutti import stores
from tutti.commands import inspect

TASK = {
    "population": "test",
    "model": {"name": "mlp"},
    "cohort": {"report_goal": 20},
    "privacy": {"mechanism": "tree", "clip_norm": 0.5, "noise_multiplier": 1.0, "delta": 1e-5},
    "rounds": 8,
}


def test_a_cancelled_run_has_no_noise_key(tmp_path: Path) -> None:
    with stores.opened(str(tmp_path)) as (database, keys):
        prepared = tasks.prepare(task.parse_mapping(TASK))
        run = registration.register(
            store=database, keys=keys, prepared=prepared, settings=RunSettings(), not_covered=[], start=prepared.model.init(0)
        )
        keys.read(run.id)
    inspect.cancel(run.id, store=str(tmp_path))
    with stores.opened(str(tmp_path)) as (database, keys), pytest.raises(TuttiError):
        keys.read(run.id)
    with pytest.raises(TuttiError) as raised:
        inspect.pause(run.id, store=str(tmp_path))
    assert raised.value.code is ErrorCode.RUN_STATE
    with stores.opened(str(tmp_path)) as (database, _):
        assert database.run(run.id).state is RunState.CANCELLED
