"""A simulation that is resumed meets its devices when it would have: the server's clock goes on where the fleet's does."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import tutti
from tutti import runs, stores
from tutti.playing import Progress

TASK: dict[str, Any] = {
    "name": "clock", "population": "test", "model": {"name": "mlp"}, "data": {"source": "synthetic", "devices": 60}, "rounds": 5,
    "cohort": {"report_goal": 6, "over_selection": 1.5, "minimum_reports": 4, "minimum_separation": 1},
    "training": {"batch_size": 10, "max_examples": 10, "learning_rate": 0.1},
    "privacy": {"mechanism": "tree", "clip_norm": 0.5, "noise_multiplier": 2.0, "delta": 1e-5},
}  # fmt: skip
SEEN = ("virtual_s", "selection_s", "cohort", "check_ins", "shapes")


def _rounds(store: Path) -> list[dict[str, Any]]:
    with stores.opened(str(store)) as (database, _):
        rows = database.rounds(database.run("latest").id)
    return [{"model": row.model_digest, **{name: row.facts.get(name) for name in SEEN}} for row in rows]


def test_a_paused_run_selects_in_later_rounds_as_the_whole_one_does(
    tmp_path: Path, pausing: Callable[[Path], Progress]
) -> None:
    whole, paused = tmp_path / "whole", tmp_path / "paused"
    tutti.run(TASK, store=str(whole), workers=0, seed=1, seed_noise=2)
    assert tutti.run(TASK, store=str(paused), workers=0, seed=1, seed_noise=2, progress=pausing(paused))["rounds"] == 2
    assert runs.resume("latest", store=str(paused), workers=0)["rounds"] == 5
    assert _rounds(paused) == _rounds(whole)
