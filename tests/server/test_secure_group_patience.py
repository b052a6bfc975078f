"""A phase of a ring is not cut short before each neighbourhood has what it needs, however short the learnt windows are."""

from collections.abc import Iterable

import numpy as np
import pytest

from contract.entropy import system_entropy
from contract.messages import SecureStep
from secagg import LOWEST_FLOORS, Client, DeviceAuthority, Phase, Result, Vector, choose, wire
from secagg.testing import context_of
from server.secure_group import SecureGroup
from server.secure_windows import PHASES, PhaseWindows, answers_until

N = 80
UPDATE = Vector(name="u", length=2, lane_bits=20, largest=100)
RING = choose(roster_size=N, vectors=(UPDATE,), corrupt_fraction=0.05, drop_fraction=0.1, minimum_survivors=64)
GONE = 10
"""More than the graph was sized for: from here on, no more may leave as far as numbers go, and windows may become short."""
LONG_AFTER_S = 12.0
"""Far beyond what was learnt, and before the longest window."""


def quick() -> PhaseWindows:
    """Windows that know of nothing but devices that answer within a second."""
    windows = PhaseWindows(reporting_s=600.0)
    for phase in PHASES:
        for _ in range(6):
            clock = windows.open(phase, at_s=0.0, alive=N, may_leave=4, needed=N - 4)
            answers_until(clock, np.linspace(0.2, 0.9, N))
    return windows


class Ring:
    """A group and its devices, with inputs from all but the last `GONE` slots."""

    def __init__(self) -> None:
        context, authority = context_of(RING), DeviceAuthority(bytes(32))
        self.group = SecureGroup(context=context, authority=authority.public, windows=quick(), now_s=0.0, until_s=1e9)
        self.clients = {f"s{device}": self._client(context, authority, device) for device in range(N)}
        self.replies = {name: client.advertise_keys() for name, client in self.clients.items()}
        self.say(SecureStep.ADVERTISE_KEYS, self.clients, 0.1)
        self.hear(SecureStep.ADVERTISE_KEYS, self.clients)
        self.say(SecureStep.SHARE_KEYS, self.clients, 0.2)
        self.hear(SecureStep.SHARE_KEYS, self.clients)
        slots = self.group._server.membership.slots
        self.slot = {name: slots[number] for number, name in enumerate(self.clients)}
        self.there = [name for name in self.clients if self.slot[name] < N - GONE]
        for name in self.there:
            assert self.group.receive_input(name, wire.write_device_message(self.replies[name]), 0.3) is None
        for name in set(self.clients) - set(self.there):
            self.group.drop(name)
        self.group.advance(0.3)
        self.hear(SecureStep.MASKED_INPUT, self.there)

    def _client(self, context, authority, device):
        identity = authority.enrol(context.epoch, system_entropy)
        client = Client(
            context=context, authority=authority.public, identity=identity, floors=LOWEST_FLOORS, entropy=system_entropy
        )
        client.set_input({"u": np.array([device, 1])})
        return client

    def say(self, step: SecureStep, names: Iterable[str], now_s: float) -> None:
        for name in names:
            assert self.group.receive(name, step, wire.write_device_message(self.replies[name]), now_s) is None
        self.group.advance(now_s)

    def hear(self, step: SecureStep, names: Iterable[str]) -> None:
        for name in names:
            self.replies[name] = self.clients[name].handle(self.group.answer(name, step))


@pytest.fixture
def ring() -> Ring:
    return Ring()


def test_signatures_are_waited_for_until_the_witnesses_are_there(ring: Ring) -> None:
    witnesses = [name for name in ring.there if ring.slot[name] in ring.group._server.membership.graph.witnesses]
    late = witnesses[: len(witnesses) - RING.topology(N).threshold + 1]
    ring.say(SecureStep.CONSISTENCY_CHECK, [name for name in ring.there if name not in late], 0.5)
    ring.group.advance(LONG_AFTER_S)
    assert ring.group.phase is Phase.CONSISTENCY_CHECK
    ring.say(SecureStep.CONSISTENCY_CHECK, late, LONG_AFTER_S + 0.1)
    assert ring.group.phase is Phase.AWAITING_CHARGE


def test_shares_are_waited_for_until_every_neighbourhood_has_enough(ring: Ring) -> None:
    ring.say(SecureStep.CONSISTENCY_CHECK, ring.there, 0.5)
    ring.group.request_unmasking(0.6)
    ring.hear(SecureStep.CONSISTENCY_CHECK, ring.there)
    around = ring.group._server.membership.neighbours[ring.slot[ring.there[0]]]
    late = [name for name in ring.there if ring.slot[name] in around]
    ring.say(SecureStep.UNMASKING, [name for name in ring.there if name not in late], 0.7)
    ring.group.advance(LONG_AFTER_S)
    assert ring.group.phase is Phase.UNMASKING
    ring.say(SecureStep.UNMASKING, late, LONG_AFTER_S + 0.1)
    assert isinstance(ring.group.result, Result)
    assert ring.group.sums().tolist() == [sum(int(name[1:]) for name in ring.there), N - GONE]


def test_a_round_that_never_gets_enough_ends_all_the_same(ring: Ring) -> None:
    ring.say(SecureStep.CONSISTENCY_CHECK, ring.there[:20], 0.5)
    ring.group.advance(ring.group.deadline_s - 0.1)
    assert not ring.group.ended
    ring.group.advance(ring.group.deadline_s)
    assert ring.group.ended
