"""Canary devices: behind the real ones, otherwise real, and telling nobody their coins."""

import pickle
from pathlib import Path

import numpy as np
import pytest

from client_sim import canaries
from client_sim.canaries import Canaries, CanaryLoader
from client_sim.data import SyntheticText
from contract.errors import TuttiError
from trainer.vocabulary import public_english

WORDS = public_english(2_000).words


def _loader(**changes: object) -> CanaryLoader:
    grid = canaries.word_canaries(WORDS, seed=1, devices=[1, 4], copies=[1, 14], per_cell=2)
    coins = canaries.coin_canaries(WORDS, np.array([True, False, True]), seed=1, copies=5)
    settings: dict[str, object] = {"per_device": 20, "seed": 3, **changes}
    return CanaryLoader(base=SyntheticText(num_devices=40, seed=0), canaries=Canaries(grid=grid, coins=coins), **settings)  # type: ignore[arg-type]


def test_grid_has_as_many_held_out_canaries_as_inserted_ones_and_all_differ() -> None:
    grid = canaries.word_canaries(WORDS, seed=1, per_cell=3)
    inserted = [canary for canary in grid if canary.inserted]
    assert len(inserted) == len(grid) - len(inserted) == 27
    assert len({canary.text for canary in grid}) == len({canary.name for canary in grid}) == len(grid)
    assert all(len(canary.text.split()) == 5 for canary in grid)


def test_devices_of_the_base_are_untouched_and_canary_devices_follow() -> None:
    loader = _loader()
    assert loader.num_devices == 40 + 2 * 2 * (1 + 4) + 3
    assert loader.examples(7) == loader.base.examples(7)
    with pytest.raises(ValueError, match="is not in"):
        loader.examples(loader.num_devices)


def test_a_sharing_device_has_its_copies_and_a_real_devices_examples() -> None:
    loader = _loader()
    counted: dict[str, int] = {}
    for index in range(40, 40 + 20):
        texts = [str(example["text"]) for example in loader.examples(index)]
        owner = next(canary for canary in loader.canaries.grid if canary.text == texts[0])
        assert texts.count(owner.text) == owner.copies
        assert len(texts) <= 20
        assert owner.inserted
        counted[owner.name] = counted.get(owner.name, 0) + 1
    assert counted == {canary.name: canary.devices for canary in loader.canaries.grid if canary.inserted}


def test_no_device_has_a_held_out_canary() -> None:
    loader = _loader()
    texts = {str(example["text"]) for index in range(loader.num_devices) for example in loader.examples(index)}
    assert not texts & {canary.text for canary in loader.canaries.grid if not canary.inserted}


def test_coin_devices_train_or_not_and_take_equally_long() -> None:
    loader = _loader()
    devices = np.arange(loader.num_devices - 3, loader.num_devices)
    assert [len(loader.examples(int(index))) for index in devices] == [5, 0, 5]
    assert loader.num_examples(devices).tolist() == [5, 5, 5]


def test_counts_are_those_of_the_examples() -> None:
    loader = _loader()
    devices = np.arange(loader.num_devices - 3)
    assert loader.num_examples(devices).tolist() == [len(loader.examples(int(index))) for index in devices]


def test_digest_names_base_canaries_and_spread_and_survives_a_process() -> None:
    loader = _loader()
    assert len({loader.digest, _loader(seed=4).digest, _loader(per_device=21).digest}) == 3
    again = pickle.loads(pickle.dumps(loader))
    assert again.digest == loader.digest
    assert again.examples(45) == loader.examples(45)


def test_canaries_come_back_from_their_file(tmp_path: Path) -> None:
    import json

    found = _loader().canaries
    path = tmp_path / "canaries.json"
    path.write_text(json.dumps(canaries.to_json(found)))
    assert canaries.read(path) == found
    path.write_text("[1]")
    with pytest.raises(TuttiError, match="no canaries"):
        canaries.read(path)


def test_what_makes_no_canary_is_refused() -> None:
    with pytest.raises(ValueError, match="prefix"):
        canaries.word_canaries(WORDS, seed=0, length=2, prefix=2)
    with pytest.raises(ValueError, match="two words"):
        canaries.alphabetical(["a", "7"])
