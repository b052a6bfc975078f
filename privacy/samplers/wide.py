"""Integers from a wide bell-shaped law: a bucket from a table, the rest from uniform bits, a rare exact rejection.

The line is cut into buckets of 2^L integers, about a twentieth of a standard deviation wide. Over bucket k the density f lies
between m_k and M_k. A candidate takes bucket k with probability proportional to M_k and a uniform place in it; it is accepted
with probability f(place) / M_k. The table makes the cheap part of that test: with m_k of the weight it draws "bucket k, accept
without looking" and with M_k - m_k "bucket k, look", which happens in about 2 percent of the draws and then accepts with
probability (f(place) - m_k) / (M_k - m_k). A rejected candidate is drawn again from the start.

The test is exact: f is first evaluated in floating point with a proved tolerance, and whenever the random number lies within the
tolerance of the border, 128 further bits decide against f to 110 digits. So the only distances from the true law are the table's
128-bit borders and the tails that are cut at 14 standard deviations. Speed does not depend on the standard deviation.
"""

import math
from dataclasses import dataclass
from decimal import Decimal, localcontext
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from privacy.keystream import Keystream
from privacy.samplers import precise, table

TAIL = 14
"""Standard deviations at which tails are cut: their mass is below 2^-145."""

DISTANCE_LOG2 = -115
"""Total variation distance of one draw from its law, for every sampler of this package: at most 2,000 borders of 2^-128 over an
acceptance above 1/2, and the tails; a table alone has at most 4,096 borders."""

_BLOCK = 1 << 16
_SCALE_BITS = 320
_TOLERANCE = 2.0**-32


class Density(Protocol):
    """A symmetric law that falls with |x|, unnormalised, with f(0) = 1."""

    @property
    def deviation(self) -> float:
        """Standard deviation, in integers."""
        ...

    @property
    def rounded(self) -> bool:
        """True: f is a density on the reals and the draw is rounded to the nearest integer. False: f is a mass on integers."""
        ...

    def exact(self, x: Decimal) -> Decimal:
        """f(x) to 100 digits."""
        ...

    def ratio(self, x: NDArray[np.float64], top: NDArray[np.float64]) -> NDArray[np.float64]:
        """f(x) / f(top), within 2^-40, where x and `top` lie within an eighth of a deviation of each other."""
        ...


@dataclass(frozen=True, slots=True)
class Bucket:
    """Weights of one bucket: f lies in [sure, sure + look] 2^-320 over it, and is largest at `top`."""

    top: Decimal
    sure: int
    look: int


