"""Gives the memory that a compiler left free back to the system."""

import ctypes
import functools
from collections.abc import Callable
from typing import Any


def release() -> None:
    """Asks glibc to return what has been freed; nothing happens where the C library has no `malloc_trim`.

    XLA takes tens of megabytes to compile a program. glibc keeps them, in pieces, for as long as anything above them lives: for
    `next_word`, 90 MB after nine programs. A call takes some tens of milliseconds, a compilation seconds.
    """
    _trim()(0)


@functools.cache
def _trim() -> Callable[[int], Any]:
    try:
        return ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError, TypeError):  # another C library; TypeError is Windows, which has no library of this name
        return lambda _: None
