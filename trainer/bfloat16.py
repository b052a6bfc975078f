"""Products of factors rounded to bfloat16, summed in float32, on processors that multiply those faster.

XLA's compiler for a processor keeps a product in bfloat16 only where each factor lies in memory in the order of its axes as the
product names them; anything else it widens to float32 first, which gains nothing. So what is rounded here is laid out, too.
"""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# (JAX types its functions only in part.)

import functools
from pathlib import Path

import jax
import jax.numpy as jnp

from trainer.model import Array

_INSTRUCTION = "avx512_bf16"


def rounded(x: Array) -> Array:
    """float32 to bfloat16, to nearest, halves away from zero. NaN as arithmetic makes it and infinities stay what they are.

    XLA's own conversion is not vectorised: it takes some 0.25 ns an element, this less than half of it.

    >>> rounded(jnp.float32(1.00390625 + 2**-20)).astype(jnp.float32).item()
    1.0078125
    """
    return _upper_half(_bits(x))


def exponential(x: Array) -> Array:
    """e^x in bfloat16 for float32 x <= 0, right to 2^-8 + 2^-13 of itself; below 2^-126 it is that.

    2^(n + f) with f in [-1/2, 1/2] is a cubic in f with n added to its exponent: three fifths of the time of XLA's exponential,
    which is right to digits that the rounding drops. The cubic is the minimax one for the relative error, 7.5e-5.
    """
    power = x * 1.4426950408889634
    power = jnp.where(power < -126.0, -126.0, power)  # unlike a maximum, this lets NaN through
    whole = jnp.round(power)
    rest = power - whole
    mantissa = 0.99992814 + rest * (0.69326097 + rest * (0.24260999 + rest * 0.05517109))
    return _upper_half(_bits(mantissa) + (whole.astype(jnp.int32).astype(jnp.uint32) << 23))


def transposed(matrix: Array) -> Array:
    """The transpose of a bfloat16 matrix, in memory too: the reshape hides from XLA that it could read `matrix` sideways instead.

    Two rows go together as numbers of 32 bits where they are even in number: XLA's transposition takes its time by the element.
    """
    rows, columns = matrix.shape
    bits = jax.lax.bitcast_convert_type(matrix, jnp.uint16)
    if rows % 2 == 0:
        low, high = bits.reshape(rows // 2, 2, columns).astype(jnp.uint32).transpose(1, 0, 2)
        bits = jax.lax.optimization_barrier(low | (high << 16))
    flat = jax.lax.optimization_barrier(bits.T.reshape(-1))
    turned = jax.lax.bitcast_convert_type(flat, jnp.uint16).reshape(columns, rows)
    return jax.lax.bitcast_convert_type(turned, jnp.bfloat16)


def _bits(x: Array) -> Array:
    return jax.lax.bitcast_convert_type(x, jnp.uint32)


def _upper_half(bits: Array) -> Array:
    """The bfloat16 nearest to the float32 of these bits. The barrier keeps XLA from making it again for each product."""
    half = jax.lax.optimization_barrier(((bits + 0x8000) >> 16).astype(jnp.uint16))
    return jax.lax.bitcast_convert_type(half, jnp.bfloat16)


def product(left: Array, right: Array) -> Array:
    """`left right` of bfloat16 matrices, summed in float32."""
    return jnp.dot(left, right, preferred_element_type=jnp.float32)


@functools.cache
def gains() -> bool:
    """Whether products in bfloat16 are faster here than in float32: on a processor with an instruction for them, by a library of
    XLA's that uses it. Both are facts of the machine and of jaxlib, not measured times, so every process here decides alike.

    Source: measured with jaxlib 0.10.2 on Zen 5, 2048 x 2048: 430 GFLOP/s in bfloat16, 250 in float32.
    """
    if jax.default_backend() != "cpu" or _INSTRUCTION not in _processor():
        return False
    shapes = (jax.ShapeDtypeStruct(shape, jnp.bfloat16) for shape in ((64, 96), (96, 512)))
    compiled = jax.jit(product).lower(*shapes).compile().as_text()
    return compiled is not None and "f32[96,512]" not in compiled  # which would be the factor, widened


def _processor() -> str:
    """What Linux says of the processors; nothing elsewhere."""
    try:
        return Path("/proc/cpuinfo").read_text()
    except OSError:
        return ""
