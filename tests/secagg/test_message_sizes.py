"""What a group may weigh: its largest message but the masked input goes through in one piece, or the group is refused with its cure."""

import numpy as np
import pytest

from contract.messages import MAX_CHUNK_BYTES
from secagg import Infeasible, Result, Vector, choose, wire
from secagg.messages import MaskedInput
from secagg.parameters import LARGEST_MESSAGE_BYTES, largest_message
from secagg.testing import context_of, run_round

UPDATE = Vector(name="u", length=4, lane_bits=32, largest=100)


@pytest.mark.parametrize(("n", "g", "q"), [(40, 0.05, 0.1), (80, 0.0, 0.05)])
def test_bound_covers_every_message_of_a_round(n, g, q):
    asked = choose(roster_size=n, vectors=(UPDATE,), corrupt_fraction=g, drop_fraction=q)
    sizes = []

    def from_device(device, phase, message):
        sizes.append(0 if isinstance(message, MaskedInput) else len(wire.write_device_message(message)))
        return message

    def from_server(device, phase, message):
        sizes.append(len(wire.write_server_message(message)))
        return message

    inputs = {device: {"u": np.ones(4, np.int64)} for device in range(n)}
    outcome = run_round(context_of(asked), inputs, from_device=from_device, from_server=from_server)
    assert isinstance(outcome.result, Result)
    assert 0.3 * largest_message(n, asked.degree) < max(sizes) <= largest_message(n, asked.degree)


def test_group_that_no_message_carries_is_refused_and_the_named_size_is_met():
    asked = {"vectors": (UPDATE,), "corrupt_fraction": 0.05, "drop_fraction": 0.05}
    with pytest.raises(Infeasible, match="above the 1048576 of a message") as caught:
        choose(roster_size=20_000, **asked)
    nearest = caught.value.nearest["roster_size"]
    assert 14_000 < nearest < 16_384
    found = choose(roster_size=nearest, **asked)
    assert largest_message(nearest, found.degree) <= LARGEST_MESSAGE_BYTES <= MAX_CHUNK_BYTES
