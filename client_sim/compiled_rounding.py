"""The rounding of long vectors to the grid in one compiled program: what `privacy.grid_rounding` does in seven passes, bit for bit."""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# (JAX types its functions only in part.)

from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt

from privacy.grid_rounding import FRACTION_BITS
from privacy.keystream import Keystream

SHORTEST = 1 << 18
"""Below, the passes cost less than calling a program."""
_ALIGNED_BYTES = 64
"""An array that begins at a multiple of this is used by a program where it lies."""


class CompiledCut:
    """`privacy.grid_rounding.Cut` by XLA, on the processor; one at a time.

    Guarantee: the same integers as without it, from the same coins. Both multiply in single precision, cut towards 0 and go on in
      integers; a product below the normal numbers is 0 for either.

    >>> stream = lambda: Keystream(bytes(32), "coins", 0)
    >>> CompiledCut()(np.array([0.5, -2.0], np.float32), np.float32(1 << 16), stream()).tolist()
    [1, -2]
    """

    def __init__(self) -> None:
        self._bytes = np.empty(0, np.uint8)

    def __call__(self, vector: npt.NDArray[np.float32], factor: np.float32, stream: Keystream) -> npt.NDArray[np.int32]:
        """Rounds `vector`, shape (d,), as `privacy.grid_rounding.Cut` says."""
        coins = self._coins(vector.size)
        stream.fill(coins)
        return np.asarray(_program()(vector, factor, coins.view(np.uint16)))  # waits: the coins are free again

    def _coins(self, size: int) -> npt.NDArray[np.uint8]:
        if len(self._bytes) != 2 * size + _ALIGNED_BYTES:
            self._bytes = np.empty(2 * size + _ALIGNED_BYTES, np.uint8)
        start = -self._bytes.ctypes.data % _ALIGNED_BYTES
        return self._bytes[start : start + 2 * size]


def compiled_cut(dimension: int) -> CompiledCut | None:
    """One for vectors of this length, or None where the passes are faster or the backend is no processor."""
    return CompiledCut() if dimension >= SHORTEST and jax.default_backend() == "cpu" else None


@cache
def _program() -> Any:
    def cut(vector: jax.Array, factor: jax.Array, coins: jax.Array) -> jax.Array:
        return ((vector * factor).astype(jnp.int32) + coins.astype(jnp.int32)) >> FRACTION_BITS

    return jax.jit(cut, compiler_options={"xla_cpu_prefer_vector_width": 512})
