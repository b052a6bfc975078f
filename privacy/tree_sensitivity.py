"""The exact squared sensitivity of a binary tree of sums, when one device may take part several times.

Notation follows NUMBERS: zeta* is the maximum, over the participation patterns u in {0,1}^T with at most k ones and at least s
rounds strictly between any two, of the sum over tree nodes v of (sum of u over v's leaves)^2. With noise of standard deviation
z times the contribution bound on every node, the tree costs rho = zeta* / (2 z^2).

A tree of 2^m leaves is summarised by F_m[p, a, e]: the largest cost with exactly p participations, the first of which lies at
least a leaves from the left edge, and the wait of s leaves after the last one reaching at most e leaves past the right edge.
Two neighbouring subtrees meet in one number, the wait that crosses their border, so that F_m is a max-plus product of F_(m-1)
with itself, plus p^2 for the node on top. T leaves form a forest of complete trees, left to right in falling size; trees that
are restarted make a longer forest under the same joint pattern. Incomplete nodes are never released and are not priced.
"""

from functools import cache, lru_cache
from itertools import pairwise
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Costs: TypeAlias = NDArray[np.signedinteger[Any]]
_NEVER = -(1 << 29)
_NARROW_CAP = 3000
"""Up to so many participations every cost fits 28 bits: a level adds at most k^2, and there are fewer than 30 levels."""
_DEEP = 200
_AT_ONCE = 1 << 18
"""Numbers in one temporary array."""


