"""`text_selection`: Android's Smart Text Selection, which finds the span that a tapped word belongs to.

A token is the mean of the embeddings of its hashed pieces and whether it begins in upper case: 13 features. A span is described
by
5 tokens before and 3 inside at its left end, 3 inside and 5 after at its right end, the mean over its inside and its length:
222 features, through 96 ReLU units to one score. A single token scores 0. The spans with the best scores that do not overlap
are taken in turn, and the one with the tap is suggested. On the device the loss is minus the log of the softmax, over all spans
with the tap, of those that give the user's selection.

Source: AOSP libtextclassifier (Apache-2.0), cached-features and text-classifier; training federated as in arXiv:2109.14710.
"""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# (JAX types its functions only in part.)

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from trainer import weights
from trainer.model import Arrangement, Array, Batch, DeviceExamples, Example, FloatVector, Model, Params, Sums
from trainer.models import selection_examples as window
from trainer.models.selection_examples import CONTEXT, ENTITIES, INSIDE, NO_PIECE, TAP, TAP_SPANS, WINDOW
from trainer.selection_text import BUCKETS, padding_pieces

WIDTH, HIDDEN = 12, 96
TOKEN = WIDTH + 1
SPAN = (2 * (CONTEXT + INSIDE) + 1) * TOKEN + 1
HEAD_SHAPES = {"W1": (HIDDEN, SPAN), "b1": (HIDDEN,), "W2": (1, HIDDEN), "b2": (1,)}
ALL_SPANS = window.spans(with_tap=False)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TextSelection(Model):
    """A text-selection model; `embeddings`, float32 (20000, 12), is what it does not train, None where it trains all."""

    embeddings: NDArray[np.float32] | None = field(repr=False)


def build(init_from: str | None = None, trainable: Literal["all", "head"] = "all") -> TextSelection:
    """The model, whole (261,505 parameters) or its head alone (21,505) over public embeddings.

    Args:
      init_from: an .npz file with public weights, either Android's (`emb_q`, `emb_scale`, `sel_W1` ...) or this model's own
        names.
      trainable: `head` keeps the embeddings as they are; the vector of parameters is then the head alone.

    Raises:
      ValueError: for `head` without public weights, or another value.

    >>> build().num_parameters
    261505
    """
    if trainable not in ("all", "head"):
        raise ValueError(f"trainable must be 'all' or 'head', not {trainable!r}")
    if trainable == "head" and init_from is None:
        raise ValueError("trainable 'head' needs init_from: public weights for the embeddings that are not trained")
    public = None if init_from is None else _public(init_from)
    frozen = public["E"] if public is not None and trainable == "head" else None
    shapes = HEAD_SHAPES if frozen is not None else {"E": (BUCKETS, WIDTH), **HEAD_SHAPES}
    padding = None if frozen is None else frozen[list(padding_pieces())].mean(axis=0)

    def featurize(examples: Sequence[Example]) -> DeviceExamples:
        return window.featurize(examples, embeddings=frozen)

    def loss(params: Params, batch: Batch, mask: Array) -> tuple[Array, Sums]:
        return _loss(_scores(params, batch, TAP_SPANS, padding), batch, mask)

    def measure(params: Params, batch: Batch, mask: Array) -> Sums:
        return _measure(_scores(params, batch, ALL_SPANS, padding), batch, mask)

    return TextSelection(
        name="text_selection",
        shapes=shapes,
        initial=lambda generator: _drawn(generator) if public is None else public,
        featurize=featurize,
        loss=loss,
        measure=measure,
        summarise=_summary,
        arrangement=Arrangement(lanes=1, row_multiple=8, eval_rows=64, lane_mb=9),
        embeddings=frozen,
    )


def select(model: TextSelection, params: FloatVector, text: str, tap: tuple[int, int]) -> tuple[int, int]:
    """What is suggested when `tap`, code points [start, end), is tapped: code points [start, end).

    Raises:
      ValueError: if the tap is on no token.
    """
    tokens, tapped = window.line_tokens(text, tap)
    examples = model.featurize([{"text": text, "tap": tap, "selection": tap}])
    padding = None if model.embeddings is None else model.embeddings[list(padding_pieces())].mean(axis=0)
    params_by_name = {name: jnp.asarray(array) for name, array in model.unravel(params).items()}
    scores = _scores(params_by_name, {name: jnp.asarray(array) for name, array in examples.arrays.items()}, ALL_SPANS, padding)
    s, e = ALL_SPANS[int(_greedy(scores)[0])] - TAP + tapped
    return window.chosen_text(text, tokens, (int(s), int(e)), tap)


