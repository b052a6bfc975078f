"""Small rounds, and a server's view of what honest devices released."""

from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
import pytest

from contract.randomness import stream
from secagg import Context, Parameters, Phase, Vector, choose
from secagg.messages import DeviceMessage, ShareKind, Unmasking
from secagg.testing import context_of

UPDATE = Vector(name="update", length=11, lane_bits=16, largest=500)
METRICS = Vector(name="metrics", length=3, lane_bits=32, largest=9000)


@dataclass
class View:
    """Shares that the server received, by owner of the secret (slot), kind and holder."""

    shares: dict[tuple[int, ShareKind], dict[int, bytes]] = field(default_factory=lambda: defaultdict(dict))
    released_by: dict[int, Unmasking] = field(default_factory=dict)

    def watch(self, device: int, phase: Phase, message: DeviceMessage) -> DeviceMessage:
        """To be passed as `from_device`."""
        if isinstance(message, Unmasking):
            self.take(device, message)
        return message

    def take(self, holder: int, message: Unmasking) -> None:
        self.released_by[holder] = message
        for share in message.shares:
            self.shares[share.neighbour, share.kind][holder] = share.share

    def uncovered(self, threshold: int) -> set[int]:
        """Slots of which the server holds the threshold of shares of both secrets."""
        slots = {slot for slot, _ in self.shares}
        return {slot for slot in slots if all(len(self.shares.get((slot, kind), {})) >= threshold for kind in ShareKind)}


@pytest.fixture
def parameters() -> Parameters:
    """Nine devices, complete graph, t = 6, two may leave."""
    return choose(roster_size=9, minimum_roster=7, vectors=(UPDATE, METRICS), corrupt_fraction=0.12, drop_fraction=0.15)


@pytest.fixture
def context(parameters: Parameters) -> Context:
    return context_of(parameters)


@pytest.fixture
def view() -> View:
    return View()


@pytest.fixture
def draw_inputs() -> Callable[..., dict[int, dict[str, np.ndarray]]]:
    """Inputs for devices numbered from 100, by vector name, uniform over the whole range."""

    def draw(parameters: Parameters, count: int | None = None, seed: int = 1) -> dict[int, dict[str, np.ndarray]]:
        rng = stream(seed, "secagg inputs")
        return {
            100 + i: {v.name: rng.integers(-v.largest, v.largest + 1, v.length) for v in parameters.vectors}
            for i in range(parameters.roster_size if count is None else count)
        }

    return draw


@pytest.fixture
def total() -> Callable[..., dict[str, list[int]]]:
    """Sums of the inputs of some devices in plain integers."""

    def add(inputs: Mapping[int, Mapping[str, np.ndarray]], devices: object) -> dict[str, list[int]]:
        chosen = [inputs[device] for device in devices]  # type: ignore[attr-defined]
        return {name: [sum(int(one[name][i]) for one in chosen) for i in range(len(chosen[0][name]))] for name in chosen[0]}

    return add
