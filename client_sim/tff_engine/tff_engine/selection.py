"""Smart Text Selection for TensorFlow: a span's features are gathered from a window of 39 tokens around the tap."""

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf

LONGEST, CONTEXT, INSIDE = 15, 5, 3
WINDOW = 2 * (LONGEST - 1 + CONTEXT) + 1
TAP = WINDOW // 2
NO_PIECE = 20_000


def spans_with_tap() -> np.ndarray[Any, Any]:
    """All spans [start, end) of at most 15 tokens over the tap, shape (120, 2): shorter ones first, then from left to right."""
    return np.array([(TAP + 1 - n + k, TAP + 1 + k) for n in range(1, LONGEST + 1) for k in range(n)])


class TextSelection:
    """Scores of the spans over the tap; the loss is minus the log of the softmax share of those that are right.

    Args:
      constants: `padding_pieces`, which stand where there is no token, or `padding`, their mean, where embeddings are not trained.
    """

    hits = "exact"

    def __init__(self, constants: Mapping[str, np.ndarray[Any, Any]]) -> None:
        self._constants = dict(constants)
        spans = spans_with_tap()
        start, end = spans[:, :1], spans[:, 1:]
        left, right = start + np.arange(-CONTEXT, INSIDE), end + np.arange(-INSIDE, CONTEXT)
        # A place beyond the other end of the span is described as one without a token: row 39.
        self._ends = np.concatenate([np.where(left < end, left, WINDOW), np.where(right >= start, right, WINDOW)], axis=1)
        self._lengths = (end - start)[:, 0].astype(np.float32)
        place = np.arange(WINDOW + 1)
        self._means = (((place >= start) & (place < end)) / self._lengths[:, None]).astype(np.float32)
        self._first, self._last = spans[:, 0], spans[:, 1] - 1

    def split(self, batch: Mapping[str, Any]) -> tuple[Any, Any]:
        read = [
            key for key in ("embedded", "exists", "pieces", "upper") if key in batch
        ]  # in order, as TFF asks of named elements
        return OrderedDict((key, batch[key]) for key in read), batch["right"]

    def predict(self, weights: Mapping[str, Any], x: Any) -> Any:
        tokens = self._tokens(weights, x)
        rows, spans = tf.shape(tokens)[0], len(self._lengths)
        ends = tf.reshape(tf.gather(tokens, self._ends, axis=1), [rows, spans, self._ends.shape[1] * int(tokens.shape[2])])
        means = tf.einsum("sw,rwf->rsf", tf.constant(self._means), tokens)
        lengths = tf.tile(tf.constant(self._lengths)[None, :, None], [rows, 1, 1])
        features = tf.concat([ends, means, lengths], axis=2)
        hidden = tf.nn.relu(tf.tensordot(features, tf.transpose(weights["W1"]), 1) + weights["b1"])
        scores = (tf.tensordot(hidden, tf.transpose(weights["W2"]), 1) + weights["b2"])[..., 0]
        exist = tf.gather(x["exists"], self._first, axis=1) & tf.gather(x["exists"], self._last, axis=1)
        return tf.where(exist, tf.where(tf.constant(self._lengths == 1.0), 0.0, scores), -1e9)

    def losses(self, output: Any, y: Any) -> tuple[Any, Any, Any]:
        some = tf.reduce_any(y, axis=1)
        wanted = tf.reduce_logsumexp(tf.where(y | ~some[:, None], output, -1e9), axis=1)
        losses = tf.where(some, tf.reduce_logsumexp(output, axis=1) - wanted, 0.0)
        hits = tf.gather(y, tf.argmax(output, axis=1), axis=1, batch_dims=1)
        return tf.reduce_sum(losses), tf.cast(tf.shape(y)[0], tf.float32), tf.reduce_sum(tf.cast(hits, tf.float32))

    def _tokens(self, weights: Mapping[str, Any], x: Any) -> Any:
        """Features of the window's tokens and of a place without one: shape (rows, 40, 13)."""
        if "padding" in self._constants:
            embedded, absent = x["embedded"], tf.constant(self._constants["padding"], tf.float32)
        else:
            pieces = tf.cast(x["pieces"], tf.int32)
            real = tf.cast(pieces < NO_PIECE, tf.float32)[..., None]
            gathered = tf.gather(weights["E"], tf.minimum(pieces, NO_PIECE - 1)) * real
            embedded = tf.reduce_sum(gathered, axis=2) / tf.maximum(tf.reduce_sum(real, axis=2), 1.0)
            absent = tf.reduce_mean(tf.gather(weights["E"], self._constants["padding_pieces"]), axis=0)
        embedded = tf.where(x["exists"][..., None], embedded, absent)
        features = tf.concat([embedded, tf.cast(x["upper"], tf.float32)[..., None]], axis=2)
        last = tf.concat([absent, [-1.0]], axis=0)
        return tf.concat([features, tf.tile(last[None, None, :], [tf.shape(features)[0], 1, 1])], axis=1)
