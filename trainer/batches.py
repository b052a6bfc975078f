"""Which examples a device trains on, in which order: the batches of local training as index arrays."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from contract import randomness
from trainer import aligned
from trainer.model import DeviceExamples, FloatVector


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
    return batches_of([num_examples], [order_seed], batch_size=batch_size, epochs=epochs, max_examples=max_examples)[0]


def batches_of(
    num_examples: Sequence[int], order_seeds: Sequence[int | None], *, batch_size: int, epochs: int, max_examples: int
) -> list[Batches]:
    """`batches` of several devices, in less time than one after the other.

    >>> [found.rows.tolist() for found in batches_of([5, 0, 2], [7, 8, None], batch_size=2, epochs=2, max_examples=9)]
    [[2, 2, 1, 2, 2, 1], [], [2, 2]]
    """
    chosen = [order[:max_examples] for order in _orders(num_examples, order_seeds, 0)]
    counts = [len(order) for order in chosen]
    epoch_orders = [chosen]
    for epoch in range(1, epochs):
        again = _orders(counts, order_seeds, epoch)
        epoch_orders.append([kept[order] for kept, order in zip(chosen, again, strict=True)])
    rows = {kept: _rows(kept, batch_size, epochs) for kept in set(counts)}
    return [
        Batches(_laid_out([orders[device] for orders in epoch_orders], kept, batch_size), rows[kept])
        for device, kept in enumerate(counts)
    ]


def _orders(counts: Sequence[int], order_seeds: Sequence[int | None], epoch: int) -> list[NDArray[np.int64]]:
    """An order of each device's examples; without a seed, the one in which they are."""
    seeded = [device for device, seed in enumerate(order_seeds) if seed is not None]
    seeds, own = [seed for seed in order_seeds if seed is not None], [counts[device] for device in seeded]
    found = dict(zip(seeded, randomness.orders(seeds, own, "examples", epoch), strict=True))
    return [found[device] if device in found else np.arange(count) for device, count in enumerate(counts)]


def _laid_out(orders: Sequence[NDArray[np.int64]], kept: int, batch_size: int) -> NDArray[np.int64]:
    """A device's `kept` examples, in an order for each epoch, cut into batches."""
    if len(orders) == 1 and kept % batch_size == 0:
        return orders[0].reshape(-1, batch_size)
    indices = np.zeros((len(orders), -(-kept // batch_size) * batch_size), np.int64)
    for epoch, order in enumerate(orders):
        indices[epoch, :kept] = order
    return indices.reshape(-1, batch_size)


def _rows(kept: int, batch_size: int, epochs: int) -> NDArray[np.int64]:
    steps = -(-kept // batch_size)
    rows = np.full((epochs, steps), batch_size)
    if kept:
        rows[:, -1] = kept - (steps - 1) * batch_size
    return rows.reshape(-1)


def whole_rows(
    devices: Sequence[DeviceExamples], plans: Sequence[Batches], *, lanes: int, steps: int, batch_size: int
) -> tuple[dict[str, NDArray[Any]], FloatVector]:
    """All batches of devices side by side, shape (lanes, steps, rows, ...), and their mask; what no device has is 0 and masked."""
    shape = (lanes, steps, batch_size)
    full = len(plans) == lanes and all(len(plan.rows) == steps for plan in plans)
    made = aligned.empty if full else aligned.zeros
    batch = {name: made((*shape, *array.shape[1:]), array.dtype) for name, array in devices[0].arrays.items()}
    rows = np.zeros((lanes, steps), np.int64)
    for lane, (examples, plan) in enumerate(zip(devices, plans, strict=True)):
        own = len(plan.rows)
        rows[lane, :own] = plan.rows
        for name, array in examples.arrays.items():
            # No index is outside: to look for one would take a copy.
            array.take(plan.indices, axis=0, out=batch[name][lane, :own], mode="clip")
    mask = aligned.empty(shape, np.float32)
    np.less(np.arange(batch_size), rows[..., None], out=mask, casting="unsafe")
    return batch, mask


def lane_rows(
    devices: Sequence[DeviceExamples], plans: Sequence[Batches], step: int, *, lanes: int, batch_size: int
) -> tuple[dict[str, NDArray[Any]], FloatVector]:
    """One batch of each of the devices side by side, shape (lanes, rows, ...), and their mask, as `whole_rows`."""
    arrays = devices[0].arrays
    batch = {name: aligned.zeros((lanes, batch_size, *array.shape[1:]), array.dtype) for name, array in arrays.items()}
    mask = aligned.zeros((lanes, batch_size), np.float32)
    for lane, (examples, plan) in enumerate(zip(devices, plans, strict=True)):
        if step < len(plan.rows):
            real = int(plan.rows[step])
            mask[lane, :real] = 1.0
            indices = plan.indices[step, :real]
            for name, array in examples.arrays.items():
                array.take(indices, axis=0, out=batch[name][lane, :real], mode="clip")
    return batch, mask
