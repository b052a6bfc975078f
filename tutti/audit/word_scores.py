"""Scores of next-word canaries: the log probability of the secret words given the prefix, for canaries and references alike.

A reference is a whole random sequence, drawn as a canary is, with a prefix of its own: so the rank of a canary that no device had is
uniform, and one set of references serves every canary and is scored once a model.
"""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# (JAX types its functions only in part.)

import functools
from collections.abc import Iterator, Sequence
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from client_sim.canaries import Canary, alphabetical
from contract import randomness
from trainer.model import Array, FloatVector, Params
from trainer.models.cifg import cifg
from trainer.models.next_word import NextWord
from trainer.vocabulary import SPECIALS, START
from tutti.audit.scores import Watch

Words: TypeAlias = NDArray[np.int32]
_LOGITS_AT_ONCE = 1 << 22
"""Numbers in one block of logits: 16 MB of float32, which stay in the processor's cache in part."""
TOP_ANSWERS = 5


def token_ids(model: NextWord, canaries: Sequence[Canary]) -> Words:
    """The canaries as word ids, int32, shape (n, length).

    Raises:
      ValueError: if a canary holds a word that the vocabulary does not, or lengths differ.
    """
    rows = [model.vocabulary.ids(canary.text.split()) for canary in canaries]
    if len({len(row) for row in rows}) != 1:
        raise ValueError("canaries must all have the same number of words")
    ids = np.stack(rows)
    unknown = [canary.name for canary, row in zip(canaries, ids, strict=True) if (row < len(SPECIALS)).any()]
    if unknown:
        raise ValueError(f"canaries {unknown[:3]} hold words that the vocabulary does not")
    return ids


def references(model: NextWord, count: int, *, length: int, seed: int) -> Words:
    """`count` sequences drawn as the canaries are: independent alphabetical words, int32, shape (count, length)."""
    usable = model.vocabulary.ids(alphabetical(model.vocabulary.words))
    return usable[randomness.stream(seed, "references").integers(len(usable), size=(count, length))]


def log_probabilities(
    model: NextWord, params: FloatVector, tokens: Words, *, prefix: int, watch: Watch | None = None
) -> NDArray[np.float64]:
    """ln P[words from `prefix` on | the words before], in nats, float64, shape (n,).

    Args:
      params: float32, shape (d,).
      tokens: int32, shape (n, length) with length > prefix; they follow the start of a message.

    Source: arXiv:2009.10031v1, section 3.2 (random sampling of continuations).
    """
    if not 0 <= prefix < tokens.shape[1]:
        raise ValueError(f"prefix must lie in 0..{tokens.shape[1] - 1}, not {prefix}")
    tree = jax.device_put(model.unravel(params))
    rows = max(16, _LOGITS_AT_ONCE // len(model.vocabulary))
    scores = np.zeros(len(tokens))
    pending: list[tuple[int, Array]] = []
    for first, block in _blocks(tokens, rows):
        # JAX computes while the next block is made ready; two blocks in flight are enough and bound the memory.
        pending.append((first, _score(tree, block, prefix)))
        if len(pending) > 2:
            _settle(scores, *pending.pop(0))
        if watch is not None:
            watch(min(first + rows, len(tokens)), len(tokens))
    for first, values in pending:
        _settle(scores, first, values)
    return scores


def extracted(model: NextWord, params: FloatVector, tokens: Words, *, prefix: int, width: int) -> NDArray[np.bool_]:
    """Whether beam search from each canary's prefix has its secret among the five best answers, bool, shape (n,).

    Args:
      width: beams that are kept at each word.

    Source: arXiv:2009.10031v1, section 3.2 (beam search, top 5).
    """
    tree = jax.device_put(model.unravel(params))
    return np.array([_is_extracted(tree, row, prefix, width) for row in tokens], np.bool_)


def _blocks(tokens: Words, rows: int) -> Iterator[tuple[int, Words]]:
    for first in range(0, len(tokens), rows):
        block = tokens[first : first + rows]
        missing = rows - len(block)
        yield first, np.concatenate([block, np.zeros((missing, tokens.shape[1]), np.int32)]) if missing else block


def _settle(scores: NDArray[np.float64], first: int, values: Array) -> None:
    scored: NDArray[Any] = np.asarray(values, np.float64)
    scores[first : first + len(scored)] = scored[: len(scores) - first]


def _outputs(params: Params, tokens: Array) -> Array:
    """The layer's outputs before each token and after the last, shape (length + 1, rows, width)."""
    starts = jnp.full((1, tokens.shape[0]), START, tokens.dtype)
    inputs = jnp.concatenate([starts, tokens.T])
    return cifg(params["E"][inputs], params["Wx"], params["Wr"], params["b"], params["P"])


@functools.partial(jax.jit, static_argnums=2)
def _score(params: Params, tokens: Array, prefix: int) -> Array:
    r = _outputs(params, tokens[:, :-1])
    total = jnp.zeros(tokens.shape[0])
    for position in range(prefix, tokens.shape[1]):
        logits = r[position] @ params["E"].T
        picked = jnp.sum(r[position] * params["E"][tokens[:, position]], axis=1)
        total += picked - jax.nn.logsumexp(logits, axis=1)
    return total


@jax.jit
def _next_words(params: Params, tokens: Array) -> Array:
    return jax.nn.log_softmax(_outputs(params, tokens)[-1] @ params["E"].T, axis=1)


def _is_extracted(params: Params, canary: Words, prefix: int, width: int) -> bool:
    beams, scores = canary[None, :prefix], np.zeros(1)
    for position in range(prefix, len(canary)):
        full = np.zeros((width, position), np.int32)  # one shape a position, however many beams there are
        full[: len(beams)] = beams
        found: NDArray[Any] = np.asarray(_next_words(params, full), np.float64)[: len(beams), len(SPECIALS) :]
        total = (scores[:, None] + found).reshape(-1)
        best = np.argsort(-total, kind="stable")[:width]
        words = best % found.shape[1] + len(SPECIALS)
        beams = np.concatenate([beams[best // found.shape[1]], words[:, None].astype(np.int32)], axis=1)
        scores = total[best]
    return bool((beams[:TOP_ANSWERS, prefix:] == canary[prefix:]).all(axis=1).any())
