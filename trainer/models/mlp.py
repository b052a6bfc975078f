"""`mlp`: one hidden ReLU layer, 784-64-62, the small model of the field's benchmarks (54,270 parameters)."""

from collections.abc import Callable, Sequence
from typing import Any, cast

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
        whole=_whole,
        arrangement=Arrangement(lanes=10, eval_rows=500, lane_mb=1, whole_steps=4),
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
    return _head(batch["x"] @ params["W1"] + params["b1"], {"W2": params["W2"], "b2": params["b2"]}, batch["y"], mask)


def _head(before: Array, head: Params, labels: Array, mask: Array) -> tuple[Array, Sums]:
    """The loss from what the hidden layer is given, shape (rows, hidden)."""
    logits = jax.nn.relu(before) @ head["W2"] + head["b2"]
    classes = jnp.arange(logits.shape[1])
    # Sums and minima over a row instead of an index into it: a processor has vectors for them, and no gradient that scatters.
    picked = jnp.sum(jnp.where(labels[:, None] == classes, jax.nn.log_softmax(logits), 0.0), axis=1)
    loss = -jnp.sum(picked * mask)
    targets = jnp.sum(mask)
    best = jnp.min(jnp.where(logits == logits.max(axis=1, keepdims=True), classes, len(classes)), axis=1)
    right = (best == labels) & jnp.isfinite(picked)  # a model that diverged is never right
    correct = jnp.sum(mask * right)
    return loss / jnp.maximum(targets, 1.0), {"loss": loss, "targets": targets, "accuracy": correct}


def _whole(start: Params, batch: Batch, mask: Array, learning_rate: float) -> tuple[Params, Sums]:
    """Several steps without W1 between them.

    A step adds x^T m to W1 and 1^T m to b1, where x is its batch and m, shape (rows, hidden), minus the learning rate times the loss's
    gradient for what the hidden layer was given. A later batch x' meets that as (x' x^T + 1) m, which is far smaller than W1.
    """
    x, first = batch["x"], {name: start[name] for name in ("W2", "b2")}
    flat = x.reshape(-1, x.shape[-1])
    before = (flat @ start["W1"] + start["b1"]).reshape(*mask.shape, -1)
    head, moves, totals = first, list[Array](), dict[str, Array]()
    descend = cast(Callable[..., tuple[tuple[Array, Params], Sums]], jax.grad(_head, argnums=(0, 1), has_aux=True))
    for step in range(mask.shape[0]):
        met = before[step]
        for earlier, move in enumerate(moves):
            met = met + (x[step] @ x[earlier].T + 1.0) @ move
        (given, slope), sums = descend(met, head, batch["y"][step], mask[step])
        moves.append(-learning_rate * given)
        head = {name: head[name] - learning_rate * slope[name] for name in head}
        totals = {name: totals.get(name, 0.0) + value for name, value in sums.items()}
    moved = jnp.concatenate(moves)
    update = {"W1": flat.T @ moved, "b1": moved.sum(axis=0), **{name: head[name] - first[name] for name in head}}
    return update, totals
