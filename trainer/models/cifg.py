"""One CIFG layer with a recurrent projection, with a backward pass written by hand.

Notation follows arXiv:1402.1128v1 (recurrent projection) and arXiv:1503.04069v2 (coupled input and forget gate): x_t input,
r_t projected output, c_t cell, m_t = o * tanh(c_t), P projection:

    g = x_t Wx + r_{t-1} Wr + b ;  f, o, u = split(g) ;  f = sigmoid(f) ;  o = sigmoid(o) ;  u = tanh(u)
    c = f c + (1 - f) u ;  m = o tanh(c) ;  r = m P

The product x Wx of all steps is taken before the scan, and every weight gradient is one product over all steps after it; what
remains inside of the scans are the two products that depend on the step before.
"""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# (JAX types its functions only in part.)

from typing import TypeAlias

import jax
import jax.numpy as jnp

from trainer.model import Array

Residuals: TypeAlias = tuple[Array, ...]


@jax.custom_vjp
def cifg(x: Array, wx: Array, wr: Array, b: Array, p: Array) -> Array:
    """Outputs r of all steps, float32, shape (steps, rows, projection), from zero state.

    Args:
      x: inputs, shape (steps, rows, inputs).
      wx: shape (inputs, 3 units); wr: shape (projection, 3 units); b: shape (3 units,); p: shape (units, projection). The gates
        stand in the order forget, output, update.
    """
    return _forward(x, wx, wr, b, p)[0]


def _forward(x: Array, wx: Array, wr: Array, b: Array, p: Array) -> tuple[Array, Residuals]:
    steps, rows, inputs = x.shape
    units = p.shape[0]
    gx = (x.reshape(steps * rows, inputs) @ wx + b).reshape(steps, rows, -1)

    def step(state: tuple[Array, Array], gx_t: Array) -> tuple[tuple[Array, Array], tuple[Array, ...]]:
        r, c = state
        g = gx_t + r @ wr
        gates = jax.nn.sigmoid(g[:, : 2 * units])
        f, o = gates[:, :units], gates[:, units:]
        u = jnp.tanh(g[:, 2 * units :])
        c = u + f * (c - u)
        r = (o * jnp.tanh(c)) @ p
        return (r, c), (gates, u, c, r)

    start = (jnp.zeros((rows, p.shape[1]), x.dtype), jnp.zeros((rows, units), x.dtype))
    _, (gates, u, c, r) = jax.lax.scan(step, start, gx)
    return r, (x, wx, wr, p, gates, u, c, r)


def _backward(residuals: Residuals, dr: Array) -> tuple[Array, Array, Array, Array, Array]:
    x, wx, wr, p, gates, u, c, r = residuals
    steps, rows, inputs = x.shape
    units = p.shape[0]
    c_before = jnp.concatenate([jnp.zeros_like(c[:1]), c[:-1]])
    tanh_c = jnp.tanh(c)
    wr_t, p_t = wr.T, p.T

    def step(state: tuple[Array, Array], saved: tuple[Array, ...]) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
        dr_next, dc = state
        dr_t, gates_t, u_t, tanh_t, before = saved
        f, o = gates_t[:, :units], gates_t[:, units:]
        dr_t = dr_t + dr_next
        dm = dr_t @ p_t
        dc = dc + dm * o * (1.0 - tanh_t * tanh_t)
        dg = jnp.concatenate(
            [dc * (before - u_t) * f * (1.0 - f), dm * tanh_t * o * (1.0 - o), dc * (1.0 - f) * (1.0 - u_t * u_t)], axis=1
        )
        return (dg @ wr_t, dc * f), (dg, dr_t)

    start = (jnp.zeros_like(dr[0]), jnp.zeros_like(c[0]))
    _, (dg, dr) = jax.lax.scan(step, start, (dr, gates, u, tanh_c, c_before), reverse=True)
    dg_rows = dg.reshape(steps * rows, 3 * units)
    r_before = jnp.concatenate([jnp.zeros_like(r[:1]), r[:-1]]).reshape(steps * rows, -1)
    m = (gates[:, :, units:] * tanh_c).reshape(steps * rows, units)
    dx = (dg_rows @ wx.T).reshape(x.shape)
    dwx = x.reshape(steps * rows, inputs).T @ dg_rows
    return dx, dwx, r_before.T @ dg_rows, dg_rows.sum(axis=0), m.T @ dr.reshape(steps * rows, -1)


cifg.defvjp(_forward, _backward)
