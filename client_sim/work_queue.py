"""Work that several processes take one piece at a time, so that none waits long for a slower one.

A pipe holds the numbers of the pieces: whoever reads one has it, and a number can be read once.
"""

import os
from collections.abc import Iterator

_NUMBER_BYTES = 2
MOST_PIECES = 1 << 12
"""That many numbers fit into a pipe of any system before anybody reads."""


class WorkQueue:
    """Numbers 0 to n - 1, each given to one of the processes that hold `descriptor`.

    >>> queue = WorkQueue()
    >>> queue.fill([0, 1])
    >>> list(taken(queue.descriptor))
    [0, 1]
    >>> queue.close()
    """

    def __init__(self) -> None:
        self.descriptor, self._write = os.pipe()
        os.set_blocking(self.descriptor, False)
        os.set_blocking(self._write, False)

    def fill(self, pieces: list[int]) -> None:
        """Puts in these numbers, in the order in which they are to be taken; what was left in is taken out.

        Raises:
          ValueError: for more than `MOST_PIECES`.
        """
        if len(pieces) > MOST_PIECES:
            raise ValueError(f"at most {MOST_PIECES} pieces of work, not {len(pieces)}")
        for _ in taken(self.descriptor):
            pass
        written = b"".join(piece.to_bytes(_NUMBER_BYTES, "big") for piece in pieces)
        if os.write(self._write, written) != len(written):
            raise OSError(f"a pipe that does not hold {len(written)} bytes")

    def close(self) -> None:
        """Gives the descriptors back."""
        os.close(self.descriptor)
        os.close(self._write)


def taken(descriptor: int) -> Iterator[int]:
    """Takes one number after another, until there is none; a number is taken when it is asked for."""
    while True:
        try:
            # The kernel gives out two bytes together: all that was written are pairs, and readers take turns.
            number = os.read(descriptor, _NUMBER_BYTES)
        except BlockingIOError:
            return
        if len(number) < _NUMBER_BYTES:
            return
        yield int.from_bytes(number, "big")
