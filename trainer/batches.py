"""Which examples a device trains on, in which order: the batches of local training as index arrays."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from contract import randomness


@dataclass(frozen=True, slots=True, eq=False)
class Batches:
    """The steps of local training.

    Args:
      indices: int64, shape (steps, batch_size), into a device's examples.
      rows: int64, shape (steps,): how many of a step's indices are real; the others are 0.
    """

    indices: NDArray[np.int64]
    rows: NDArray[np.int64]


def batches(num_examples: int, *, batch_size: int, epochs: int, max_examples: int, order_seed: int | None) -> Batches:
    """The batches of one device.

    A device with more than `max_examples` examples trains on a uniformly drawn subset, the same in every epoch. Each epoch has
    its own order. With `order_seed` None the first examples are taken in the order in which they are. The last batch of an
    epoch may be short.

    >>> batches(5, batch_size=2, epochs=1, max_examples=3, order_seed=None).indices.tolist()
    [[0, 1], [2, 0]]
    """
    kept = min(num_examples, max_examples)
    chosen = np.arange(num_examples)
    if order_seed is not None:
        chosen = randomness.stream(order_seed, "examples").permutation(num_examples)
    chosen = chosen[:kept]
    steps_per_epoch = -(-kept // batch_size)
    indices = np.zeros((epochs, steps_per_epoch * batch_size), np.int64)
    for epoch in range(epochs):
        order = chosen
        if order_seed is not None and epoch:
            order = randomness.stream(order_seed, "epoch", epoch).permutation(chosen)
        indices[epoch, :kept] = order
    rows = np.full((epochs, steps_per_epoch), batch_size)
    if kept:
        rows[:, -1] = kept - (steps_per_epoch - 1) * batch_size
    return Batches(indices.reshape(-1, batch_size), rows.reshape(-1))
