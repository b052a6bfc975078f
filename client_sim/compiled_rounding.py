"""Rounding long vectors, or several, to the grid in one compiled program: what `privacy.grid_rounding` does in passes, bit for bit."""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# (JAX types its functions only in part.)

from collections.abc import Sequence
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt

from privacy.grid_rounding import FRACTION_BITS
from privacy.keystream import Keystream
from trainer import aligned

SHORTEST = 1 << 18
"""Below, the passes cost less than calling a program."""
_LANES_BYTES = 8 << 20
"""Vectors that are rounded at once take no more than this: coins and results are as long again, and all should stay in the cache."""


class CompiledCut:
    """`privacy.grid_rounding.Cut` by XLA, on the processor; one at a time.

    Guarantee: the same integers as without it, from the same coins. Both multiply in single precision, cut towards 0 and go on in
      integers; a product below the normal numbers is 0 for either.

    >>> stream = lambda: Keystream(bytes(32), "coins", 0)
    >>> CompiledCut()(np.array([0.5, -2.0], np.float32), np.float32(1 << 16), stream()).tolist()
    [1, -2]
    """

    def __init__(self) -> None:
        self._coins = np.empty(0, np.uint16)

    def __call__(self, vector: npt.NDArray[np.float32], factor: np.float32, stream: Keystream) -> npt.NDArray[np.int32]:
        """Rounds `vector`, shape (d,), as `privacy.grid_rounding.Cut` says."""
        if len(self._coins) != vector.size:
            self._coins = aligned.empty(vector.shape, np.uint16)
        stream.fill(self._coins.view(np.uint8))
        return np.asarray(_program()(vector, factor, self._coins))  # waits: the coins are free again


class CompiledRows:
    """`privacy.grid_rounding.RowsCut` by XLA, on the processor, for up to `lanes` vectors; one call at a time.

    Guarantee: for each row the integers of `CompiledCut`, from the same coins.

    >>> rows, factors = np.array([[0.5, -2.0], [3.0, 9.0]], np.float32), np.array([1 << 16], np.float32)
    >>> CompiledRows(2, 2)(rows, factors, Keystream(bytes(32), "coins", 0)).tolist()
    [[1.0, -2.0]]
    """

    def __init__(self, lanes: int, dimension: int) -> None:
        self._coins = aligned.empty((lanes, dimension), np.uint16)

    def __call__(
        self, rows: npt.NDArray[np.float32], factors: npt.NDArray[np.float32], coins: Keystream | Sequence[Keystream]
    ) -> npt.NDArray[np.float32]:
        """Rounds as many of `rows`, shape (lanes, d), as there are factors."""
        count = len(factors)
        if isinstance(coins, Keystream):
            coins.fill(self._coins[:count].reshape(-1).view(np.uint8))
        else:
            for own, stream in zip(self._coins[:count], coins, strict=True):
                stream.fill(own.view(np.uint8))
        every = np.zeros(len(rows), np.float32)
        every[:count] = factors
        # Rows behind those that are asked for are rounded with whatever lies where their coins would be, and dropped.
        return np.asarray(_rows_program()(rows, every, self._coins))[:count]


def compiled_cut(dimension: int) -> CompiledCut | None:
    """One for vectors of this length, or None where the passes are faster or the backend is no processor."""
    return CompiledCut() if dimension >= SHORTEST and jax.default_backend() == "cpu" else None


def compiled_rows(lanes: int, dimension: int) -> CompiledRows | None:
    """One for so many vectors of this length, or None where one after the other is faster or the backend is no processor."""
    fits = lanes > 1 and lanes * dimension * 4 <= _LANES_BYTES
    return CompiledRows(lanes, dimension) if fits and jax.default_backend() == "cpu" else None


@cache
def _program() -> Any:
    def cut(vector: jax.Array, factor: jax.Array, coins: jax.Array) -> jax.Array:
        return ((vector * factor).astype(jnp.int32) + coins.astype(jnp.int32)) >> FRACTION_BITS

    return jax.jit(cut, compiler_options={"xla_cpu_prefer_vector_width": 512})


@cache
def _rows_program() -> Any:
    def cut(rows: jax.Array, factors: jax.Array, coins: jax.Array) -> jax.Array:
        whole = ((rows * factors[:, None]).astype(jnp.int32) + coins.astype(jnp.int32)) >> FRACTION_BITS
        return whole.astype(jnp.float32)

    return jax.jit(cut, compiler_options={"xla_cpu_prefer_vector_width": 512})
