"""Which processor cores there are, and how to stay on one.

XLA chooses its threads, and with them the order of its additions, by the number of cores it may use when it starts. A process that
is pinned to one core before JAX computes anything therefore gives the same bits everywhere.
"""

import os
from collections.abc import Generator
from contextlib import contextmanager

_CAN_PIN = hasattr(os, "sched_setaffinity")


def available() -> tuple[int, ...]:
    """The cores that this thread may use, ascending.

    >>> len(available()) >= 1
    True
    """
    return tuple(sorted(os.sched_getaffinity(0))) if _CAN_PIN else tuple(range(os.cpu_count() or 1))


@contextmanager
def pinned(core: int) -> Generator[None]:
    """Keeps the calling thread, and the processes and threads that it starts meanwhile, on `core`; afterwards as before.

    Where the system cannot pin (macOS), it does nothing, and digests are claimed for that machine only.

    >>> with pinned(available()[0]): available() == available()[:1] or not hasattr(os, "sched_setaffinity")
    True
    """
    if not _CAN_PIN:
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
