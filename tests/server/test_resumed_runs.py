"""A run goes on with the mechanism and the key that it was registered with, or not at all."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from contract import task
from contract.errors import ErrorCode, TuttiError
from privacy import strategies
from server import registration, tasks
from server.keys import KeyDirectory, NoiseKey
from server.mechanisms import CentralMechanism
from server.recorder import RoundRecorder, sum_seal
from server.registered_strategy import as_registered
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


BLT: dict[str, Any] = {"mechanism": "blt", "bands": None}
ELSEWHERE = {"buf_decay": (0.69, 0.61), "output_scale": (0.33, 0.25)}
"""Where another optimiser might have ended."""


def _registered_blt(store: Store, keys: KeyDirectory, **strategy: Any) -> Run:
    prepared = tasks.prepare(task.replace(task.parse_mapping({**TASK, "rounds": 40}), privacy=BLT))
    assert isinstance(prepared.mechanism, CentralMechanism)
    plan = replace(prepared.mechanism.plan, strategy=strategies.buffered(**strategy))
    other = replace(prepared, mechanism=replace(prepared.mechanism, plan=plan))
    start = prepared.model.init(0)
    return registration.register(store=store, keys=keys, prepared=other, settings=RunSettings(), not_covered=[], start=start)


def test_a_run_keeps_the_strategy_that_it_was_registered_with(tmp_path: Path) -> None:
    with stores.opened(str(tmp_path)) as (store, keys):
        run = _registered_blt(store, keys, **ELSEWHERE)
        again = tasks.prepare(run.spec)
        with pytest.raises(TuttiError, match="another mechanism"):
            RoundRecorder(store, run, again.mechanism)
        kept = as_registered(store, run, again).mechanism
        RoundRecorder(store, run, kept)
        assert isinstance(kept, CentralMechanism)
        assert kept.plan.strategy == strategies.buffered(**ELSEWHERE)


def test_a_strategy_that_its_task_does_not_give_is_not_kept(tmp_path: Path) -> None:
    with stores.opened(str(tmp_path)) as (store, keys):
        run = _registered_blt(store, keys, buf_decay=(0.5,), output_scale=(0.0,))
        again = tasks.prepare(run.spec)
        with pytest.raises(TuttiError, match="another mechanism"):
            RoundRecorder(store, run, as_registered(store, run, again).mechanism)


def test_a_mechanism_that_follows_from_its_task_is_as_it_is(registered: tuple[Store, KeyDirectory, Run]) -> None:
    store, _, run = registered
    prepared = tasks.prepare(run.spec)
    assert as_registered(store, run, prepared) is prepared


def test_another_runs_key_is_refused(registered: tuple[Store, KeyDirectory, Run]) -> None:
    _, keys, run = registered
    assert registration.key_of(keys, run).id == run.noise_key_id
    keys.destroy(run.id)
    keys.create(run.id, NoiseKey(bytes(range(32))))
    with pytest.raises(TuttiError) as raised:
        registration.key_of(keys, run)
    assert raised.value.code is ErrorCode.RUN_STATE


def test_the_seal_of_a_sum_is_of_its_integers_its_leaf_and_its_key() -> None:
    narrow = np.arange(-5, 6, dtype=np.int64)
    wide = narrow + (1 << 40)
    seals = [
        sum_seal(secret, total, leaf)
        for secret in (bytes(32), bytes([1]) * 32)
        for leaf in (0, 1)
        for total in (narrow, wide, narrow[::-1], narrow[:-1], wide + (1 << 32), np.zeros(0, np.int64))
    ]
    assert len(set(seals)) == len(seals)
    assert sum_seal(bytes(32), narrow.astype(np.int64), 0) == seals[0]
    assert sum_seal(bytes(32), np.repeat(narrow, 2)[::2], 0) == seals[0]
    bound = np.array([-(1 << 31), (1 << 31) - 1])
    assert sum_seal(bytes(32), bound, 0) != sum_seal(bytes(32), bound + np.array([0, 1]), 0)
