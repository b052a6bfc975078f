"""What a next-word model says: the words it would suggest, and how probable it finds a sequence."""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# (JAX types its functions only in part.)

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from trainer.evaluation import padded_rows
from trainer.model import Array, DeviceExamples, FloatVector, Params
from trainer.models.cifg import cifg
from trainer.models.next_word import SEQUENCE, NextWord
from trainer.tokens import tokenize
from trainer.vocabulary import PAD, SPECIALS, START

_SCORED_ROWS = 64


def predict(model: NextWord, params: FloatVector, text: str, k: int = 3) -> list[tuple[str, float]]:
    """The `k` most probable next words after `text`, most probable first, with their probability among the real words.

    Only the last 19 tokens of a longer text are seen.

    Raises:
      ValueError: unless k lies in 1..number of real words.
    """
    if not 1 <= k <= len(model.vocabulary.words):
        raise ValueError(f"k must lie in 1..{len(model.vocabulary.words)}, not {k}")
    ids = model.vocabulary.ids(tokenize(text)[-(SEQUENCE - 1) :])
    tokens = np.full(SEQUENCE, PAD, np.int32)
    tokens[0], tokens[1 : len(ids) + 1] = START, ids
    probabilities = np.asarray(_next(jax.device_put(model.unravel(params)), tokens, len(ids)))
    best = np.argsort(-probabilities, kind="stable")[:k]
    return [(model.vocabulary.words[word], float(probabilities[word])) for word in best]


def log_probabilities(model: NextWord, params: FloatVector, examples: DeviceExamples) -> NDArray[np.float64]:
    """The log probability of each example, shape (n,), in nats: summed over its targets that are words, each given all before
    it.

    Secret Sharer ranks canaries by it; `model.featurize` makes the examples.

    Source: arXiv:1802.08232v3, Def. 1 (log-perplexity is minus this over ln 2).
    """
    lengths = np.flatnonzero(examples.arrays["counted"].any(axis=0))
    steps = int(lengths[-1]) + 1 if len(lengths) else 1
    trimmed = DeviceExamples(
        {"tokens": examples.arrays["tokens"][:, : steps + 1], "counted": examples.arrays["counted"][:, :steps]}
    )
    tree = jax.device_put(model.unravel(params))
    scores = np.zeros(examples.num_examples)
    for first in range(0, examples.num_examples, _SCORED_ROWS):
        batch, _ = padded_rows(trimmed, first, _SCORED_ROWS)
        scored: NDArray[Any] = np.asarray(_score(tree, batch["tokens"], batch["counted"]))
        scores[first : first + _SCORED_ROWS] = scored[: examples.num_examples - first]
    return scores


@functools.partial(jax.jit)
def _next(params: Params, tokens: Array, last: Array) -> Array:
    r = cifg(params["E"][tokens[:, None]], params["Wx"], params["Wr"], params["b"], params["P"])
    return jax.nn.softmax((params["E"][len(SPECIALS) :]) @ r[last, 0])


@functools.partial(jax.jit)
def _score(params: Params, tokens: Array, counted: Array) -> Array:
    inputs, targets = tokens[:, :-1].T, tokens[:, 1:].T
    r = cifg(params["E"][inputs], params["Wx"], params["Wr"], params["b"], params["P"])
    logits = r @ params["E"].T
    picked = jnp.take_along_axis(logits, targets[:, :, None], axis=2)[:, :, 0]
    return jnp.sum((picked - jax.nn.logsumexp(logits, axis=2)) * counted.T, axis=0)
