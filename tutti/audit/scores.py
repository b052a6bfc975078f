"""What scoring gives, and who is told how far it is."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Watch: TypeAlias = Callable[[int, int], None]
"""Told how many sequences are scored, of how many."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scores:
    """Scores under one model; higher is likelier.

    Args:
      grid: of the grid's canaries, float64, shape (n,).
      references: shared, float64, shape (1, r), or of each canary's own, shape (n, r).
      coins: of the canaries that are in or out by coins, float64, shape (c,).
      extracted: whether a search finds the secret, bool, shape (n,); None if this kind of model offers no search.
    """

    grid: NDArray[np.float64] = field(repr=False)
    references: NDArray[np.float64] = field(repr=False)
    coins: NDArray[np.float64] = field(repr=False)
    extracted: NDArray[np.bool_] | None = field(default=None, repr=False)
