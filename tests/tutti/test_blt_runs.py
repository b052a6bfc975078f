"""A whole run with BLT noise: its record verifies, its strategy included, and it goes on with the strategy that it began with."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import tutti
from privacy import blt_optimum
from privacy.blt_optimum import Optimum
from server.store.crosscheck import verify_store
from server.tasks import model_length
from tutti import runs, stores
from tutti.playing import Progress

TASK: dict[str, Any] = {
    "name": "blt", "population": "test", "model": {"name": "mlp"}, "data": {"source": "synthetic", "devices": 120}, "rounds": 4,
    "cohort": {"report_goal": 6, "over_selection": 1.5, "minimum_reports": 4, "minimum_separation": 1},
    "training": {"batch_size": 10, "max_examples": 10, "learning_rate": 0.1},
    "privacy": {"mechanism": "blt", "clip_norm": 0.5, "noise_multiplier": 2.0, "delta": 1e-5},
}  # fmt: skip


def test_a_run_goes_on_with_its_own_strategy_where_the_optimiser_ends_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pausing: Callable[[Path], Progress]
) -> None:
    whole = tutti.run(TASK, store=str(tmp_path / "whole"), workers=0, seed=1, seed_noise=2)
    paused = tutti.run(TASK, store=str(tmp_path), workers=0, seed=1, seed_noise=2, progress=pausing(tmp_path))
    assert paused["rounds"] == 2
    as_it_is = blt_optimum.optimum

    def elsewhere(*given: Any, **named: Any) -> Optimum:
        found = as_it_is(*given, **named)
        return dataclasses.replace(found, output_scale=tuple(0.999 * scale for scale in found.output_scale))

    monkeypatch.setattr(blt_optimum, "optimum", elsewhere)
    assert runs.resume("latest", store=str(tmp_path), workers=0)["model_digest"] == whole["model_digest"]
    with stores.opened(str(tmp_path)) as (database, _):
        key = stores.ledger_key(str(tmp_path)).verifier()
        assert verify_store(database, key=key, length_of=model_length).problems == ()
        events = [facts["event"] for entry in database.entries() if "event" in (facts := json.loads(entry.body))]
    assert len(events) == 8
    assert len({(*event["buf_decay"], *event["output_scale"]) for event in events}) == 1
