"""The server's noise, leaf by leaf."""

from collections.abc import Callable
from typing import cast

import numpy as np
from numpy.typing import NDArray


class LeafNoise:
    """The noise of leaves from a stream of increments.

    Args:
      following: the next increment, int64 of shape (d,), a new vector each time.
      independent: whether each leaf's noise stands alone. Otherwise the noise of a leaf is what the mechanism's prefix changes by since
        the last release, leaves that were charged but never released included.
    """

    def __init__(self, following: Callable[[], NDArray[np.int64]], *, next_leaf: int, independent: bool = False) -> None:
        self._following, self._next_leaf, self._independent = following, next_leaf, independent
        self._prepared: NDArray[np.int64] | None = None

    def prepare(self) -> None:
        """Draws the next increment while there is time. It is a function of key and leaf: `through` gives what it would have given."""
        if self._prepared is None:
            self._prepared = self._following()

    def through(self, leaf: int) -> NDArray[np.int64]:
        """The noise between the last released leaf and `leaf`, or of `leaf` alone, int64, shape (d,); the caller's own.

        Raises:
          ValueError: if the leaf was released before: noise is never used twice.
        """
        if leaf < self._next_leaf:
            raise ValueError(f"leaf {leaf} was released before; the next one is {self._next_leaf}")
        self.prepare()
        total, self._prepared = cast(NDArray[np.int64], self._prepared), None
        for _ in range(leaf - self._next_leaf):
            total = self._following() if self._independent else total + self._following()
        self._next_leaf = leaf + 1
        return total

    def added_to(self, total: NDArray[np.int64], leaf: int) -> NDArray[np.int64]:
        """`total`, int64 of shape (d,), with `through(leaf)` in it, a vector of its own.

        Raises:
          ValueError: as `through`.
        """
        noised = self.through(leaf)
        noised += total
        return noised