def squared(
    *, leaves: int, minimum_separation: int, max_participations: int | None = None, restart_every: int | None = None
) -> int:
    """zeta* of `leaves` rounds of tree aggregation.

    Args:
      leaves: rounds released, T >= 0.
      minimum_separation: s >= 0, the rounds strictly between two participations of one device.
      max_participations: k >= 1, a cap on one device's participations; None for no cap but the separation's.
      restart_every: leaves after which a new tree begins; None for one tree.

    Raises:
      ValueError: for a negative or zero argument where none can be.

    Guarantee:
      Exact: no pattern that the arguments allow costs more, and one costs as much. Never decreases in `leaves` and
      `max_participations`, never increases in `minimum_separation`.

    Source: arXiv:2103.00039v3 (Kairouz et al.), appendix D.2 poses the problem for this tree; the programme is our own and is
    checked against brute force.

    >>> [squared(leaves=4, minimum_separation=1), squared(leaves=7, minimum_separation=1)]
    [8, 11]
    """
    _check(leaves, minimum_separation, max_participations, restart_every)
    if leaves == 0:
        return 0
    wait = min(minimum_separation, leaves)
    most = -(-leaves // (wait + 1))
    # No more than `most` are possible; a power of two above lets many numbers of leaves share what is known of their trees.
    shared = 1 << most.bit_length()
    cap = shared if max_participations is None else min(shared, max_participations)
    sizes = _sizes(leaves, restart_every)
    if min(most, cap) == 1:  # one leaf, and a one for every node above it
        return max(sizes) + 1
    for prefix in range(_DEEP, len(sizes), _DEEP):  # keeps the recursion over many restarted trees shallow
        _forest(sizes[:prefix], wait, cap)
    row = _forest(sizes, wait, cap)
    return int(row[:, wait].max())


def most_participations(*, leaves: int, minimum_separation: int, max_participations: int | None = None) -> int:
    """How often one device can take part at most.

    >>> most_participations(leaves=2000, minimum_separation=313)
    7
    """
    _check(leaves, minimum_separation, max_participations, None)
    feasible = -(-leaves // (minimum_separation + 1))
    return feasible if max_participations is None else min(feasible, max_participations)


def nodes(leaves: int, restart_every: int | None = None) -> int:
    """How many nodes are complete, and so noised, after `leaves` leaves.

    >>> nodes(4), nodes(5), nodes(5, restart_every=2)
    (7, 8, 7)
    """
    _check(leaves, 0, None, restart_every)
    return sum(2 * (1 << level) - 1 for level in _sizes(leaves, restart_every))


def _check(leaves: int, minimum_separation: int, max_participations: int | None, restart_every: int | None) -> None:
    if leaves < 0:
        raise ValueError(f"leaves must not be negative, not {leaves}")
    if minimum_separation < 0:
        raise ValueError(f"minimum_separation must not be negative, not {minimum_separation}")
    if max_participations is not None and max_participations < 1:
        raise ValueError(f"max_participations must be at least 1, not {max_participations}")
    if restart_every is not None and restart_every < 1:
        raise ValueError(f"restart_every must be at least 1, not {restart_every}")


def _sizes(leaves: int, restart_every: int | None) -> tuple[int, ...]:
    """Levels of the complete trees of the forest, left to right."""
    every = restart_every or max(leaves, 1)
    full, rest = divmod(leaves, every)
    return _levels(every) * full + _levels(rest)


def _levels(leaves: int) -> tuple[int, ...]:
    return tuple(level for level in range(leaves.bit_length() - 1, -1, -1) if leaves >> level & 1)


def _type(cap: int) -> type[np.int32] | type[np.int64]:
    return np.int32 if cap <= _NARROW_CAP else np.int64


def _never(cap: int) -> int:
    """A cost that no addition of two brings near zero."""
    return _NEVER if cap <= _NARROW_CAP else -(1 << 61)


@lru_cache(maxsize=4096)
def _forest(levels: tuple[int, ...], wait: int, cap: int) -> Costs:
    """Row [p, e]: the best cost of the trees so far with p participations and a wait of at most e after the right edge.

    Shape (at most cap + 1, wait + 1). Prefixes of a forest are shared through the cache, so that pricing every round of a run
    costs one product a round.
    """
    if not levels:
        return np.zeros((1, wait + 1), _type(cap))
    return _append(_forest(levels[:-1], wait, cap), levels[-1], wait, cap)


def _append(row: Costs, level: int, wait: int, cap: int) -> Costs:
    """`_join` of a row, shape (p, c), with a tree, all numbers of participations or all borders at once: whichever are more."""
    tree = _tree(level, wait, cap)
    most, never = min(cap, len(row) + len(tree) - 2), _never(cap)
    out = np.full((len(row) + len(tree) - 1, wait + 1), never, row.dtype)
    if len(tree) > wait + 1:
        step = max(1, _AT_ONCE // (len(row) * (wait + 1)))
        for first in range(0, len(tree), step):
            some = tree[first : first + step]
            target = out[first : first + len(some) + len(row) - 1]
            np.maximum(target, _all_splits(row, some), out=target)
    else:
        for extra, borders in enumerate(_tree_borders(level, wait, cap)):
            target = out[extra : extra + len(row)]
            for border in borders:
                np.maximum(target, row[:, border, None] + tree[extra, border], out=target)
    return _feasible(out[: most + 1], never)


def _all_splits(row: Costs, tree: Costs) -> Costs:
    """Shape (p + r - 1, e): for each sum of participations the best way to split it."""
    best = row[None, :, 0, None] + tree[:, None, 0]
    for border in range(1, row.shape[1]):
        np.maximum(best, row[None, :, border, None] + tree[:, None, border], out=best)
    # Row y of `best`, moved y places to the right: the same numbers, read as rows that are one shorter.
    (splits, places, ends), never = best.shape, np.iinfo(best.dtype).min // 2
    wide = np.full((splits, places + splits, ends), never, best.dtype)
    wide[:, :places] = best
    moved: Costs = wide.reshape(-1, ends)[: splits * (places + splits - 1)].reshape(splits, places + splits - 1, ends)
    return moved.max(axis=0)


@cache
def _tree(level: int, wait: int, cap: int) -> Costs:
    """F_level, shape (participations + 1, wait + 1, wait + 1)."""
    if level == 0:
        table = np.full((2, wait + 1, wait + 1), _never(cap), _type(cap))
        after, before = np.arange(wait + 1)[None, :], np.arange(wait + 1)[:, None]
        table[0][before <= 1 + after] = 0
        table[1, 0, wait] = 1
        return table
    half = _tree(level - 1, wait, cap)
    table = _join(half, half, cap)
    return table + (np.arange(len(table), dtype=table.dtype) ** 2)[:, None, None]


def _join(left: Costs, right: Costs, cap: int) -> Costs:
    """Max-plus product over the participations and over the wait at the border.

    Args:
      left: shape (p, a, c); right: shape (r, c, e).

    Returns:
      Shape (p + r, a, e), participations up to `cap`, those that fit no pattern left out.
    """
    most, never = min(cap, len(left) + len(right) - 2), _never(cap)
    out = np.full((most + 1, left.shape[1], right.shape[2]), never, left.dtype)
    for extra in range(min(len(right), most + 1)):
        rows = left[: most + 1 - extra]
        target = out[extra : extra + len(rows)]
        for border in _borders(right[extra]):
            np.maximum(target, rows[:, :, border, None] + right[extra, border], out=target)
    return _feasible(out, never)


def _feasible(out: Costs, never: int) -> Costs:
    """Without what stands for no pattern: `out`, whose first axis are the participations, is overwritten."""
    out[out < 0] = never
    possible = (out >= 0).any(axis=tuple(range(1, out.ndim)))
    return out[: int(np.flatnonzero(possible).max()) + 1]


@lru_cache(maxsize=1024)
def _tree_borders(level: int, wait: int, cap: int) -> list[list[int]]:
    return [_borders(table) for table in _tree(level, wait, cap)]


def _borders(table: Costs) -> list[int]:
    """Border waits worth trying: rows of `table` (c, e) that allow something, each distinct row once, at its largest c.

    A larger wait allows the left tree more, so that of equal rows only the last one matters.
    """
    alive = [int(border) for border in np.flatnonzero((table >= 0).any(axis=1))]
    return [first for first, second in pairwise(alive) if not np.array_equal(table[first], table[second])] + alive[-1:]
