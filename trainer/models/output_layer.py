"""Softmax cross-entropy over a vocabulary, fused with the product that makes the logits.

The forward pass keeps the exponentials, not the probabilities: normalising them is done on the narrow side of the products that
follow, and the one-hot targets are rows taken and added, so that the matrix of all logits is passed over as seldom as can be.
"""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# (JAX types its functions only in part.)

import jax
import jax.numpy as jnp

from trainer.model import Array


@jax.custom_vjp
def cross_entropy(r: Array, embedding: Array, targets: Array, weights: Array) -> tuple[Array, Array]:
    """The weighted sum of -log softmax(r embedding^T)[target], and for each row whether the target has the greatest logit.

    Args:
      r: float32, shape (rows, width). embedding: float32, shape (words, width).
      targets: int32, shape (rows,). weights: float32, shape (rows,); no gradient flows to either.

    Returns:
      A float32 scalar and a float32 array of shape (rows,) of zeros and ones.
    """
    return _forward(r, embedding, targets, weights)[0]


def _words_first(rows: int) -> bool:
    """Whether the matrix of the logits has the words on its first axis, by what XLA's products take on one core (AVX-512).

    None of the three products then has a left factor to transpose in passing, a tenth to a sixth less time; but the first of them
    writes in tiles of 32 rows, and loses more than that where the last one is not full.
    """
    return rows % 32 == 0


def _forward(r: Array, embedding: Array, targets: Array, weights: Array) -> tuple[tuple[Array, Array], tuple[Array, ...]]:
    words = 0 if _words_first(len(r)) else 1
    logits = embedding @ r.T if _words_first(len(r)) else r @ embedding.T
    picked = jnp.take_along_axis(logits, jnp.expand_dims(targets, words), axis=words).reshape(-1)
    largest = logits.max(axis=words)
    exponentials = jnp.exp(logits - jnp.expand_dims(largest, words))
    total = exponentials.sum(axis=words)
    loss = jnp.sum(weights * (jnp.log(total) + largest - picked))
    hits = (picked >= largest).astype(jnp.float32)
    return (loss, hits), (r, embedding, targets, weights, exponentials, total)


def _backward(residuals: tuple[Array, ...], cotangent: tuple[Array, Array]) -> tuple[Array, Array, None, None]:
    r, embedding, targets, weights, exponentials, total = residuals
    weights = cotangent[0] * weights
    scale = (weights / total)[:, None]
    if _words_first(len(r)):
        # Without the barrier XLA swaps the factors, which saves a small transposition and loses a sixth of the product's speed.
        mixed = jax.lax.optimization_barrier(embedding.T @ exponentials).T
        spread = exponentials @ (scale * r)
    else:
        mixed = exponentials @ embedding
        spread = exponentials.T @ (scale * r)
    return scale * mixed - weights[:, None] * embedding[targets], spread.at[targets].add(-weights[:, None] * r), None, None


cross_entropy.defvjp(_forward, _backward)
