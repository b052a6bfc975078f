"""The operating system's generator: the only module that touches `os.urandom`.

Keys and noise start here. A function that needs secret randomness takes an `Entropy` argument, so that a seeded simulation can
pass another one and say in its report that its guarantee is void.
"""

import os
from collections.abc import Callable
from typing import TypeAlias

Entropy: TypeAlias = Callable[[int], bytes]
"""`entropy(n)` gives n fresh bytes."""


def system_entropy(num_bytes: int) -> bytes:
    """`num_bytes` from the operating system.

    >>> len(system_entropy(32))
    32
    """
    if num_bytes < 0:
        raise ValueError(f"num_bytes must not be negative, not {num_bytes}")
    return os.urandom(num_bytes)
