"""The next-word models' own step of SGD against their loss differentiated."""

import dataclasses

import jax
import numpy as np
import pytest

from contract.randomness import stream
from trainer import DeviceExamples, LocalTrainer
from trainer.models import get

MODEL = get("next_word", words=400, width=6, units=9)


def devices() -> list[DeviceExamples]:
    generator = stream(5, "devices")
    made: list[DeviceExamples] = []
    for n in (7, 1, 12):
        counted = generator.random((n, 20)) < 0.6
        made.append(DeviceExamples({"tokens": generator.integers(0, 400, (n, 21), np.int32), "counted": counted}))
    return [*made, DeviceExamples({"tokens": np.zeros((2, 21), np.int32), "counted": np.zeros((2, 20), bool)})]


def trained(rate: float, *, own_step: bool) -> list[tuple[np.ndarray, dict[str, float]]]:
    model = MODEL if own_step else dataclasses.replace(MODEL, descent=None)
    trainer = LocalTrainer(model=model, batch_size=4, learning_rate=rate, lanes=1)
    return list(trainer.train_many(MODEL.init(3), devices(), [1, 2, 3, 4]))


def test_own_step_gives_the_updates_and_metrics_of_the_differentiated_loss() -> None:
    if jax.default_backend() != "cpu":
        pytest.skip("the model's own step is for processors")
    for (mine, counts), (theirs, expected) in zip(trained(0.3, own_step=True), trained(0.3, own_step=False), strict=True):
        np.testing.assert_allclose(mine, theirs, atol=2e-6)
        assert counts == pytest.approx(expected, rel=1e-5, nan_ok=True)


def test_arranged_parameters_are_restored_as_they_were() -> None:
    assert MODEL.descent is not None
    params = MODEL.unravel(MODEL.init(1))
    restored = MODEL.descent.restore(MODEL.descent.arrange({name: jax.device_put(array) for name, array in params.items()}))
    assert restored.keys() == params.keys()
    for name, array in params.items():
        np.testing.assert_array_equal(restored[name], array)
