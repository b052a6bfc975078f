"""Some of a source's users: a random sample of its devices, for work that needs a smaller population."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from client_sim.data.loader import Example, Loader, example_counts
from contract import canonical, randomness


@dataclass(frozen=True, slots=True, kw_only=True)
class UserSample:
    """`most` devices of `base`, drawn evenly without looking at what they have, in the base's order; all if it has no more.

    Held-out users stay as they are.

    Raises:
      ValueError: if `most` is below 1.

    >>> from client_sim.data.synthetic_features import SyntheticFeatures
    >>> sample = UserSample(base=SyntheticFeatures(num_devices=50, seed=0), most=7)
    >>> sample.num_devices, len(sample.examples(6)) == int(sample.num_examples(np.array([6]))[0])
    (7, True)
    """

    base: Loader
    most: int
    seed: int = 0
    _chosen: npt.NDArray[np.int64] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.most < 1:
            raise ValueError(f"a sample has at least 1 user, not {self.most}")
        everyone = self.base.num_devices
        drawn = randomness.stream(self.seed, "user sample").permutation(everyone)[: self.most]
        object.__setattr__(self, "_chosen", np.sort(drawn).astype(np.int64))

    @property
    def num_devices(self) -> int:
        """How many users are in the sample."""
        return len(self._chosen)

    @property
    def digest(self) -> str:
        """Names the base's data and who was drawn."""
        facts: dict[str, canonical.Json] = {"base": self.base.digest, "most": self.most, "seed": self.seed}
        return canonical.digest(facts)

    def examples(self, index: int) -> Sequence[Example]:
        """The examples of the sample's device at `index`.

        Raises:
          ValueError: if `index` is no device.
        """
        if not 0 <= index < self.num_devices:
            raise ValueError(f"device {index} is not in 0..{self.num_devices - 1}")
        return self.base.examples(int(self._chosen[index]))

    def num_examples(self, devices: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Examples of each of `devices`, int64, shape (n,)."""
        return example_counts(self.base, self._chosen[devices])

    def held_out(self) -> Iterator[Sequence[Example]]:
        """The base's held-out users."""
        return self.base.held_out()
