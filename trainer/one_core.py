"""What JAX and the C library are told in a process that trains on one pinned core, before its first program."""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# (JAX types its functions only in part.)

import jax
import numpy as np

from trainer import compile_cache

_DISPATCH = "jax_cpu_enable_async_dispatch"
_FREED_BYTES = 8 << 20


def settle() -> None:
    """Programs run in the thread that calls them, and what a program gives back is kept for the next; their bits are the same.

    With one core, another thread for programs costs two changes of threads each and gains nothing. And glibc gives memory back to the
    system by the size of the largest piece that it was ever given back: until that is larger than a chunk of updates, each chunk begins
    with empty pages that the system has to clear.

    Nothing is done in a process that has several cores, or where JAX has begun.
    """
    if compile_cache.usable_cores() != 1 or compile_cache.begun():
        return
    if _DISPATCH in jax.config.values:  # a setting that a JAX to come may do without
        jax.config.update(_DISPATCH, False)
    np.empty(_FREED_BYTES, np.uint8)  # given back at once, and no page of it was touched