def _public(path: str) -> dict[str, NDArray[np.float32]]:
    arrays = weights.read(path)
    if "emb_q" not in arrays:
        return weights.named(path, {"E": (BUCKETS, WIDTH), **HEAD_SHAPES})
    renamed = {name: np.asarray(arrays[f"sel_{name}"], np.float32) for name in HEAD_SHAPES}
    return {"E": (arrays["emb_q"].astype(np.float32) - 128.0) * arrays["emb_scale"].astype(np.float32), **renamed}


def _drawn(generator: np.random.Generator) -> dict[str, NDArray[np.float64]]:
    return {
        "E": generator.standard_normal((BUCKETS, WIDTH)) * 0.1,
        "W1": generator.standard_normal((HIDDEN, SPAN)) / np.sqrt(SPAN),
        "b1": np.zeros(HIDDEN),
        "W2": generator.standard_normal((1, HIDDEN)) / np.sqrt(HIDDEN),
        "b2": np.zeros(1),
    }


def _tokens(params: Params, batch: Batch, padding: NDArray[np.float32] | None) -> Array:
    """Features of the window's tokens and, in a last row, of a place without a token: shape (rows, 40, 13)."""
    if padding is not None:
        embedded, absent = batch["embedded"], jnp.asarray(padding)
    else:
        pieces = batch["pieces"].astype(jnp.int32)
        real = (pieces < NO_PIECE)[..., None]
        count = jnp.maximum(real.sum(axis=2), 1)
        embedded = jnp.sum(params["E"][jnp.minimum(pieces, NO_PIECE - 1)] * real, axis=2) / count
        absent = params["E"][np.asarray(padding_pieces())].mean(axis=0)
    embedded = jnp.where(batch["exists"][..., None], embedded, absent)
    features = jnp.concatenate([embedded, batch["upper"][..., None].astype(jnp.float32)], axis=2)
    last = jnp.broadcast_to(jnp.concatenate([absent, -jnp.ones(1)]), (len(features), 1, TOKEN))
    return jnp.concatenate([features, last], axis=1)


def _places(spans: NDArray[np.int64]) -> NDArray[np.int64]:
    """The rows of the window that describe the two ends of each span, shape (spans, 16); what lies beyond the other end is
    absent.
    """
    s, e = spans[:, :1], spans[:, 1:]
    left, right = s + np.arange(-CONTEXT, INSIDE), e + np.arange(-INSIDE, CONTEXT)
    return np.concatenate([np.where(left < e, left, WINDOW), np.where(right >= s, right, WINDOW)], axis=1)


def _scores(params: Params, batch: Batch, spans: NDArray[np.int64], padding: NDArray[np.float32] | None) -> Array:
    """The score of each span, shape (rows, spans); minus infinity where a span has no tokens."""
    tokens = _tokens(params, batch, padding)
    lengths = spans[:, 1] - spans[:, 0]
    place = np.arange(WINDOW + 1)
    inside = ((place >= spans[:, :1]) & (place < spans[:, 1:])) / lengths[:, None]
    ends = tokens[:, _places(spans)].reshape(len(tokens), len(spans), -1)
    bag = jnp.einsum("sw,rwf->rsf", inside.astype(np.float32), tokens)
    length = jnp.broadcast_to(lengths[None, :, None].astype(np.float32), (len(tokens), len(spans), 1))
    features = jnp.concatenate([ends, bag, length], axis=2)
    hidden = jax.nn.relu(features @ params["W1"].T + params["b1"])
    scores = (hidden @ params["W2"].T + params["b2"])[..., 0]
    exist = batch["exists"][:, spans[:, 0]] & batch["exists"][:, spans[:, 1] - 1]
    return jnp.where(exist, jnp.where(lengths == 1, 0.0, scores), -jnp.inf)


def _cross_entropy(scores: Array, right: Array) -> Array:
    """Minus the log probability of the right spans, shape (rows,); 0 where none is right."""
    some = right.any(axis=1)
    finite = jnp.where(jnp.isfinite(scores), scores, -1e9)
    wanted = jax.nn.logsumexp(jnp.where(right | ~some[:, None], finite, -1e9), axis=1)
    return jnp.where(some, jax.nn.logsumexp(finite, axis=1) - wanted, 0.0)


