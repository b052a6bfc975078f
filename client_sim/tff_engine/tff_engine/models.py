"""The house's models once more, written for TensorFlow, so that neither can be wrong in the way of the other.

Parameters are named arrays in the order in which the caller names them; a flat float32 vector is all of them in that order.
"""

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import tensorflow as tf
import tensorflow_federated as tff

from tff_engine import selection


class Network(Protocol):
    """What a model computes. `weights` are by name; `x` and `y` are what `split` makes of a batch of the device's arrays."""

    hits: str
    """What the share of right answers is called."""

    def split(self, batch: Mapping[str, Any]) -> tuple[Any, Any]: ...

    def predict(self, weights: Mapping[str, Any], x: Any) -> Any: ...

    def losses(self, output: Any, y: Any) -> tuple[Any, Any, Any]:
        """Sum of the losses, number of targets, number of hits; float32 scalars."""
        ...


class Mlp:
    """One hidden ReLU layer."""

    hits = "accuracy"

    def split(self, batch: Mapping[str, Any]) -> tuple[Any, Any]:
        return batch["x"], batch["y"]

    def predict(self, weights: Mapping[str, Any], x: Any) -> Any:
        return tf.nn.relu(x @ weights["W1"] + weights["b1"]) @ weights["W2"] + weights["b2"]

    def losses(self, output: Any, y: Any) -> tuple[Any, Any, Any]:
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=y, logits=output)
        hits = tf.cast(tf.equal(tf.argmax(output, axis=1, output_type=y.dtype), y), tf.float32)
        return tf.reduce_sum(losses), tf.cast(tf.size(y), tf.float32), tf.reduce_sum(hits)


class NextWord:
    """One CIFG layer with a recurrent projection, its embedding tied to the output; targets of -1 do not count."""

    hits = "top1"

    def split(self, batch: Mapping[str, Any]) -> tuple[Any, Any]:
        tokens = batch["tokens"]
        return tokens[:, :-1], tf.where(batch["counted"], tokens[:, 1:], -1)

    def predict(self, weights: Mapping[str, Any], x: Any) -> Any:
        rows, steps = tf.shape(x)[0], int(x.shape[1])
        gates = tf.tensordot(tf.gather(weights["E"], tf.transpose(x)), weights["Wx"], 1) + weights["b"]
        units, width = weights["P"].shape
        r, c, outputs = tf.zeros([rows, width]), tf.zeros([rows, units]), []
        for step in range(steps):
            f, o, u = tf.split(gates[step] + r @ weights["Wr"], 3, axis=1)
            f, u = tf.sigmoid(f), tf.tanh(u)
            c = u + f * (c - u)
            r = (tf.sigmoid(o) * tf.tanh(c)) @ weights["P"]
            outputs.append(r)
        flat = tf.reshape(tf.stack(outputs, axis=1), [-1, int(width)])
        return tf.reshape(flat @ tf.transpose(weights["E"]), [rows, steps, int(weights["E"].shape[0])])

    def losses(self, output: Any, y: Any) -> tuple[Any, Any, Any]:
        counted = tf.cast(y >= 0, tf.float32)
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=tf.maximum(y, 0), logits=output)
        hits = tf.cast(tf.equal(tf.argmax(output, axis=2, output_type=y.dtype), y), tf.float32)
        return tf.reduce_sum(losses * counted), tf.reduce_sum(counted), tf.reduce_sum(hits * counted)


def network(name: str, constants: Mapping[str, np.ndarray[Any, Any]]) -> Network:
    """The network of a model's name.

    Args:
      constants: of text_selection: `padding_pieces`, or `padding` where the embeddings are not trained.

    Raises:
      ValueError: for a name that this engine does not know.
    """
    if name == "mlp":
        return Mlp()
    if name in ("next_word", "next_word_small"):
        return NextWord()
    if name == "text_selection":
        return selection.TextSelection(constants)
    raise ValueError(f"no model of this engine is called {name!r}")


@dataclass(frozen=True)
class Built:
    """A model as TFF takes it, and how its flat vector is cut."""

    functional: Any
    shapes: Mapping[str, tuple[int, ...]]
    network: Network
    specs: Mapping[str, Any] = field(repr=False)

    def flat(self, weights: Sequence[Any]) -> np.ndarray[Any, Any]:
        """TFF's trainable weights as one float32 vector."""
        return np.concatenate([np.asarray(array, np.float32).reshape(-1) for array in weights])


def build(
    name: str,
    *,
    shapes: Mapping[str, Sequence[int]],
    parameters: np.ndarray[Any, Any],
    specs: Mapping[str, tuple[str, Sequence[int]]],
    constants: Mapping[str, np.ndarray[Any, Any]],
    metrics: bool,
) -> Built:
    """A TFF model that starts at `parameters`.

    Args:
      shapes: names and shapes of the parameters, in order.
      specs: name -> (dtype, shape of one example) of the device's arrays.
      metrics: whether loss and hits are measured while training; TFF adds them up in the clear.
    """
    net = network(name, constants)
    names, start, initial = list(shapes), 0, []
    for shape in shapes.values():
        stop = start + int(np.prod(shape))
        initial.append(parameters[start:stop].reshape(shape))
        start = stop
    batch_specs = OrderedDict(
        (key, tf.TensorSpec([None, *shape], tf.as_dtype(np.dtype(kind)))) for key, (kind, shape) in specs.items()
    )

    def predict(weights: Any, x: Any, training: Any) -> Any:
        del training
        return net.predict(dict(zip(names, weights[0], strict=True)), x)

    def loss(output: Any, label: Any, sample_weight: Any = None) -> Any:
        del sample_weight
        total, targets, _ = net.losses(output, label)
        return total / tf.maximum(targets, 1.0)

    split = tf.function(net.split).get_concrete_function(batch_specs)
    functional = tff.learning.models.FunctionalModel(
        initial_weights=(tuple(initial), ()),
        predict_on_batch_fn=tf.function(predict),
        loss_fn=tf.function(loss),
        input_spec=tf.nest.map_structure(lambda output: tf.TensorSpec(output.shape, output.dtype), split.structured_outputs),
        **({"metrics_fns": _metric_functions(net)} if metrics else {}),
    )
    return Built(functional, {name: tuple(shape) for name, shape in shapes.items()}, net, batch_specs)


def _metric_functions(net: Network) -> tuple[Any, Any, Any]:
    keys = ("loss", "targets", net.hits)

    def initialize() -> Any:
        return OrderedDict((key, 0.0) for key in keys)

    def update(state: Any, labels: Any, batch_output: Any, sample_weight: Any = None) -> Any:
        del sample_weight
        sums = net.losses(batch_output.predictions, labels)
        return OrderedDict((key, state[key] + value) for key, value in zip(keys, sums, strict=True))

    def finalize(state: Any) -> Any:
        targets = tf.maximum(state["targets"], 1.0)
        return OrderedDict(
            [("loss", state["loss"] / targets), ("targets", state["targets"]), (net.hits, state[net.hits] / targets)]
        )

    return initialize, update, finalize
