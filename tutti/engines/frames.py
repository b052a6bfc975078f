"""Messages to and from an engine's process: a line of JSON, then the little-endian bytes of the arrays that it names.

The other end is the engine's own code (`client_sim/tff_engine`), which shares no import with this one.
"""

import json
import math
from collections.abc import Mapping
from typing import Any, BinaryIO, TypeAlias

import numpy as np
from numpy.typing import NDArray

Arrays: TypeAlias = Mapping[str, NDArray[Any]]
LARGEST_ARRAY = 1 << 32
"""Bytes; an engine that announces more is not waited for."""


def write(stream: BinaryIO, facts: Mapping[str, Any], arrays: Arrays) -> None:
    """One message: `facts` as a line of JSON with the shapes of `arrays`, then their bytes.

    >>> import io
    >>> stream = io.BytesIO()
    >>> write(stream, {"op": "round"}, {"rows": np.arange(3)})
    >>> _ = stream.seek(0)
    >>> read(stream)
    ({'op': 'round'}, {'rows': array([0, 1, 2])})
    """
    whole = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    shapes = [[name, array.dtype.str, list(array.shape)] for name, array in whole.items()]
    stream.write(json.dumps({**facts, "arrays": shapes}).encode() + b"\n")
    stream.writelines(array.tobytes() for array in whole.values())
    stream.flush()


def read(stream: BinaryIO) -> tuple[dict[str, Any], dict[str, NDArray[Any]]] | None:
    """The next message, or None where the other end is gone, in the middle of one too.

    Raises:
      ValueError: for an array that is larger than `LARGEST_ARRAY`.
    """
    line = stream.readline()
    if not line.endswith(b"\n"):
        return None
    facts: dict[str, Any] = json.loads(line)
    arrays: dict[str, NDArray[Any]] = {}
    for name, kind, shape in facts.pop("arrays"):
        dtype = np.dtype(kind)
        size = dtype.itemsize * math.prod(shape)
        if not 0 <= size <= LARGEST_ARRAY:
            raise ValueError(f"array {name!r} of {size} bytes is larger than {LARGEST_ARRAY}")
        content = stream.read(size)
        if len(content) < size:
            return None
        arrays[name] = np.frombuffer(content, dtype).reshape(shape)
    return facts, arrays
