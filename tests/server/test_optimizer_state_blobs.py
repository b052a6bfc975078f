"""An optimiser's state comes back from its bytes as it went in, scalars included."""

import numpy as np
import pytest

from server.store import blobs
from trainer import server_optimizer


@pytest.mark.parametrize("kind", ["sgd", "adam", "yogi", "adagrad"])
def test_state_of_every_optimizer_survives_the_store(kind: str) -> None:
    optimizer = server_optimizer(kind, 0.1)
    params = np.zeros(5, np.float32)
    params, state = optimizer.update(np.ones(5, np.float32), optimizer.init(5), params)
    again = blobs.unpack_state(blobs.pack_state(state))
    assert {name: (array.shape, array.dtype) for name, array in again.items()} == {
        name: (array.shape, array.dtype) for name, array in state.items()
    }
    np.testing.assert_array_equal(
        optimizer.update(np.ones(5, np.float32), again, params)[0], optimizer.update(np.ones(5, np.float32), state, params)[0]
    )
