"""Measures a model on examples: fixed chunks, sums on the accelerator, one summary."""

import functools
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from numpy.typing import NDArray

from trainer.model import DeviceExamples, FloatVector, Model, concatenate


def evaluate(model: Model, params: FloatVector, devices: Sequence[DeviceExamples]) -> dict[str, float]:
    """The model's metrics over all examples of `devices`, every counted target weighing the same.

    Args:
      params: float32, shape (d,).

    Raises:
      ValueError: if no example is given, or `params` has another shape than (d,).
    """
    examples = concatenate([device for device in devices if device.num_examples])
    tree = jax.device_put(model.unravel(params))
    measure = _compiled(model)
    totals: dict[str, float] = {}
    for first in range(0, examples.num_examples, model.arrangement.eval_rows):
        batch, mask = padded_rows(examples, first, model.arrangement.eval_rows)
        sums = measure(tree, batch if model.prepare is None else model.prepare(batch, mask), mask)
        for name, value in sums.items():
            totals[name] = totals.get(name, 0.0) + float(value)
    summary = {name: np.float64(value) for name, value in totals.items()}
    return model.summarise(summary)  # pyright: ignore[reportArgumentType] float64 sums stand in for JAX scalars


def padded_rows(examples: DeviceExamples, first: int, rows: int) -> tuple[dict[str, NDArray[Any]], FloatVector]:
    """`rows` examples from `first` on, filled up with zeros, and the mask that is 1 where they are real."""
    real = min(rows, examples.num_examples - first)
    batch = {
        name: np.concatenate([array[first : first + real], np.zeros((rows - real, *array.shape[1:]), array.dtype)])
        for name, array in examples.arrays.items()
    }
    return batch, (np.arange(rows) < real).astype(np.float32)


@functools.lru_cache(maxsize=64)
def _compiled(model: Model) -> Any:
    return jax.jit(model.evaluation_sums)
