"""Strategies of the matrix mechanism in fixed point: what correlated noise is made from, exactly as it is priced.

A strategy is a lower-triangular Toeplitz matrix C with ones on the diagonal. The mechanism releases x + C^-1 z for a noise z on C x:
`coefficients` is C's first column. Everything is a whole number of 2^-fraction_bits (decays: 2^-31), so that the noise stream
computes with the very matrix that the accountant prices.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from privacy import matrix_sensitivity

DECAY_BITS = 31


@dataclass(frozen=True, slots=True, kw_only=True)
class Banded:
    """C has `len(coefficients)` bands; entry j below the diagonal is coefficients[j] 2^-fraction_bits.

    >>> square_root_banded(bands=3).real().round(3)
    array([1.   , 0.5  , 0.375])
    """

    coefficients: tuple[int, ...]
    fraction_bits: int

    def __post_init__(self) -> None:
        one = 1 << self.fraction_bits
        if not self.coefficients or self.coefficients[0] != one:
            raise ValueError("the first coefficient must be 1")
        if any(abs(coefficient) > one for coefficient in self.coefficients):
            raise ValueError("coefficients must lie in [-1, 1]")

    @property
    def bands(self) -> int:
        """Diagonals that are not zero."""
        return len(self.coefficients)

    @property
    def squared_norm(self) -> int:
        """Squared norm of a full column, in units of 2^(-2 fraction_bits)."""
        return sum(coefficient**2 for coefficient in self.coefficients)

    def real(self) -> NDArray[np.float64]:
        """The coefficients as float64, shape (bands,)."""
        return np.array(self.coefficients, np.float64) * 2.0**-self.fraction_bits


@dataclass(frozen=True, slots=True, kw_only=True)
class BufferedToeplitz:
    """C's entry j > 0 below the diagonal is sum_i scales[i] 2^-fraction_bits (decays[i] 2^-31)^(j - 1)."""

    decays: tuple[int, ...]
    scales: tuple[int, ...]
    fraction_bits: int

    def __post_init__(self) -> None:
        matrix_sensitivity.coefficients(self.buf_decay, self.output_scale, 1)  # refuses what is no such strategy

    @property
    def buf_decay(self) -> tuple[float, ...]:
        """Decay of each buffer, exact."""
        return tuple(decay * 2.0**-DECAY_BITS for decay in self.decays)

    @property
    def output_scale(self) -> tuple[float, ...]:
        """Scale of each buffer, exact."""
        return tuple(scale * 2.0**-self.fraction_bits for scale in self.scales)

    def numerical_error(self, rounds: int) -> float:
        """How far, in grid steps, a coordinate of C Delta may be misjudged because decays are applied with rounding.

        A product is rounded down by less than one unit of 2^-fraction_bits, and a buffer forgets it at its decay.
        """
        lasting = sum(min(rounds, 1 / (1 - decay)) if decay < 1 else rounds for decay in self.buf_decay)
        return lasting * 2.0**-self.fraction_bits


Strategy = Banded | BufferedToeplitz


def square_root_banded(*, bands: int, fraction_bits: int = 24) -> Banded:
    """The first `bands` coefficients of the square root of the prefix-sum matrix, c_j = c_(j-1) (2j - 1) / (2j).

    Source: arXiv:2405.15913v2 (McKenna; banded Toeplitz strategies); coefficients of arXiv:2202.11205v3 (Fichtenberger,
    Henzinger, Upadhyay), Equation 1.
    """
    if bands < 1:
        raise ValueError(f"bands must be at least 1, not {bands}")
    index = np.arange(1, bands, dtype=np.float64)
    column = np.concatenate([[1.0], np.cumprod((2 * index - 1) / (2 * index))])
    return Banded(
        coefficients=tuple(round(value * (1 << fraction_bits)) for value in column.tolist()), fraction_bits=fraction_bits
    )


def buffered(*, buf_decay: tuple[float, ...], output_scale: tuple[float, ...], fraction_bits: int = 30) -> BufferedToeplitz:
    """The buffered-linear-Toeplitz strategy nearest below the given real parameters.

    >>> buffered(buf_decay=(0.5,), output_scale=(0.25,)).buf_decay
    (0.5,)
    """
    return BufferedToeplitz(
        decays=tuple(math.floor(decay * (1 << DECAY_BITS)) for decay in buf_decay),
        scales=tuple(math.floor(scale * (1 << fraction_bits)) for scale in output_scale),
        fraction_bits=fraction_bits,
    )


def prefix_error(column: NDArray[np.float64], rounds: int) -> float:
    """Root-mean-square error of the prefix sums when z has deviation 1: rows of A C^-1, A the prefix sums.

    Args:
      column: first column of C, float64, shape (at most rounds,), zeros beyond.

    >>> round(prefix_error(np.array([1.0]), 4), 4)
    1.5811
    """
    inverse = np.zeros(rounds)
    inverse[0] = 1 / column[0]
    for row in range(1, rounds):
        reach = min(row, len(column) - 1)
        inverse[row] = -np.dot(column[1 : reach + 1], inverse[row - 1 :: -1][:reach]) / column[0]
    squares = np.cumsum(inverse) ** 2
    return math.sqrt(float(np.cumsum(squares).mean()))
