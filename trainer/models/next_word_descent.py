"""The next-word models' own step of SGD, for one device at a time on a processor: the same mathematics as their `loss`
differentiated, arranged so that the three products with the embedding run at the processor's peak.

The embedding is kept transposed, as `columns` of shape (width, words). Of all the ways to write the products, XLA's are fastest
where the narrow factor is the one that is transposed and words are contiguous; the gradient then comes out as `columns` lies, and
the few columns that are inputs or targets are added to after the step, not to a gradient that is then passed over again.
"""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# (JAX types its functions only in part.)

import functools

import jax
import jax.numpy as jnp

from trainer.model import Array, Batch, Params, Sums
from trainer.models.cifg import cifg
from trainer.models.output_layer import gradients

_LAYER = ("Wx", "Wr", "b", "P")


def arrange(params: Params) -> Params:
    """The named parameters with `columns` in the place of `E`."""
    return {"columns": params["E"].T, **{name: params[name] for name in _LAYER}}


def restore(params: Params) -> Params:
    """The inverse of `arrange`."""
    return {"E": params["columns"].T, **{name: params[name] for name in _LAYER}}


def step(params: Params, batch: Batch, mask: Array, learning_rate: float, rounded: bool) -> tuple[Params, Sums]:
    """One step on a batch as the model's `prepare` leaves it, and the sums of its `loss`.

    Args:
      params: as `arrange` gives them.
      batch: `inputs`, int32 (steps, rows); `positions`, `targets` and `weights`, (k,).
      mask: not looked at: it is in the weights.
      rounded: whether the products outside of the recurrence may round their factors to bfloat16.
    """
    del mask
    columns, layer = params["columns"], [params[name] for name in _LAYER]
    inputs, positions, targets, weights = (batch[name] for name in ("inputs", "positions", "targets", "weights"))
    tokens, width = inputs.reshape(-1), len(columns)
    x = columns[:, tokens].T.reshape(*inputs.shape, width)
    outputs, pull = jax.vjp(functools.partial(cifg, rounded=rounded), x, *layer)
    r = outputs.reshape(-1, width)[positions]
    count = jnp.sum(weights)
    shares = weights / jnp.maximum(count, 1.0)
    found = gradients(r, columns, targets, shares, rounded=rounded)
    dr = jnp.zeros((tokens.size, width), r.dtype).at[positions].add(found.dr)
    dx, *dlayer = pull(dr.reshape(outputs.shape))
    touched = jnp.concatenate([targets, tokens])
    by = jnp.concatenate([shares[:, None] * r, -dx.reshape(-1, width)])
    moved = {name: old - learning_rate * gradient for name, old, gradient in zip(_LAYER, layer, dlayer, strict=True)}
    moved["columns"] = (columns - learning_rate * found.dcolumns).at[:, touched].add((learning_rate * by).T)
    return moved, {"loss": found.loss * count, "top1": jnp.sum(found.hits * weights), "targets": count}
