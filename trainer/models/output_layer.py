"""Softmax cross-entropy over a vocabulary, fused with the product that makes the logits.

The forward pass keeps the exponentials, not the probabilities: normalising them is done on the narrow side of the products that
follow, and the one-hot targets are rows taken and added, so that the matrix of all logits is passed over as seldom as can be.
"""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# (JAX types its functions only in part.)

from collections.abc import Callable
from typing import NamedTuple, TypeAlias

import jax
import jax.numpy as jnp

from trainer import bfloat16
from trainer.model import Array

Products: TypeAlias = tuple[Callable[[Array], Array], Callable[[Array], Array], Callable[[Array, Array], Array]]
"""For an embedding by columns C: r -> r C; wide -> wide C^T; (narrow, wide) -> narrow^T wide."""
_FEW_ROWS = 80


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


def _forward(r: Array, embedding: Array, targets: Array, weights: Array) -> tuple[tuple[Array, Array], tuple[Array, ...]]:
    outputs, (exponentials, total) = _softmax(r @ embedding.T, targets, weights)
    return outputs, (r, embedding, targets, weights, exponentials, total)


def _softmax(
    logits: Array, targets: Array, weights: Array, *, rounded: bool = False
) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
    """Loss and hits, and the exponentials with their sum over each row."""
    picked = jnp.take_along_axis(logits, targets[:, None], axis=1)[:, 0]
    largest = logits.max(axis=1)
    below = logits - largest[:, None]
    exponentials = bfloat16.exponential(below) if rounded else jnp.exp(below)
    total = exponentials.astype(jnp.float32).sum(axis=1)  # of what the products take, so that a row's shares add up to 1
    loss = jnp.sum(weights * (jnp.log(total) + largest - picked))
    hits = (picked >= largest).astype(jnp.float32)
    return (loss, hits), (exponentials, total)


def _backward(residuals: tuple[Array, ...], cotangent: tuple[Array, Array]) -> tuple[Array, Array, None, None]:
    r, embedding, targets, weights, exponentials, total = residuals
    weights = cotangent[0] * weights
    scale = (weights / total)[:, None]
    dr = scale * (exponentials @ embedding) - weights[:, None] * embedding[targets]
    dembedding = _transposed_product(exponentials, scale * r).at[targets].add(-weights[:, None] * r)
    return dr, dembedding, None, None


def _transposed_product(wide: Array, narrow: Array) -> Array:
    """`wide^T narrow`, for `wide` of shape (rows, words) and `narrow` of shape (rows, width).

    XLA's product on a CPU takes 1.4 times as long when it is the wide factor that is to be transposed. The barrier keeps it from
    swapping the factors back, to save the transposition of the result; for few rows that costs more than the product gains.
    """
    if len(wide) < _FEW_ROWS:
        return wide.T @ narrow
    return jax.lax.optimization_barrier(narrow.T @ wide).T


cross_entropy.defvjp(_forward, _backward)


class Gradients(NamedTuple):
    """What `gradients` finds; all but `hits` weighted by the rows' weights.

    `loss` is a scalar and `hits` of shape (rows,), as `cross_entropy` gives them. `dr` has the shape of `r`. `dcolumns` has the
    shape of `columns`, but leaves out the targets' own share, which is `-weight r` on the column of each.
    """

    loss: Array
    hits: Array
    dr: Array
    dcolumns: Array


def gradients(r: Array, columns: Array, targets: Array, weights: Array, *, rounded: bool = False) -> Gradients:
    """`cross_entropy` with its gradients in one go, for an embedding stored by columns; fastest on a processor.

    Args:
      r: float32, shape (rows, width). columns: float32, shape (width, words): the embedding transposed.
      targets: int32, shape (rows,). weights: float32, shape (rows,).
      rounded: whether the three products may round their factors to bfloat16; all sums stay float32.
    """
    logits_of, back, across = _rounded_products(columns) if rounded else _products(columns)
    (loss, hits), (exponentials, total) = _softmax(logits_of(r), targets, weights, rounded=rounded)
    scale = (weights / total)[:, None]
    dr = scale * back(exponentials) - weights[:, None] * columns[:, targets].T
    return Gradients(loss, hits, dr, across(scale * r, exponentials))


def _products(columns: Array) -> Products:
    """The barriers keep XLA from swapping factors: its product is at the peak where the narrow one is read sideways."""
    barrier = jax.lax.optimization_barrier
    return (
        lambda r: barrier(r.T).T @ columns,
        lambda wide: wide @ columns.T,
        lambda narrow, wide: barrier(narrow.T @ wide),
    )


def _rounded_products(columns: Array) -> Products:
    short = bfloat16.rounded(columns)
    rows = bfloat16.transposed(short)
    return (
        lambda r: bfloat16.product(bfloat16.rounded(r), short),
        lambda wide: bfloat16.product(wide, rows),
        lambda narrow, wide: bfloat16.product(bfloat16.transposed(bfloat16.rounded(narrow)), wide),
    )