def _loss(scores: Array, batch: Batch, mask: Array) -> tuple[Array, Sums]:
    losses = _cross_entropy(scores, batch["right"])
    best = jnp.argmax(scores, axis=1)
    exact = jnp.take_along_axis(batch["right"], best[:, None], axis=1)[:, 0]
    expanded = jnp.asarray(_several_tokens(TAP_SPANS))[best]
    total, targets = jnp.sum(losses * mask), jnp.sum(mask)
    return total / jnp.maximum(targets, 1.0), {"loss": total, "targets": targets, **_by_entity(exact, expanded, batch, mask)}


def _greedy(scores: Array) -> Array:
    """Which of `ALL_SPANS` covers the tap when spans are taken by score, best first and shorter first among equals: shape
    (rows,).
    """
    overlaps = (ALL_SPANS[:, None, 0] < ALL_SPANS[None, :, 1]) & (ALL_SPANS[None, :, 0] < ALL_SPANS[:, None, 1])
    covers = (ALL_SPANS[:, 0] <= TAP) & (ALL_SPANS[:, 1] > TAP)
    conflicts, with_tap = jnp.asarray(overlaps), jnp.asarray(covers)

    def take(state: tuple[Array, Array]) -> tuple[Array, Array]:
        left, best = state
        best = jnp.where(with_tap[best], best, jnp.argmax(left, axis=1))
        return jnp.where(conflicts[best], -jnp.inf, left), best

    def unsettled(state: tuple[Array, Array]) -> Array:
        return ~jnp.all(with_tap[state[1]])

    start = (scores, jnp.zeros(len(scores), jnp.int32))
    return jax.lax.while_loop(unsettled, take, start)[1]


def _measure(scores: Array, batch: Batch, mask: Array) -> Sums:
    column = np.full(len(ALL_SPANS), 0)
    has_tap = (ALL_SPANS[:, 0] <= TAP) & (ALL_SPANS[:, 1] > TAP)
    column[has_tap] = [int(np.flatnonzero((span == TAP_SPANS).all(axis=1))[0]) for span in ALL_SPANS[has_tap]]
    losses = _cross_entropy(scores[:, np.flatnonzero(has_tap)], batch["right"][:, column[has_tap]])
    settled = _greedy(jnp.where(mask[:, None] > 0, scores, jnp.where(has_tap, 0.0, -jnp.inf)))
    exact = jnp.take_along_axis(batch["right"], jnp.asarray(column)[settled][:, None], axis=1)[:, 0]
    expanded = jnp.asarray(_several_tokens(ALL_SPANS))[settled]
    return {"loss": jnp.sum(losses * mask), "targets": jnp.sum(mask), **_by_entity(exact, expanded, batch, mask)}


def _several_tokens(spans: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which spans go beyond the tapped token."""
    return spans[:, 1] - spans[:, 0] > 1


def _by_entity(exact: Array, expanded: Array, batch: Batch, mask: Array) -> Sums:
    """Counts over all taps and by what the user settled on: how many, suggested right, expanded, and expanded rightly."""
    groups = {entity: batch["entity"] == number for number, entity in enumerate(ENTITIES)}
    groups["phone_several"] = groups["phone"] & batch["several"]
    groups["several"] = batch["several"]
    sums = {"exact": jnp.sum(exact * mask), "expanded": jnp.sum(expanded * mask)}
    sums["precision"] = jnp.sum(exact * expanded * mask)
    for name, members in groups.items():
        sums[f"exact_{name}"] = jnp.sum(exact * members * mask)
        sums[f"count_{name}"] = jnp.sum(members * mask)
        sums[f"precision_{name}"] = jnp.sum(exact * expanded * members * mask)
        sums[f"expanded_{name}"] = jnp.sum(expanded * members * mask)
    return sums


def _summary(sums: Sums) -> dict[str, float]:
    """Means over all taps; for what the user settled on, its recall and its precision.

    `exact_<entity>` is over the `count_<entity>` taps of that entity (recall), `precision_<entity>` over the `expanded_<entity>` of them
    for which more than the tapped token was suggested; each pair is left out where there is none. `several` are selections of several
    words.
    """
    targets = max(float(sums["targets"]), 1.0)
    metrics = {
        "loss": float(sums["loss"]) / targets,
        "exact": float(sums["exact"]) / targets,
        "targets": float(sums["targets"]),
    }
    for name, value in sums.items():
        whole, _, entity = name.partition("_")
        part = {"count": "exact", "expanded": "precision"}.get(whole)
        if part is not None and float(value) > 0:
            joined = f"{part}_{entity}" if entity else part
            metrics[name], metrics[joined] = float(value), float(sums[joined]) / float(value)
    return metrics
