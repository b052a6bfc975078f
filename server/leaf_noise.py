"""The server's noise, leaf by leaf; drawn in the background while the charge that it belongs to is being committed."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray


class LeafNoise:
    """The noise of leaves from a stream of increments.

    Args:
      following: the next increment, int64 of shape (d,), a new vector each time; called for one leaf after another, never for two at once.
      independent: whether each leaf's noise stands alone. Otherwise the noise of a leaf is what the mechanism's prefix changes by since
        the last release, leaves that were charged but never released included.
    """

    def __init__(self, following: Callable[[], NDArray[np.int64]], *, next_leaf: int, independent: bool = False) -> None:
        self._following, self._independent = following, independent
        self._next_leaf = self._undrawn = next_leaf
        self._held: NDArray[np.int64] | None = None
        self._drawing: Future[None] | None = None

    def prepare(self, leaf: int) -> None:
        """Begins to draw what `through(leaf)` will give. It stays in here: a round that is not released after all reveals nothing.

        Raises:
          ValueError: as `through`.
        """
        self._settle(leaf)
        thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="noise")
        self._drawing = thread.submit(self._draw, leaf)
        thread.shutdown(wait=False)  # ends with its one task: no thread is left over that a fork could lose

    def through(self, leaf: int) -> NDArray[np.int64]:
        """The noise between the last released leaf and `leaf`, or of `leaf` alone, int64, shape (d,); the caller's own.

        Raises:
          ValueError: if the leaf was released before, or one behind it was prepared: noise is never used twice.
        """
        self._settle(leaf)
        self._draw(leaf)
        total, self._held = self._held, None
        if total is None:
            raise ValueError(f"no noise was drawn for leaf {leaf}")
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

    def _settle(self, leaf: int) -> None:
        """Waits for what is being drawn; its error is this one's."""
        drawing, self._drawing = self._drawing, None
        if drawing is not None:
            drawing.result()
        if leaf < self._next_leaf or leaf + 1 < self._undrawn:
            raise ValueError(f"leaf {leaf} was released before; the next one is {max(self._next_leaf, self._undrawn - 1)}")

    def _draw(self, leaf: int) -> None:
        while self._undrawn <= leaf:
            increment = self._following()
            self._undrawn += 1
            self._held = increment if self._held is None or self._independent else self._held + increment
