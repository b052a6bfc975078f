"""Arrays that begin where a compiled program on a processor uses them as they lie; others it copies first."""

import math
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

_BYTES = 64


def empty(shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
    """`np.empty`, aligned.

    >>> empty((3, 5), np.int16).ctypes.data % 64
    0
    """
    size = math.prod(shape) * np.dtype(dtype).itemsize
    memory = np.empty(size + _BYTES, np.uint8)
    start = -memory.ctypes.data % _BYTES
    return memory[start : start + size].view(dtype).reshape(shape)


def zeros(shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
    """`np.zeros`, aligned."""
    made = empty(shape, dtype)
    made[...] = 0
    return made
