"""Arrays that several processes of this machine see: a file in memory that only its owner can open, mapped by each."""

import mmap
import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

_IN_MEMORY = Path("/dev/shm")  # noqa: S108 - not a predictable name: mkstemp makes the file in it


class SharedArray:
    """One array under a path; `forget` removes the name once every process has mapped it.

    >>> first = SharedArray.create((3,), np.int64)
    >>> second = SharedArray.attach(first.path, (3,), np.int64); first.forget()
    >>> first.array[1] = 7; second.array.tolist()
    [0, 7, 0]
    """

    def __init__(self, path: Path, descriptor: int, shape: tuple[int, ...], dtype: npt.DTypeLike) -> None:
        self.path = path
        self._map = mmap.mmap(descriptor, max(1, int(np.prod(shape)) * np.dtype(dtype).itemsize))
        os.close(descriptor)
        self.array: npt.NDArray[Any] = np.frombuffer(self._map, dtype, count=int(np.prod(shape))).reshape(shape)

    @classmethod
    def create(cls, shape: tuple[int, ...], dtype: npt.DTypeLike) -> "SharedArray":
        """A new array of zeros."""
        descriptor, name = tempfile.mkstemp(prefix="tutti-", dir=_IN_MEMORY if _IN_MEMORY.is_dir() else None)
        os.ftruncate(descriptor, max(1, int(np.prod(shape)) * np.dtype(dtype).itemsize))
        return cls(Path(name), descriptor, shape, dtype)

    @classmethod
    def attach(cls, path: Path, shape: tuple[int, ...], dtype: npt.DTypeLike) -> "SharedArray":
        """The array that another process made at `path`."""
        return cls(path, os.open(path, os.O_RDWR), shape, dtype)

    def forget(self) -> None:
        """Removes the name; the memory goes when the last process lets go of it."""
        self.path.unlink(missing_ok=True)
