"""A task as a TFF learning process: built once, stepped round by round."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_federated as tff

from tff_engine import aggregators, models

SECURE_KINDS = ("distributed", "secure")


@dataclass
class Process:
    """A learning process and its state."""

    model: models.Built
    process: Any
    state: Any

    def round(
        self, arrays: Mapping[str, np.ndarray[Any, Any]], *, rows: Sequence[int], epochs: int, batch_size: int
    ) -> tuple[dict[str, float], np.ndarray[Any, Any]]:
        """One round over the clients whose examples stand one after another in `arrays`.

        Args:
          arrays: name -> array, the examples of all clients, each client's epochs one after another.
          rows: how many examples each client has in one epoch.

        Returns:
          What TFF measured, and the parameters after the round, float32 of shape (d,).
        """
        datasets, start = [], 0
        for count in rows:
            stop = start + epochs * count
            datasets.append(self._dataset({key: array[start:stop] for key, array in arrays.items()}, count, epochs, batch_size))
            start = stop
        output = self.process.next(self.state, datasets)
        self.state = output.state
        weights = self.process.get_model_weights(output.state).trainable
        return numbers(output.metrics), self.model.flat(weights)

    def _dataset(self, arrays: Mapping[str, np.ndarray[Any, Any]], count: int, epochs: int, batch_size: int) -> Any:
        whole: Any = None
        for epoch in range(epochs):
            part = {key: array[epoch * count : (epoch + 1) * count] for key, array in arrays.items()}
            batches = tf.data.Dataset.from_tensor_slices(part).batch(batch_size)
            whole = batches if whole is None else whole.concatenate(batches)
        return whole.map(self.model.network.split)


def build(asked: Mapping[str, Any], arrays: Mapping[str, np.ndarray[Any, Any]]) -> tuple[Process, dict[str, Any]]:
    """The process of a task, and what TFF's own static check says of it.

    Args:
      asked: `model` (name, shapes, specs), `learning_rate`, `server` (optimizer, learning_rate, momentum), `aggregation`.
      arrays: `parameters`, float32 (d,), and the model's constants.

    Raises:
      ValueError: for a secure task whose compiled computation aggregates anything in the clear.
    """
    kind = asked["aggregation"]["kind"]
    secure = kind in SECURE_KINDS
    set_context(secure=secure)
    model = models.build(
        asked["model"]["name"],
        shapes=asked["model"]["shapes"],
        parameters=arrays["parameters"],
        specs=asked["model"]["specs"],
        constants={name: array for name, array in arrays.items() if name != "parameters"},
        metrics=not secure,
    )
    specs = tuple(tf.TensorSpec(shape, tf.float32) for shape in model.shapes.values())
    options = {
        "client_optimizer_fn": tff.learning.optimizers.build_sgdm(asked["learning_rate"]),
        "server_optimizer_fn": _server_optimizer(asked["server"]),
        "model_aggregator": aggregators.mean_factory(asked["aggregation"], specs),
    }
    if kind == "weighted":
        process = tff.learning.algorithms.build_weighted_fed_avg(model.functional, **options)
    else:
        process = tff.learning.algorithms.build_unweighted_fed_avg(model.functional, **options)
    found = static_check(process.next)
    if secure and not (found["secure"] and not found["unsecure"]):
        raise ValueError(f"TFF's static check refuses the secure task: {found}")
    return Process(model, process, process.initialize()), {"aggregations": found}


def set_context(*, secure: bool) -> None:
    """Chooses where computations run: TFF's C++ runtime knows no secure sum, so that those run in its test backend, in the clear."""
    if secure:
        tff.backends.test.set_sync_test_cpp_execution_context()
    else:
        tff.backends.native.set_sync_local_cpp_execution_context()


def static_check(computation: Any) -> dict[str, bool]:
    """Which kinds of aggregation TFF's own assertions find in a compiled computation."""
    return {
        "secure": _holds(tff.test.assert_contains_secure_aggregation, computation),
        "unsecure": _holds(tff.test.assert_contains_unsecure_aggregation, computation),
    }


def _holds(assertion: Any, computation: Any) -> bool:
    try:
        assertion(computation)
    except AssertionError:
        return False
    return True


def _server_optimizer(asked: Mapping[str, Any]) -> Any:
    optimizers, rate = tff.learning.optimizers, asked["learning_rate"]
    if asked["optimizer"] == "sgd":
        return optimizers.build_sgdm(rate, asked["momentum"] or None)
    if asked["optimizer"] == "adam":
        return optimizers.build_adam(rate, beta_1=asked["beta_1"], beta_2=asked["beta_2"], epsilon=asked["epsilon"])
    if asked["optimizer"] == "yogi":
        return optimizers.build_yogi(
            rate,
            beta_1=asked["beta_1"],
            beta_2=asked["beta_2"],
            epsilon=asked["epsilon"],
            initial_preconditioner_value=1e-6,
        )
    raise ValueError(f"no server optimizer of this engine is called {asked['optimizer']!r}")


def numbers(metrics: Any, prefix: str = "") -> dict[str, float]:
    """All numbers of TFF's nested metrics, under their path."""
    found: dict[str, float] = {}
    if hasattr(metrics, "_asdict"):
        metrics = metrics._asdict()
    if isinstance(metrics, Mapping):
        for key, value in metrics.items():
            found |= numbers(value, f"{prefix}/{key}" if prefix else str(key))
    elif np.ndim(metrics) == 0 and np.issubdtype(np.asarray(metrics).dtype, np.number):
        found[prefix] = float(metrics)
    return found
