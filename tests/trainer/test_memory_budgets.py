"""What training may take: lanes on an accelerator follow its memory, and what a lane is said to take is what XLA counts."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from client_sim.data import SyntheticFeatures, SyntheticSelection, SyntheticText
from trainer import LocalTrainer, memory
from trainer.batches import lane_rows
from trainer.models import get

LOADERS = {
    "mlp": SyntheticFeatures(num_devices=8, seed=1, num_held_out=1),
    "next_word": SyntheticText(num_devices=8, seed=1),
    "next_word_small": SyntheticText(num_devices=8, seed=1),
    "text_selection": SyntheticSelection(num_devices=8, seed=1),
}


@pytest.mark.parametrize("name", LOADERS)
def test_a_lane_takes_no_more_than_its_arrangement_says(name: str) -> None:
    model, lanes = get(name), 4
    examples = model.featurize([*LOADERS[name].examples(0), *LOADERS[name].examples(1)][:16])
    trainer = LocalTrainer(model=model, batch_size=16, learning_rate=0.1, lanes=lanes)
    batch, mask = lane_rows(
        [examples] * lanes, trainer._batches([examples] * lanes, [1] * lanes), 0, lanes=lanes, batch_size=16
    )
    start = {key: jnp.asarray(array) for key, array in model.unravel(model.init(0)).items()}
    totals = trainer._zero_sums(start, batch, mask)
    spread = {key: jnp.broadcast_to(array, (lanes, *array.shape)) for key, array in start.items()}
    found = trainer._step.lower(spread, totals, batch, mask).compile().memory_analysis()
    each = (found.temp_size_in_bytes + found.argument_size_in_bytes + found.output_size_in_bytes) / lanes
    assert model.arrangement.lane_mb / 3 < each / (1 << 20) <= model.arrangement.lane_mb


class Card:
    def __init__(self, limit: int | None) -> None:
        self._limit = limit

    def memory_stats(self) -> dict[str, Any] | None:
        return None if self._limit is None else {"bytes_limit": self._limit}


@pytest.mark.parametrize(("gigabytes", "lanes"), [(None, 128), (141, 128), (4, 96), (1, 24), (0.02, 1)])
def test_lanes_follow_the_memory_of_the_card(monkeypatch: pytest.MonkeyPatch, gigabytes: float | None, lanes: int) -> None:
    card = Card(None if gigabytes is None else int(gigabytes * (1 << 30)))
    monkeypatch.setattr(jax, "devices", lambda: [card])
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert LocalTrainer(model=get("next_word"), batch_size=16, learning_rate=0.1).side_by_side == lanes
    assert LocalTrainer(model=get("next_word"), batch_size=16, learning_rate=0.1, lanes=7).side_by_side == 7


def test_a_model_that_says_nothing_is_taken_to_need_sixteen_times_its_parameters() -> None:
    assert memory.lanes_within(256, 64 * 16 * 4 * 1000, lane_mb=0, num_parameters=1000, batch_size=10) == 64
    assert memory.lanes_within(256, 1, lane_mb=0, num_parameters=1000, batch_size=10) == 1


def test_fewer_updates_may_wait_without_changing_one(monkeypatch: pytest.MonkeyPatch) -> None:
    model = get("mlp")
    devices = [model.featurize(LOADERS["mlp"].examples(place % 8)) for place in range(23)]
    trainer = LocalTrainer(model=model, batch_size=10, learning_rate=0.1, lanes=5)

    def updates() -> list[bytes]:
        return [np.asarray(update).tobytes() for update, _ in trainer.train_many(model.init(0), devices, list(range(23)))]

    roomy = updates()
    monkeypatch.setattr(memory, "HELD_BYTES", 1)
    assert memory.chunks_held(8, lanes=5, num_parameters=model.num_parameters) == 1
    assert updates() == roomy
