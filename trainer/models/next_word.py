"""`next_word`: the keyboard's next-word model, one CIFG layer with the embedding tied to the output (arXiv:1811.03604v2).

Accuracy here always means: over the targets that are words of the vocabulary, so padding, end and unknown words are left out;
predictions range over the real words. The loss is taken over the same targets.
"""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# (JAX types its functions only in part.)

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from trainer.model import Arrangement, Array, Batch, Descent, DeviceExamples, Example, FloatVector, Model, Params, Sums
from trainer.models import next_word_descent
from trainer.models.cifg import cifg
from trainer.models.output_layer import cross_entropy
from trainer.tokens import tokenize
from trainer.vocabulary import END, PUBLIC_ENGLISH, SPECIALS, START, Vocabulary, public_english

SEQUENCE = 20
"""Tokens of an example that are predicted."""
_GAINS_BY_BFLOAT16 = 2**18
"""Numbers in the embedding from which on the faster products are worth the rounding: `next_word` has 960,000, the small one 64,000."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class NextWord(Model):
    """A next-word model, with its vocabulary."""

    vocabulary: Vocabulary = field(repr=False)


def build(vocabulary: Vocabulary | str = PUBLIC_ENGLISH, words: int = 10_000, width: int = 96, units: int = 670) -> NextWord:
    """The model of the published system: 1,412,250 parameters.

    Args:
      vocabulary: one of one's own, whose size then decides, or `public-en`.
      words: how many words of `public-en` to take, specials included.
      width: of the embedding and of the layer's projection, which are tied.
      units: cells of the layer.

    Raises:
      ValueError: for another name of a vocabulary, or a size that makes no model.

    >>> build().num_parameters
    1412250
    """
    return _build(
        "next_word",
        vocabulary,
        words,
        width,
        units,
        64,
        Arrangement(lanes=1, row_multiple=2, eval_rows=64, accelerator_lanes=128, lane_mb=32),
    )


def build_small(vocabulary: Vocabulary | str = PUBLIC_ENGLISH, words: int = 2_000) -> NextWord:
    """The same architecture with 2,000 words, width 32 and 112 units.

    >>> build_small().num_parameters
    89424
    """
    return _build(
        "next_word_small", vocabulary, words, 32, 112, 160, Arrangement(lanes=1, row_multiple=8, eval_rows=256, lane_mb=5)
    )


def _build(
    name: str, vocabulary: Vocabulary | str, words: int, width: int, units: int, quantum: int, arrangement: Arrangement
) -> NextWord:
    if isinstance(vocabulary, str):
        if vocabulary != PUBLIC_ENGLISH:
            raise ValueError(f"vocabulary must be {PUBLIC_ENGLISH!r} or a Vocabulary counted from texts, not {vocabulary!r}")
        vocabulary = public_english(words)
    if width < 1 or units < 1:
        raise ValueError(f"width and units must be at least 1, not {width} and {units}")
    shapes = {
        "E": (len(vocabulary), width),
        "Wx": (width, 3 * units),
        "Wr": (width, 3 * units),
        "b": (3 * units,),
        "P": (units, width),
    }

    def initial(generator: np.random.Generator) -> dict[str, NDArray[np.float64]]:
        drawn = {key: generator.standard_normal(shape) / np.sqrt(shape[0]) for key, shape in shapes.items()}
        return {**drawn, "E": generator.standard_normal(shapes["E"]) * 0.1, "b": np.zeros(3 * units)}

    return NextWord(
        name=name,
        shapes=shapes,
        initial=initial,
        featurize=lambda examples: _featurize(examples, vocabulary),
        loss=_loss,
        measure=_measure,
        prepare=lambda batch, mask: _without_padding(batch, mask, quantum),
        arrangement=arrangement,
        descent=Descent(
            arrange=next_word_descent.arrange,
            restore=next_word_descent.restore,
            step=next_word_descent.step,
            bfloat16=len(vocabulary) * width >= _GAINS_BY_BFLOAT16,
        ),
        vocabulary=vocabulary,
    )


def _featurize(examples: Sequence[Example], vocabulary: Vocabulary) -> DeviceExamples:
    """`tokens`, int32 (n, 21): start, the first 20 tokens, end if there is room, padding; `counted`, bool (n, 20): where the
    target is a word. A text without a token is left out.
    """
    messages: list[list[str]] = []
    for number, example in enumerate(examples):
        text = example["text"]
        if not isinstance(text, str):
            raise ValueError(f"example {number}: text must be a string, not {type(text).__name__}")
        if found := tokenize(text, SEQUENCE):
            messages.append(found)
    lengths = np.array([len(message) for message in messages], np.int64)
    rows = np.zeros((len(messages), SEQUENCE + 2), np.int32)
    rows[:, 0] = START
    rows[:, 1:-1][np.arange(SEQUENCE) < lengths[:, None]] = vocabulary.ids([token for message in messages for token in message])
    rows[np.arange(len(messages)), lengths + 1] = END
    tokens = rows[:, : SEQUENCE + 1]
    return DeviceExamples({"tokens": tokens, "counted": tokens[:, 1:] >= len(SPECIALS)})


def _without_padding(batch: dict[str, NDArray[Any]], mask: FloatVector, quantum: int) -> dict[str, NDArray[Any]]:
    """Leaves out the output rows that no counted target needs: in chat, half of them.

    Their number is cut to a multiple of `quantum` (of four examples' tokens for large batches), to bound the number of shapes
    that are compiled; what fills it up weighs 0.
    """
    counted = batch["counted"] & (mask[:, None] > 0)
    where = np.flatnonzero(counted.T)
    quantum = max(quantum, 4 * len(mask))
    size = min(max(-(-len(where) // quantum), 1) * quantum, counted.size)
    positions = np.zeros(size, np.int32)
    positions[: len(where)] = where
    targets = batch["tokens"][:, 1:].T.reshape(-1)[positions]
    weights = (np.arange(size) < len(where)).astype(np.float32)
    return {"inputs": batch["tokens"][:, :-1].T, "positions": positions, "targets": targets, "weights": weights}


def _outputs(params: Params, batch: Batch, mask: Array) -> tuple[Array, Array, Array]:
    """The layer's outputs (k, width) with their targets (k,) and weights (k,)."""
    if "positions" in batch:
        r = _layer(params, batch["inputs"])
        return r.reshape(-1, r.shape[-1])[batch["positions"]], batch["targets"], batch["weights"]
    tokens, counted = batch["tokens"], batch["counted"]
    r = _layer(params, tokens[:, :-1].T)
    weights = (counted * mask[:, None]).T.reshape(-1)
    return r.reshape(-1, r.shape[-1]), tokens[:, 1:].T.reshape(-1), weights


def _layer(params: Params, inputs: Array) -> Array:
    return cifg(params["E"][inputs], params["Wx"], params["Wr"], params["b"], params["P"])


def _loss(params: Params, batch: Batch, mask: Array) -> tuple[Array, Sums]:
    r, targets, weights = _outputs(params, batch, mask)
    count = jnp.sum(weights)
    scale = 1.0 / jnp.maximum(count, 1.0)
    loss, hits = cross_entropy(r, params["E"], targets, weights * scale)
    return loss, {"loss": loss * count, "top1": jnp.sum(hits * weights), "targets": count}


def _measure(params: Params, batch: Batch, mask: Array) -> Sums:
    r, targets, weights = _outputs(params, batch, mask)
    logits = r @ params["E"].T
    picked = jnp.take_along_axis(logits, targets[:, None], axis=1)
    loss = jax.nn.logsumexp(logits, axis=1) - picked[:, 0]
    ids = jnp.arange(logits.shape[1])
    behind = (logits < picked) | ((logits == picked) & (ids >= targets[:, None]))  # nothing is behind a logit that is no number
    rank = jnp.sum(~behind & (ids >= len(SPECIALS)), axis=1)
    return {
        "loss": jnp.sum(loss * weights),
        "top1": jnp.sum(weights * (rank < 1)),
        "top3": jnp.sum(weights * (rank < 3)),
        "targets": jnp.sum(weights),
    }
