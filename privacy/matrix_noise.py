"""Correlated noise on the integer grid: banded and buffered-linear-Toeplitz strategies in integer arithmetic.

With C of `strategies`, y = C x + z is the Gaussian mechanism and x + C^-1 z follows from y. Both streams release integers
x_t + w_t and keep exact track of what they are a function of:

Let F be the fraction bits, Z_t = round(N(0, sigma^2)) a whole number of 2^-F steps, drawn exactly, and
w_t = floor((Z_t - r_t + 2^(F-1)) / 2^F) with r_t the feedback of w_0 .. w_(t-1) in 2^-F steps. Given the released x_s + w_s for s < t,
x_t + w_t = floor((2^F x_t - r_t + Z_t + 2^(F-1)) / 2^F) is post-processing of the Gaussian mechanism on the integer vector
q_t = 2^F x_t - r_t(released - x). For a neighbour x + Delta, q_t changes by 2^F (C Delta)_t exactly where r is linear with whole
coefficients (banded), and within `numerical_error` a coordinate where decays are applied with rounding (BLT). The changes over all
rounds therefore have a norm of at most ||C Delta|| plus that error times sqrt(d T), and adaptively chosen Gaussian mechanisms compose
by adding squares (arXiv:2210.17520v2, main theorem). No floating point takes part.
"""

import numpy as np
from numpy.typing import NDArray

from privacy.keystream import Keystream
from privacy.samplers import Sampler
from privacy.strategies import DECAY_BITS, Banded, BufferedToeplitz

_BLOCK = 1 << 15
_LIMIT = 1 << 61


class BandedNoise:
    """w_t = Z_t - sum_j c_j w_(t-j), rounded to whole steps; keeps the last bands - 1 vectors.

    Guarantee:
      What the prefix of sums and noise tells is a function of 2^F C x + Z, exactly.
    """

    def __init__(self, *, dimension: int, strategy: Banded, sampler: Sampler, key: bytes, first_leaf: int = 0) -> None:
        self._dimension, self._strategy, self._sampler, self._key = dimension, strategy, sampler, key
        self._past = np.zeros((max(strategy.bands - 1, 1), dimension), np.int32)
        self._leaf = 0
        while self._leaf < first_leaf:
            self.next()

    @property
    def leaf(self) -> int:
        """Index of the leaf that `next` serves."""
        return self._leaf

    def next(self) -> NDArray[np.int64]:
        """This leaf's noise, shape (d,).

        Raises:
          ArithmeticError: if a value leaves 31 bits, which a plan's sigma makes impossible but for a chance below 2^-100.
        """
        leaf, rows = self._leaf, len(self._past)
        self._leaf += 1
        noise = _gaussian(self._sampler, self._key, leaf, self._dimension)
        terms = [((leaf - lag) % rows, self._strategy.coefficients[lag]) for lag in range(1, min(leaf, rows) + 1)]
        if self._strategy.bands == 1:
            terms = []
        for start in range(0, self._dimension, _BLOCK):
            part = noise[start : start + _BLOCK]
            for row, coefficient in terms:
                part -= self._past[row, start : start + _BLOCK].astype(np.int64) * coefficient
            _round(part, self._strategy.fraction_bits)
        if _largest(noise) >= 1 << 31:
            raise ArithmeticError("correlated noise left 31 bits")
        self._past[leaf % rows] = noise
        return noise


class BufferedNoise:
    """w_t = Z_t - sum_i S_i, S_i <- floor(decay_i S_i) + scale_i w_t; keeps one vector a buffer.

    Guarantee:
      As the module says, with the numerical error of `BufferedToeplitz.numerical_error`.

    Source: arXiv:2404.16706v2 (Dvijotham, McMahan, Pillutla, Steinke, Thakurta), the streaming algorithm for the inverse.
    """

    def __init__(
        self, *, dimension: int, strategy: BufferedToeplitz, sampler: Sampler, key: bytes, first_leaf: int = 0
    ) -> None:
        self._dimension, self._strategy, self._sampler, self._key = dimension, strategy, sampler, key
        self._buffers = np.zeros((len(strategy.decays), dimension), np.int64)
        self._bound = 0
        self._leaf = 0
        while self._leaf < first_leaf:
            self.next()

    @property
    def leaf(self) -> int:
        """Index of the leaf that `next` serves."""
        return self._leaf

    def next(self) -> NDArray[np.int64]:
        """This leaf's noise, shape (d,).

        Raises:
          ArithmeticError: if a buffer leaves 62 bits, which a plan's sigma makes impossible but for a chance below 2^-100.
        """
        noise = _gaussian(self._sampler, self._key, self._leaf, self._dimension)
        self._leaf += 1
        for start in range(0, self._dimension, _BLOCK):
            part = noise[start : start + _BLOCK]
            buffers = self._buffers[:, start : start + _BLOCK]
            for buffer in buffers:
                part -= buffer
            _round(part, self._strategy.fraction_bits)
            for buffer, decay, scale in zip(buffers, self._strategy.decays, self._strategy.scales, strict=True):
                _decay(buffer, decay)
                buffer += part * scale
        self._check(_largest(noise))
        return noise

    def _check(self, largest: int) -> None:
        self._bound += max(self._strategy.scales) * largest + 1
        if self._bound >= _LIMIT:
            self._bound = _largest(self._buffers)
        if self._bound >= _LIMIT:
            raise ArithmeticError("a noise buffer left 62 bits")


def _gaussian(sampler: Sampler, key: bytes, leaf: int, dimension: int) -> NDArray[np.int64]:
    return sampler.draw(Keystream(key, "correlated noise", leaf), dimension).astype(np.int64, copy=False)


def _round(values: NDArray[np.int64], fraction_bits: int) -> None:
    """Whole steps from 2^-fraction_bits steps, to the nearest, in place."""
    if fraction_bits:
        values += 1 << (fraction_bits - 1)
        values >>= fraction_bits


def _decay(buffer: NDArray[np.int64], decay: int) -> None:
    """floor(decay 2^-31 buffer) in place: the high and the low 31 bits are multiplied apart, so that nothing overflows."""
    low = buffer & ((1 << DECAY_BITS) - 1)
    buffer >>= DECAY_BITS
    buffer *= decay
    low *= decay
    low >>= DECAY_BITS
    buffer += low


def _largest(values: NDArray[np.int64]) -> int:
    return max(int(values.max(initial=0)), -int(values.min(initial=0)))
