"""A synthetic classification population: feature vectors around class centres, each device with its own few classes."""

import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from client_sim.data import heavy_tail
from client_sim.data.loader import Example
from contract import canonical
from contract.randomness import stream


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class SyntheticFeatures:
    """`num_devices` devices, whose example is `{"x": float32 (num_features,), "y": int}`.

    A class has a centre; an example is its centre plus noise plus the device's own small shift. A device's labels follow a
    Dirichlet law with concentration `skew`: the smaller, the fewer classes on one device.
    """

    num_devices: int
    seed: int
    num_features: int = 784
    num_classes: int = 62
    num_held_out: int = 100
    skew: float = 0.3

    def __post_init__(self) -> None:
        """Refuses sizes that make no population."""
        for name in ("num_devices", "num_features", "num_classes"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}")
        if self.skew <= 0:
            raise ValueError(f"skew must be above 0, not {self.skew}")

    @property
    def digest(self) -> str:
        """Hex SHA-256 of the recipe."""
        return canonical.digest({"synthetic": "features", "version": 1, "of": canonical.plain(self)})

    def num_examples(self, devices: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Examples of each of `devices`: int64, shape (n,)."""
        return heavy_tail.example_counts(self.seed, devices)

    def examples(self, index: int) -> Sequence[Example]:
        """The examples of the device at `index`.

        Raises:
          ValueError: if `index` is no device.

        >>> SyntheticFeatures(num_devices=2, seed=0).examples(1)[0]["x"].shape
        (784,)
        """
        if not 0 <= index < self.num_devices:
            raise ValueError(f"device {index} is not in 0..{self.num_devices - 1}")
        return self._generate(index)

    def held_out(self) -> Iterator[Sequence[Example]]:
        """Users beyond the devices, made the same way."""
        return (self._generate(self.num_devices + user) for user in range(self.num_held_out))

    def _generate(self, index: int) -> tuple[Example, ...]:
        count = int(self.num_examples(np.array([index]))[0])
        draw = stream(self.seed, "features", index)
        labels = draw.choice(self.num_classes, count, p=draw.dirichlet(np.full(self.num_classes, self.skew)))
        shift = draw.normal(0.0, 0.1, self.num_features)
        features = self._centres()[labels] + shift + draw.normal(0.0, 0.5, (count, self.num_features))
        rows = features.astype(np.float32)
        return tuple({"x": row, "y": int(label)} for row, label in zip(rows, labels, strict=True))

    def _centres(self) -> npt.NDArray[np.float64]:
        # Remade on each call (0.5 ms): the value stays small enough to send to a worker.
        return stream(self.seed, "centres").normal(0.0, 0.25, (self.num_classes, self.num_features))
