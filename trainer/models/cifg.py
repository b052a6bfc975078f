"""One CIFG layer with a recurrent projection, with a backward pass written by hand.

Notation follows arXiv:1402.1128v1 (recurrent projection) and arXiv:1503.04069v2 (coupled input and forget gate): x_t input,
r_t projected output, c_t cell, m_t = o * tanh(c_t), P projection:

    g = x_t Wx + r_{t-1} Wr + b ;  f, o, u = split(g) ;  f = sigmoid(f) ;  o = sigmoid(o) ;  u = tanh(u)
    c = f c + (1 - f) u ;  m = o tanh(c) ;  r = m P

The product x Wx of all steps is taken before the scan, and every weight gradient is one product over all steps after it; what
remains inside of the scans are the two products that depend on the step before. The gates are kept as arrays of their own, since
XLA's loops on a CPU are scalar where they read two slices of one array.
"""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# (JAX types its functions only in part.)

import functools
from typing import TypeAlias, cast

import jax
import jax.numpy as jnp

from trainer import bfloat16
from trainer.model import Array

Residuals: TypeAlias = tuple[Array, ...]


def cifg(x: Array, wx: Array, wr: Array, b: Array, p: Array, rounded: bool = False) -> Array:
    """Outputs r of all steps, float32, shape (steps, rows, projection), from zero state.

    Args:
      x: inputs, shape (steps, rows, inputs).
      wx: shape (inputs, 3 units); wr: shape (projection, 3 units); b: shape (3 units,); p: shape (units, projection). The gates
        stand in the order forget, output, update.
      rounded: whether the products outside of the scans may round their factors to bfloat16 (`trainer.bfloat16`).
    """
    return cast(Array, _cifg(x, wx, wr, b, p, rounded))


@functools.partial(jax.custom_vjp, nondiff_argnums=(5,))
def _cifg(x: Array, wx: Array, wr: Array, b: Array, p: Array, rounded: bool) -> Array:
    return _forward(x, wx, wr, b, p, rounded)[0]


def _forward(x: Array, wx: Array, wr: Array, b: Array, p: Array, rounded: bool) -> tuple[Array, Residuals]:
    steps, rows, inputs = x.shape
    units = p.shape[0]
    x_rows = x.reshape(steps * rows, inputs)
    product = bfloat16.product(bfloat16.rounded(x_rows), bfloat16.rounded(wx)) if rounded else x_rows @ wx
    gx = product.reshape(steps, rows, -1)

    def step(state: tuple[Array, Array], gx_t: Array) -> tuple[tuple[Array, Array], tuple[Array, ...]]:
        r, c = state
        f, o, u = _split(r @ wr + gx_t + b, units)
        f, o, u = _sigmoid(f), _sigmoid(o), jnp.tanh(u)
        c = u + f * (c - u)
        r = (o * jnp.tanh(c)) @ p
        return (r, c), (f, o, u, c, r)

    start = (jnp.zeros((rows, p.shape[1]), x.dtype), jnp.zeros((rows, units), x.dtype))
    _, (f, o, u, c, r) = jax.lax.scan(step, start, gx)
    return r, (x, wx, wr, p, f, o, u, c, r)


def _backward(rounded: bool, residuals: Residuals, dr: Array) -> tuple[Array, Array, Array, Array, Array]:
    x, wx, wr, p, f, o, u, c, r = residuals
    steps, rows, inputs = x.shape
    units = p.shape[0]
    c_before = jnp.concatenate([jnp.zeros_like(c[:1]), c[:-1]])
    tanh_c = jnp.tanh(c)
    wr_t, p_t = wr.T, p.T

    def step(state: tuple[Array, Array], saved: tuple[Array, ...]) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
        dr_next, dc = state
        dr_t, f_t, o_t, u_t, tanh_t, before = saved
        dr_t = dr_t + dr_next
        dm = dr_t @ p_t
        dc = dc + dm * o_t * (1.0 - tanh_t * tanh_t)
        df = dc * (before - u_t) * f_t * (1.0 - f_t)
        do = dm * tanh_t * o_t * (1.0 - o_t)
        du = dc * (1.0 - f_t) * (1.0 - u_t * u_t)
        dg = jnp.concatenate([df, do, du], axis=1)
        return (dg @ wr_t, dc * f_t), (dg, dr_t)

    start = (jnp.zeros_like(dr[0]), jnp.zeros_like(c[0]))
    _, (dg, dr) = jax.lax.scan(step, start, (dr, f, o, u, tanh_c, c_before), reverse=True)
    dg_rows = dg.reshape(steps * rows, 3 * units)
    r_before = jnp.concatenate([jnp.zeros_like(r[:1]), r[:-1]]).reshape(steps * rows, -1)
    m = (o * tanh_c).reshape(steps * rows, units)
    x_rows, dr_rows = x.reshape(steps * rows, inputs), dr.reshape(steps * rows, -1)
    dx, dwx, dwr, dp = _over_all_steps(x_rows, r_before, m, wx, dg_rows, dr_rows, rounded=rounded)
    return dx.reshape(x.shape), dwx, dwr, dg_rows.sum(axis=0), dp


def _over_all_steps(
    x: Array, r_before: Array, m: Array, wx: Array, dg: Array, dr: Array, *, rounded: bool
) -> tuple[Array, Array, Array, Array]:
    """The gradients of x, wx, wr and p."""
    if not rounded:
        return dg @ wx.T, x.T @ dg, r_before.T @ dg, m.T @ dr
    narrow, product = bfloat16.rounded, bfloat16.product
    x, r_before, m, wx = (bfloat16.transposed(narrow(factor)) for factor in (x, r_before, m, wx))
    dg = narrow(dg)
    return product(dg, wx), product(x, dg), product(r_before, dg), product(m, narrow(dr))


def _split(gates: Array, units: int) -> list[Array]:
    """The three gates of an array of shape (rows, 3 units)."""
    return [gates[:, first * units : (first + 1) * units] for first in range(3)]


def _sigmoid(x: Array) -> Array:
    """The logistic function, right to the rounding of 1 in float32 (a small value to no more digits), without a division."""
    return 0.5 + 0.5 * jnp.tanh(0.5 * x)


_cifg.defvjp(_forward, _backward)
