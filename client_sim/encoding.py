"""From a plan's `encoding` to the function that turns an update into the integers that may leave the device."""

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from contract.entropy import Entropy
from privacy.grid import Grid


class Encoder(Protocol):
    """Clips and rounds; what it makes may be summed."""

    @property
    def dimension(self) -> int:
        """Length of an update and of what it is encoded to."""
        ...

    def encode(self, delta: npt.NDArray[np.float32], entropy: Entropy) -> npt.NDArray[np.int32]:
        """Integers, int32 of shape (d,), from an update, float32 of shape (d,)."""
        ...

    @property
    def norm_bound_squared(self) -> int:
        """The largest squared norm of an encoded update that the accounting covers."""
        ...


def encoder_of(encoding: Mapping[str, Any]) -> Encoder:
    """The encoder that a plan asks for.

    Raises:
      ValueError: for an encoding that this device does not know.

    >>> encoder_of({"kind": "grid", "dimension": 3, "clip_norm": "1", "step": "0.0009765625", "beta": "0.5"}).dimension
    3
    """
    kind = encoding.get("kind")
    if kind not in _KNOWN:
        raise ValueError(f"this device knows no encoding of kind {kind!r}, only {', '.join(map(str, _KNOWN))}")
    return _KNOWN[kind](encoding)


_KNOWN: dict[object, Callable[[Mapping[str, Any]], Encoder]] = {"grid": Grid.from_json}
