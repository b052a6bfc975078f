"""Integers from a table: inverse transform sampling with 128 random bits, of which 16 usually suffice.

The unit interval is cut into one cell for each outcome, with borders rounded to multiples of 2^-128. A draw is the cell that a
128-bit uniform number falls into. Its first 16 bits index a table that settles the draw unless a border lies inside that
65,536th; then the next 48 bits are compared with the borders, and in the one case in 2^64 that they equal one, the last 64.
The result is the same as if all 128 bits had always been compared.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from privacy.keystream import Keystream

_BITS = 128
_BLOCK = 1 << 16
_UNSETTLED = np.int16(-(1 << 15))


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """A sampler of `first` + cell index.

    Args:
      first: the outcome of the first cell.
      borders: upper borders of the cells but the last, non-decreasing integers in [0, 2^128]; fewer than 32,767 cells.

    Guarantee:
      Given uniform key bytes, outcome i has exactly the probability (borders[i] - borders[i - 1]) / 2^128.
    """

    first: int
    borders: tuple[int, ...] = field(repr=False)
    _cells: NDArray[np.int16] = field(init=False, repr=False, compare=False)
    _high: NDArray[np.uint64] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not 0 < len(self.borders) < (1 << 15) - 2:
            raise ValueError(f"a table holds 2 to 32,766 cells, not {len(self.borders) + 1}")
        inner = [border for border in self.borders if border < 1 << _BITS]
        high = np.array([border >> 64 for border in inner], np.uint64)
        if np.any(high[1:] < high[:-1]) or self.borders[0] < 0:
            raise ValueError("borders must be non-negative and must not decrease")
        object.__setattr__(self, "_high", high)
        object.__setattr__(self, "_cells", _settled(inner))

    def draw(self, stream: Keystream, count: int) -> NDArray[np.int32]:
        """`count` independent outcomes, int32, shape (count,)."""
        out = np.empty(count, np.int32)
        for start in range(0, count, _BLOCK):
            part = out[start : start + _BLOCK]
            part[:] = self.draw_cells(stream, part.size)
        out += self.first
        return out

    def draw_cells(self, stream: Keystream, count: int) -> NDArray[np.int16]:
        """`count` independent cell indices, int16, shape (count,); fastest for up to 65,536 at a time."""
        return self.draw_and_find(stream, count, least=len(self.borders) + 1)[0]

    def draw_and_find(self, stream: Keystream, count: int, *, least: int) -> tuple[NDArray[np.int16], NDArray[np.int64]]:
        """As `draw_cells`; and which of them are at least `least`, ascending."""
        words = stream.words(count, np.uint16)
        cells = np.empty(count, np.int16)
        np.take(self._cells, words, mode="wrap", out=cells)
        found = np.flatnonzero(cells.view(np.uint16) >= least)  # without its sign, the mark is larger than any cell
        unsettled = found[cells[found] == _UNSETTLED]
        if unsettled.size:
            cells[unsettled] = self._settle(words[unsettled], stream)
            found = found[cells[found] >= least]
        return cells, found

    def _settle(self, words: NDArray[np.uint16], stream: Keystream) -> NDArray[np.int64]:
        more = stream.words(words.size, np.uint64) >> np.uint64(16)
        high = words.astype(np.uint64) << np.uint64(48) | more
        cells = np.searchsorted(self._high, high, side="right")
        equal = np.flatnonzero(self._high[np.maximum(cells, 1) - 1] == high)
        for index in equal.tolist():
            number = int(high[index]) << 64 | stream.integer(64)
            cells[index] = sum(border <= number for border in self.borders)
        return cells


def from_weights(*, first: int, weights: Sequence[int]) -> Table:
    """The table of outcomes `first`, `first` + 1, ... with probabilities proportional to the integers `weights`.

    Guarantee:
      Each border is rounded by less than 2^-128, so that the table is within len(weights) 2^-128 of the law in total variation.

    >>> table = from_weights(first=-1, weights=[1, 2, 1])
    >>> sorted(set(table.draw(Keystream(bytes(32), "doc", 0), 100).tolist()))
    [-1, 0, 1]
    """
    total, running, borders = sum(weights), 0, list[int]()
    for weight in weights[:-1]:
        running += weight
        borders.append((running << _BITS) // total)
    return Table(first=first, borders=tuple(borders))


def _settled(borders: list[int]) -> NDArray[np.int16]:
    """For each 16-bit prefix its only cell, or the mark that a border lies inside. Shape (65,536,)."""
    prefix = np.array([border >> (_BITS - 16) for border in borders], np.int64)
    on_edge = np.array([border & ((1 << (_BITS - 16)) - 1) == 0 for border in borders], np.bool_)
    at_start = np.searchsorted(prefix, np.arange(1 << 16), side="left")  # borders in earlier prefixes
    edges = np.bincount(prefix[on_edge], minlength=1 << 16)
    cells = (at_start + edges).astype(np.int16)
    cells[np.unique(prefix[~on_edge])] = _UNSETTLED
    return cells
