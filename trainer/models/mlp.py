"""`mlp`: one hidden ReLU layer, 784-64-62, the small model of the field's benchmarks (54,270 parameters)."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from trainer.model import Arrangement, Array, Batch, DeviceExamples, Example, FloatVector, Model, Params, Sums


def build(inputs: int = 784, hidden: int = 64, classes: int = 62) -> Model:
    """A multilayer perceptron over examples `{"x": inputs floats, "y": class}`.

    Raises:
      ValueError: for a size below 1.

    >>> build().num_parameters
    54270
    """
    for name, size in (("inputs", inputs), ("hidden", hidden), ("classes", classes)):
        if size < 1:
            raise ValueError(f"{name} must be at least 1, not {size}")

    def initial(generator: np.random.Generator) -> dict[str, NDArray[np.float64]]:
        return {
            "W1": generator.standard_normal((inputs, hidden)) / np.sqrt(inputs),
            "b1": np.zeros(hidden),
            "W2": generator.standard_normal((hidden, classes)) / np.sqrt(hidden),
            "b2": np.zeros(classes),
        }

    def featurize(examples: Sequence[Example]) -> DeviceExamples:
        return _featurize(examples, inputs, classes)

    return Model(
        name="mlp",
        shapes={"W1": (inputs, hidden), "b1": (hidden,), "W2": (hidden, classes), "b2": (classes,)},
        initial=initial,
        featurize=featurize,
        loss=_loss,
        arrangement=Arrangement(lanes=5, eval_rows=500),
    )


def _featurize(examples: Sequence[Example], inputs: int, classes: int) -> DeviceExamples:
    x = _rows([example["x"] for example in examples], inputs)
    labels = [int(example["y"]) for example in examples]
    for row, label in enumerate(labels):
        if not 0 <= label < classes:
            raise ValueError(f"example {row}: y must lie in 0..{classes - 1}, not {label}")
    finite = np.isfinite(x)
    if not finite.all():
        raise ValueError(f"example {int(np.argmin(finite.all(axis=1)))}: x must hold {inputs} finite numbers")
    return DeviceExamples({"x": x, "y": np.array(labels, np.int32)})


def _rows(features: Sequence[Any], inputs: int) -> FloatVector:
    """Features of any shape with `inputs` numbers as the rows of one array, float32 of shape (n, inputs)."""
    try:
        x = np.array(features, np.float32)  # all at once, where they are alike
    except ValueError:
        x = np.empty(0, np.float32)
    if len(x) == len(features) and x.size == len(features) * inputs:
        return x.reshape(-1, inputs)
    rows = [np.asarray(one, np.float32).reshape(-1) for one in features]
    for row, values in enumerate(rows):
        if values.size != inputs:
            raise ValueError(f"example {row}: x must hold {inputs} finite numbers, not {values.size}")
    return np.stack(rows)


def _loss(params: Params, batch: Batch, mask: Array) -> tuple[Array, Sums]:
    hidden = jax.nn.relu(batch["x"] @ params["W1"] + params["b1"])
    logits = hidden @ params["W2"] + params["b2"]
    log_probabilities = jax.nn.log_softmax(logits)
    picked = jnp.take_along_axis(log_probabilities, batch["y"][:, None], axis=1)[:, 0]
    loss = -jnp.sum(picked * mask)
    targets = jnp.sum(mask)
    right = (jnp.argmax(logits, axis=1) == batch["y"]) & jnp.isfinite(picked)  # a model that diverged is never right
    correct = jnp.sum(mask * right)
    return loss / jnp.maximum(targets, 1.0), {"loss": loss, "targets": targets, "accuracy": correct}
