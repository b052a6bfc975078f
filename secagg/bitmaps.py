"""Sets of roster slots as bitmaps: slot i is bit i % 8, lowest first, of byte i // 8."""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray


def encode(slots: Iterable[int], size: int) -> bytes:
    """The bitmap of `slots` among `size` devices, ceil(size / 8) bytes.

    >>> encode({0, 9}, 10).hex()
    '0102'
    """
    members = np.zeros(size, dtype=np.bool_)
    members[list(slots)] = True
    return np.packbits(members, bitorder="little").tobytes()


def decode(bitmap: bytes, size: int) -> NDArray[np.bool_] | None:
    """Membership of each slot, bool, shape (size,); None if the length is wrong or a bit beyond the last slot is set.

    >>> decode(b"\\x01\\x02", 10).nonzero()[0].tolist(), decode(b"\\x01\\xff", 10), decode(b"", 10)
    ([0, 9], None, None)
    """
    if len(bitmap) != -(-size // 8):
        return None
    bits = np.unpackbits(np.frombuffer(bitmap, dtype=np.uint8), bitorder="little")
    return None if bits[size:].any() else bits[:size].astype(np.bool_)


def slots_of(members: NDArray[np.bool_]) -> tuple[int, ...]:
    """Ascending slots of the members.

    >>> slots_of(np.array([True, False, True]))
    (0, 2)
    """
    return tuple(members.nonzero()[0].tolist())
