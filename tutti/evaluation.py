"""Measures a model on held-out users: the simulator's oracle, not part of any guarantee."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from client_sim.data.loader import Loader
from trainer import DeviceExamples, Model, evaluate
from trainer.models.next_word import NextWord

MOST_USERS = 2000


@dataclass(frozen=True, slots=True)
class HeldOut:
    """Held-out users' examples as arrays."""

    model: Model = field(repr=False)
    devices: Sequence[DeviceExamples] = field(repr=False)

    @classmethod
    def of(cls, model: Model, loader: Loader, *, most_users: int = MOST_USERS) -> "HeldOut":
        """The first `most_users` held-out users of `loader`."""
        users = (model.featurize(examples) for examples in islice(loader.held_out(), most_users) if examples)
        return cls(model, [user for user in users if user.num_examples])

    def measure(self, parameters: NDArray[np.float32]) -> dict[str, float]:
        """The model's metrics, each with `held_out_` before its name; nothing if nobody is held out."""
        if not self.devices:
            return {}
        measured = {f"held_out_{name}": value for name, value in evaluate(self.model, parameters, self.devices).items()}
        return measured | ({"unigram_floor_top1": unigram_floor(self.devices)} if isinstance(self.model, NextWord) else {})


def unigram_floor(devices: Sequence[DeviceExamples]) -> float:
    """The accuracy of always suggesting the word that is most frequent among these very targets: no unigram model does better.

    >>> unigram_floor([DeviceExamples({"tokens": np.array([[2, 7, 7, 9]]), "counted": np.array([[1, 1, 1]])})])
    0.6666666666666666
    """
    targets = np.concatenate([device.arrays["tokens"][:, 1:][device.arrays["counted"].astype(bool)] for device in devices])
    return float(np.bincount(targets).max() / len(targets))
