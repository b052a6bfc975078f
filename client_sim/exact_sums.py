"""Exact sums of many int32 vectors: added up in 32 bits for as long as those cannot overflow, half the memory traffic of 64."""

import math
from collections.abc import Sequence
from typing import Self

import numpy as np
import numpy.typing as npt

_LARGEST = (1 << 31) - 1
_EXACT_SINGLE = 1 << 24
"""Whole numbers up to here, and so sums whose every part stays below, are exact in single precision."""


class ExactSum:
    """Adds vectors to `total`, int64, which is complete after `flush`.

    >>> total = np.ones(2, np.int64)
    >>> with ExactSum(total) as summing: summing.add(np.array([3, -4], np.int32), 25)
    >>> total.tolist()
    [4, -3]
    """

    def __init__(self, total: npt.NDArray[np.int64]) -> None:
        self._total = total
        self._partial = np.zeros(len(total), np.int32)
        self._reach = 0
        self._single: npt.NDArray[np.float32] | None = None
        self._single_reach = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.flush()

    def add(self, vector: npt.NDArray[np.int32], norm_squared: int) -> None:
        """Adds a vector whose exact squared norm is `norm_squared`: no coordinate of the partial sum exceeds the sum of the norms."""
        largest = math.isqrt(norm_squared)
        if self._reach + largest > _LARGEST:
            self.flush()
        if largest > _LARGEST:
            self._total += vector
            return
        self._partial += vector
        self._reach += largest

    def add_rows(self, rows: npt.NDArray[np.float32], norms_squared: Sequence[int]) -> None:
        """Adds whole numbers in single precision, shape (k, d), whose rows have these exact squared norms."""
        largest = sum(map(math.isqrt, norms_squared))
        if largest >= _EXACT_SINGLE:
            for row, norm_squared in zip(rows, norms_squared, strict=True):
                self.add(row.astype(np.int32), norm_squared)
            return
        if self._single is None:
            self._single = np.zeros(len(self._total), np.float32)
        if self._single_reach + largest >= _EXACT_SINGLE:
            self.flush()
        for row in rows:
            self._single += row
        self._single_reach += largest

    def flush(self) -> None:
        """Moves what was added into `total`."""
        if self._reach:
            self._total += self._partial
            self._partial[:] = 0
            self._reach = 0
        if self._single is not None and self._single_reach:
            self._total += self._single.astype(np.int32)
            self._single[:] = 0
            self._single_reach = 0
