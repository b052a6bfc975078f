"""The interface that every source of examples offers."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol, TypeAlias, runtime_checkable

import numpy as np
import numpy.typing as npt

Example: TypeAlias = Mapping[str, object]
"""One example as the model's `featurize` reads it: `{"text": ...}`, `{"x": ..., "y": ...}` and so on."""


@runtime_checkable
class Loader(Protocol):
    """Devices' examples, addressed by position; every call with the same position gives the same examples.

    Held-out users are other users than the devices: they are never trained on.
    """

    @property
    def num_devices(self) -> int:
        """How many devices there are to train on."""
        ...

    @property
    def digest(self) -> str:
        """Hex SHA-256 that names the data: equal digests mean equal examples."""
        ...

    def examples(self, index: int) -> Sequence[Example]:
        """The examples of the device at `index`, 0 <= index < num_devices."""
        ...

    def held_out(self) -> Iterator[Sequence[Example]]:
        """The examples of each held-out user in turn."""
        ...


@runtime_checkable
class CountingLoader(Loader, Protocol):
    """A loader that knows how many examples its devices have without making them."""

    def num_examples(self, devices: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Shape (n,) for `devices` of shape (n,)."""
        ...


def example_counts(loader: Loader, devices: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """How many examples each of `devices` has.

    Args:
      loader: any loader; one that counts by itself is asked, of another the examples are counted.
      devices: int64, shape (n,).

    Returns:
      int64, shape (n,).

    >>> from client_sim.data.synthetic_features import SyntheticFeatures
    >>> bool(example_counts(SyntheticFeatures(num_devices=3, seed=0), np.arange(3)).min() >= 1)
    True
    """
    if isinstance(loader, CountingLoader):
        return loader.num_examples(devices)
    return np.array([len(loader.examples(int(index))) for index in devices], np.int64)
