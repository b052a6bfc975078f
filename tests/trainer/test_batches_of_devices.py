"""Which examples a device trains on: uniformly drawn, every epoch anew, and the same in any company."""

import numpy as np
import pytest

from trainer.batches import batches, batches_of


@pytest.mark.parametrize("epochs", [1, 3])
def test_batches_do_not_depend_on_the_other_devices(epochs: int) -> None:
    counts, seeds = [7, 0, 60, 7, 1, 35], [5, 6, 7, None, 8, 2**64 - 1]
    together = batches_of(counts, seeds, batch_size=10, epochs=epochs, max_examples=35)
    for count, seed, found in zip(counts, seeds, together, strict=True):
        alone = batches(count, batch_size=10, epochs=epochs, max_examples=35, order_seed=seed)
        np.testing.assert_array_equal(found.indices, alone.indices)
        np.testing.assert_array_equal(found.rows, alone.rows)
    assert batches_of([], [], batch_size=10, epochs=epochs, max_examples=35) == []


@pytest.mark.parametrize("seed", [3, None])
def test_each_epoch_has_every_example_once_and_the_last_batch_may_be_short(seed: int | None) -> None:
    found = batches(23, batch_size=10, epochs=3, max_examples=256, order_seed=seed)
    assert found.rows.tolist() == [10, 10, 3] * 3
    epochs = [
        np.concatenate([found.indices[step, : found.rows[step]] for step in range(first, first + 3)]) for first in (0, 3, 6)
    ]
    assert all(sorted(epoch.tolist()) == list(range(23)) for epoch in epochs)
    assert (len({tuple(epoch.tolist()) for epoch in epochs}) == 3) == (seed is not None)


def test_a_subset_is_the_same_in_every_epoch_and_uniform_over_seeds() -> None:
    chosen = np.zeros(50, np.int64)
    for seed in range(2000):
        found = batches(50, batch_size=5, epochs=2, max_examples=5, order_seed=seed)
        assert sorted(found.indices[0].tolist()) == sorted(found.indices[1].tolist())
        chosen[found.indices[0]] += 1
    # Each example is drawn 200 times on average, with deviation 13.4; six of those have probability below 1e-7 over all.
    assert np.abs(chosen - 200).max() < 6 * np.sqrt(2000 * 0.1 * 0.9)