class Wide:
    """A sampler of `density`, whose deviation is at least 64 and below 2^54.

    Guarantee:
      Each draw is within 2^DISTANCE_LOG2 of the law in total variation, given uniform key bytes.

    >>> from privacy.samplers.laws import Gaussian
    >>> Wide(Gaussian(deviation=1e5, rounded=True)).draw(Keystream(bytes(32), "doc", 0), 2).dtype
    dtype('int32')
    """

    distance_log2 = DISTANCE_LOG2

    def __init__(self, density: Density, *, tolerance: float = _TOLERANCE) -> None:
        if not 64 <= density.deviation < 2.0**54:
            raise ValueError(f"deviation must lie in [64, 2^54), not {density.deviation}")
        self._density = density
        self._tolerance = tolerance
        self._shift = math.floor(math.log2(density.deviation)) - 4
        self._half = math.ceil(TAIL * density.deviation / (1 << self._shift))
        self._offset = Decimal("0.5") if density.rounded else Decimal(0)
        buckets = [self._bucket(index) for index in range(-self._half, self._half)]
        self._buckets = buckets
        self._top = np.array([float(bucket.top) for bucket in buckets])
        self._floor = np.array([bucket.sure / (bucket.sure + bucket.look) for bucket in buckets])
        weights = [bucket.sure for bucket in buckets] + [bucket.look for bucket in buckets]
        self._table = table.from_weights(first=0, weights=weights)

    @property
    def reach(self) -> int:
        """No draw is larger in magnitude."""
        return self._half << self._shift

    def draw(self, stream: Keystream, count: int) -> NDArray[np.int32] | NDArray[np.int64]:
        """`count` independent draws, shape (count,), int32 if every draw fits it, else int64."""
        out: NDArray[Any] = np.empty(count, np.int32 if self.reach < 1 << 31 else np.int64)
        rejected = self._attempt(stream, out)
        while rejected.size:
            again = np.empty(rejected.size, out.dtype)
            once_more = self._attempt(stream, again)
            out[rejected] = again
            rejected = rejected[once_more]
        return out

    def _bucket(self, index: int) -> Bucket:
        left = Decimal(index << self._shift) - self._offset
        right = Decimal((index + 1) << self._shift) - (self._offset if self._density.rounded else 1)
        top = Decimal(0) if left <= 0 <= right else min(left, right, key=abs)
        sure = precise.scaled(self._density.exact(max(left, right, key=abs)), _SCALE_BITS)
        return Bucket(top, sure, precise.scaled(self._density.exact(top), _SCALE_BITS) + 1 - sure)

    def _attempt(self, stream: Keystream, out: NDArray[Any]) -> NDArray[np.int64]:
        """Overwrites `out`, shape (n,), with candidates; which of them are rejected, ascending."""
        places, cells = list[NDArray[np.int64]](), list[NDArray[np.int16]]()
        for start in range(0, out.size, _BLOCK):
            found, looked_at = self._propose(stream, out[start : start + _BLOCK])
            places.append(start + found)
            cells.append(looked_at)
        place = np.concatenate(places)
        return place[~self._accepts(np.concatenate(cells), out[place], stream)]

    def _propose(self, stream: Keystream, out: NDArray[Any]) -> tuple[NDArray[np.int64], NDArray[np.int16]]:
        """Overwrites `out`, shape (n,) with n at most 65,536, with candidates; which of them are to be looked at, and their buckets."""
        cells, found = self._table.draw_and_find(stream, out.size, least=2 * self._half)
        looked_at = cells[found] - np.int16(2 * self._half)
        cells[found] = looked_at
        np.copyto(out, cells)
        out -= self._half
        out <<= self._shift
        out += self._low(stream, out.size)
        return found, looked_at

    def _low(self, stream: Keystream, count: int) -> NDArray[Any]:
        """Uniform places in a bucket, shape (count,), of the type that was drawn for them."""
        mask = (1 << self._shift) - 1
        if self._shift <= 16:
            return stream.words(count, np.uint16) & np.uint16(mask)
        if self._shift <= 32:
            return stream.words(count, np.uint32) & np.uint32(mask)
        return stream.words(count, np.uint64).view(np.int64) & mask

    def _accepts(self, cells: NDArray[np.int16], integers: NDArray[Any], stream: Keystream) -> NDArray[np.bool_]:
        """Whether each candidate stays, shape (n,): a coin of probability (f - sure) / look."""
        coins = stream.words(cells.size, np.uint64)
        places = stream.words(cells.size, np.uint32) if self._density.rounded else np.zeros(cells.size, np.uint32)
        x = integers.astype(np.float64) + (places * 2.0**-32 - float(self._offset))
        floor = self._floor[cells]
        margin = self._density.ratio(x, self._top[cells]) - floor - (coins * 2.0**-64) * (1 - floor)
        accepted = margin > 0
        for index in np.flatnonzero(np.abs(margin) < self._tolerance).tolist():
            accepted[index] = self._decide(
                self._buckets[int(cells[index])], int(integers[index]), int(coins[index]), int(places[index]), stream
            )
        return accepted

    def _decide(self, bucket: Bucket, integer: int, coin: int, place: int, stream: Keystream) -> bool:
        """The same coin, refined by 128 more bits of it and of the place."""
        coin = coin << 128 | stream.integer(128)
        with localcontext(precise.CONTEXT):
            x = Decimal(integer) - self._offset
            if self._density.rounded:
                x += Decimal(place << 128 | stream.integer(128)) / (1 << 160)
            height = self._density.exact(x) * (1 << _SCALE_BITS) - bucket.sure
            return Decimal(coin) * bucket.look < height * (1 << 192)
