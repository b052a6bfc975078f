"""Messages between this process and the one that started it: a line of JSON, then the bytes of the arrays that it names.

The other end is `tutti.engines.frames`; a test sends messages through both.
"""

import json
import math
from collections.abc import Mapping
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray


def write(stream: BinaryIO, facts: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> None:
    """One message: `facts` as a line of JSON, with the shapes of `arrays`, whose little-endian bytes follow."""
    whole = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    shapes = [[name, array.dtype.str, list(array.shape)] for name, array in whole.items()]
    stream.write(json.dumps({**facts, "arrays": shapes}).encode() + b"\n")
    stream.writelines(array.tobytes() for array in whole.values())
    stream.flush()


def read(stream: BinaryIO) -> tuple[dict[str, Any], dict[str, NDArray[Any]]] | None:
    """The next message, or None where the other end is gone."""
    line = stream.readline()
    if not line:
        return None
    facts = json.loads(line)
    arrays: dict[str, NDArray[Any]] = {}
    for name, kind, shape in facts.pop("arrays"):
        dtype = np.dtype(kind)
        content = stream.read(dtype.itemsize * math.prod(shape))
        arrays[name] = np.frombuffer(content, dtype).reshape(shape)
    return facts, arrays
