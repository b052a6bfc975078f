"""Reads public weights to start from: named arrays in an .npz or .safetensors file."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

_DTYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "I64": "<i8", "I32": "<i4", "U8": "|u1", "I8": "|i1"}


def read(path: str | Path) -> dict[str, NDArray[Any]]:
    """The named arrays of a file.

    Raises:
      ValueError: for a file that is neither, is missing, or has an array of another type.
    """
    path = Path(path)
    try:
        if path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as archive:
                return {name: archive[name] for name in archive.files}
        if path.suffix == ".safetensors":
            return _safetensors(path.read_bytes())
    except (OSError, KeyError, UnicodeDecodeError) as error:
        raise ValueError(f"weights {path} cannot be read: {error}") from error
    raise ValueError(f"weights must be an .npz or .safetensors file, not {path}")


def named(path: str | Path, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, NDArray[np.float32]]:
    """The arrays that a model of these shapes starts from.

    Raises:
      ValueError: if the file lacks one of them, or one has another shape.
    """
    arrays = read(path)
    given = {name: arrays[name].shape for name in shapes if name in arrays}
    if given != dict(shapes):
        raise ValueError(f"weights {path} must hold {dict(shapes)}, not {given}")
    return {name: np.asarray(arrays[name], np.float32) for name in shapes}


def _safetensors(content: bytes) -> dict[str, NDArray[Any]]:
    size = int.from_bytes(content[:8], "little")
    header = cast(dict[str, Any], json.loads(content[8 : 8 + size]))
    body = memoryview(content)[8 + size :]
    arrays: dict[str, NDArray[Any]] = {}
    for name, entry in header.items():
        if name != "__metadata__":
            start, stop = entry["data_offsets"]
            arrays[name] = np.frombuffer(body[start:stop], _DTYPES[entry["dtype"]]).reshape(entry["shape"])
    return arrays
