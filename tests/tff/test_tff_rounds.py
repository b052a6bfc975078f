"""One round without noise, from the same start over the same examples: TensorFlow Federated moves the model as we do."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from client_sim.data import open_loader
from contract.task import DataSpec
from trainer import LocalTrainer, Model
from trainer.models import registry
from tutti.engines.process import EngineProcess
from tutti.engines.tff import ARRAYS, constants

pytestmark = pytest.mark.tff
RATE, BATCH = 0.3, 4


def both(
    engine: EngineProcess, name: str, *, devices: int, epochs: int, most: int
) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """The mean update of a cohort, ours and TFF's, and where the model started."""
    model: Model = registry.get(name)
    loader = open_loader(DataSpec(devices=devices, seed=7), model=name)
    examples = [model.featurize(loader.examples(device)).first(most) for device in range(devices)]
    start = model.init(3)
    trainer = LocalTrainer(
        model=model, batch_size=BATCH, epochs=epochs, max_examples=most, learning_rate=RATE, products="float32"
    )
    ours = np.mean([delta for delta, _ in trainer.train_many(start, examples, [None] * devices)], axis=0, dtype=np.float64)
    read = [{key: each.arrays[key] for key in ARRAYS[name] if key in each.arrays} for each in examples]
    facts = {
        "model": {
            "name": name,
            "shapes": {key: list(shape) for key, shape in model.shapes.items()},
            "specs": {key: [array.dtype.str, list(array.shape[1:])] for key, array in read[0].items()},
        },
        "learning_rate": RATE,
        "server": {"optimizer": "sgd", "learning_rate": 1.0, "momentum": 0.0},
        "aggregation": {"kind": "none"},
    }
    engine.call("build", facts, {"parameters": start, **constants(model)})
    rows = [each.num_examples for each in examples]
    arrays = {key: np.concatenate([np.concatenate([arrays[key]] * epochs) for arrays in read]) for key in read[0]}
    moved = engine.call("round", {"rows": rows, "epochs": epochs, "batch_size": BATCH}, arrays)[1]["parameters"]
    return ours, moved.astype(np.float64) - start, start


@pytest.mark.parametrize(
    ("name", "devices", "epochs", "most"),
    [("mlp", 12, 3, 20), ("next_word_small", 6, 2, 12), ("text_selection", 4, 1, 9), ("next_word", 2, 1, 5)],
)
def test_updates_agree_to_float_tolerance(engine: EngineProcess, name: str, devices: int, epochs: int, most: int) -> None:
    ours, theirs, start = both(engine, name, devices=devices, epochs=epochs, most=most)
    assert np.linalg.norm(ours) > 0
    # Sums of float32 in another order, and TFF's answer is start plus update, rounded to 24 bits.
    rounding = 2.0**-24
    assert np.linalg.norm(ours - theirs) <= 2e-5 * np.linalg.norm(ours) + rounding * np.linalg.norm(start)
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=2e-5 * np.abs(ours).max() + rounding * np.abs(start).max())
