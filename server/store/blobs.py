"""Arrays as bytes: parameters as raw little-endian float32, optimiser state as safetensors."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors import numpy as safetensors


def pack_parameters(parameters: NDArray[np.float32]) -> bytes:
    """Little-endian float32 bytes of a vector of shape (d,)."""
    return np.ascontiguousarray(parameters, dtype="<f4").tobytes()


def parameters_bytes(parameters: NDArray[np.float32]) -> memoryview:
    """What `pack_parameters` gives, without a copy of it."""
    return np.ascontiguousarray(parameters, dtype="<f4").view(np.uint8).data


def unpack_parameters(blob: bytes) -> NDArray[np.float32]:
    """The vector that `pack_parameters` wrote."""
    return np.frombuffer(blob, dtype="<f4").astype(np.float32)


def pack_state(state: Mapping[str, NDArray[Any]]) -> bytes:
    """Named arrays as safetensors; the same state gives the same bytes."""
    # Not np.ascontiguousarray: it makes a scalar, such as Adam's count, an array of one.
    return safetensors.save({name: np.asarray(array, order="C") for name, array in sorted(state.items())})


def unpack_state(blob: bytes) -> dict[str, NDArray[Any]]:
    """The arrays that `pack_state` wrote.

    Raises:
      ValueError: if these bytes are none.
    """
    try:
        return safetensors.load(blob)
    except (SafetensorError, KeyError, TypeError) as error:
        raise ValueError(f"no state of an optimiser: {error}") from None
