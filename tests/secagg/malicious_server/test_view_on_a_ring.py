"""The same property on a ring, where no device sees everybody: whatever lists the server shows to whom, and whatever it asks afterwards.

Hypothesis cuts the ring into arcs, shows each its own lists of sharers and survivors, lets corrupt devices sign everything and give the
server their shares, and asks in any order with the best signatures that there are. Honest devices are real clients.
"""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from contract.entropy import system_entropy
from contract.randomness import stream
from secagg import LOWEST_FLOORS, Client, DeviceAuthority, Vector, bitmaps, choose, statements
from secagg.messages import (
    ConsistencyCheck,
    ForwardedShares,
    MaskedInput,
    NeighbourSignature,
    ShareKind,
    SurvivorsAnnouncement,
    Unmasking,
    UnmaskRequest,
    WitnessSignature,
)
from secagg.server.advertise_keys import AdvertisingKeys
from secagg.testing import context_of

pytestmark = pytest.mark.slow

N, CORRUPT = 80, 4
EVERYBODY = frozenset(range(N))
UPDATE = Vector(name="u", length=2, lane_bits=20, largest=100)
RING = choose(roster_size=N, vectors=(UPDATE,), corrupt_fraction=CORRUPT / N, drop_fraction=0.05)


class RingServer:
    """A round on a ring up to the dealt shares; then the server says to each device what it likes. Slots name devices."""

    def __init__(self) -> None:
        context, authority = context_of(RING), DeviceAuthority(bytes(32))
        advertising = AdvertisingKeys(context=context, ctx0=context.digest(), authority=authority.public)
        clients, identities = {}, {}
        for device in range(N):
            identities[device] = authority.enrol(context.epoch, system_entropy)
            clients[device] = Client(
                context=context,
                authority=authority.public,
                identity=identities[device],
                floors=replace(LOWEST_FLOORS, corrupt_fraction=CORRUPT / N),
                entropy=system_entropy,
            )
            clients[device].set_input({"u": np.array([device, 1])})
            assert advertising.receive(device, clients[device].advertise_keys()) is None
        self.membership, rosters = advertising.close()
        slots = self.membership.slots
        self.clients = {slots[device]: client for device, client in clients.items()}
        self.identities = {slots[device]: identity for device, identity in identities.items()}
        self.dealt = {slots[device]: clients[device].handle(roster) for device, roster in rosters.items()}
        self.corrupt = set(stream(3, "corrupt").choice(N, CORRUPT, replace=False).tolist())
        self.told: dict[int, bytes] = {}
        self.masked: dict[int, set[bytes]] = {slot: set() for slot in range(N)}
        self.signed: dict[tuple[bytes, bytes], dict[int, bytes]] = {}
        self.grounds: set[tuple[bytes, bytes]] = set()
        # A corrupt device gives both shares of each neighbour at once.
        self.released = {
            (slot, kind): self.corrupt & set(self.membership.neighbours[slot]) for slot in range(N) for kind in ShareKind
        }

    def forward(self, slot: int, sharers: frozenset[int]) -> None:
        peers = [peer for peer in self.membership.neighbours[slot] if peer in sharers]
        message = ForwardedShares(
            context=self.membership.ctx1,
            sharers=bitmaps.encode(sharers, N),
            shares=tuple(next(s for s in self.dealt[peer].shares if s.recipient == slot) for peer in peers),
            signatures=tuple(self.dealt[peer].signature for peer in peers),
        )
        reply = self.clients[slot].handle(message)
        if isinstance(reply, MaskedInput):
            self.told[slot] = message.sharers
            self.masked[slot].add(reply.words.tobytes())

    def announce(self, slot: int, survivors: frozenset[int]) -> None:
        message = SurvivorsAnnouncement(context=self.membership.ctx1, survivors=bitmaps.encode(survivors, N))
        reply = self.clients[slot].handle(message)
        if isinstance(reply, ConsistencyCheck):
            self.signed.setdefault((self.told[slot], message.survivors), {})[slot] = reply.signature

    def ask(self, slot: int, lists: tuple[bytes, bytes]) -> None:
        """The best request for these lists: everything that was signed, and the corrupt devices' signatures."""
        statement, alive = statements.consistency(self.membership.ctx1, *lists), bitmaps.decode(lists[1], N)
        signatures = self.signed.get(lists, {}) | {one: self.identities[one].sign(statement) for one in self.corrupt}
        usable = {one: signature for one, signature in signatures.items() if alive[one]}
        near = [NeighbourSignature(slot=p, signature=usable[p]) for p in self.membership.neighbours[slot] if p in usable]
        far = [
            WitnessSignature(slot=w, certificate=self.membership.keys[w].certificate, signature=usable[w])
            for w in self.membership.graph.witnesses
            if w in usable
        ]
        reply = self.clients[slot].handle(
            UnmaskRequest(context=self.membership.ctx1, signatures=tuple(near), witnesses=tuple(far))
        )
        if isinstance(reply, Unmasking):
            self.grounds.add(next(grounds for grounds, by in self.signed.items() if slot in by))
            for share in reply.shares:
                self.released[share.neighbour, share.kind].add(slot)
        self.check()

    def check(self) -> None:
        """What must hold at every moment."""
        for slot in set(range(N)) - self.corrupt:
            counts = [len(self.released[slot, kind]) for kind in ShareKind]
            assert min(counts) < self.membership.threshold, f"both secrets of slot {slot} are uncovered: {counts}"
            assert len(self.masked[slot]) <= 1, "two different masked vectors in one context"
        assert len(self.grounds) <= 1, "shares were released for two different pairs of lists"
        for _, survivors in self.grounds:
            assert int(bitmaps.decode(survivors, N).sum()) >= RING.minimum_survivors


GONE = st.frozensets(st.integers(0, N - 1), max_size=N - RING.minimum_survivors)
ARCS = st.lists(st.tuples(st.integers(0, N - 1), st.integers(0, 2)), max_size=6)


def sides(server: RingServer, arcs: list[tuple[int, int]], witnesses: int | None) -> dict[int, int]:
    """Which of three stories each slot is told: cuts along the ring; the witnesses may be told one of their own."""
    order, told = server.membership.graph.order.tolist(), 0
    starts, side = dict(arcs), {}
    for place, slot in enumerate(order):
        told = starts.get(place, told)
        side[slot] = told
    return side if witnesses is None else side | dict.fromkeys(server.membership.graph.witnesses, witnesses)


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(
    stories=st.lists(st.tuples(st.one_of(st.just(frozenset()), GONE), GONE), min_size=3, max_size=3),
    arcs=ARCS,
    witnesses=st.sampled_from([None, 0, 1]),
    seed=st.integers(0, 1 << 16),
)
def test_no_stories_along_the_ring_uncover_an_input(stories, arcs, witnesses, seed):
    server = RingServer()
    side = sides(server, arcs, witnesses)
    order = stream(seed, "order").permutation(N).tolist()
    for slot in order:
        unshared, _ = stories[side[slot]]
        server.forward(slot, EVERYBODY - unshared | {slot})
    for slot in order:
        unshared, gone = stories[side[slot]]
        if slot in server.told:
            server.announce(slot, EVERYBODY - unshared - gone)
    # The server asks everybody for its own lists first, then everybody for every pair of lists that anybody signed.
    pairs = sorted(server.signed, key=lambda lists: -len(server.signed[lists]))
    own = {slot: lists for lists, by in server.signed.items() for slot in by}
    for slot, lists in [*own.items(), *((slot, lists) for lists in pairs[:3] for slot in order)]:
        server.ask(slot, lists)


def test_the_honest_course_on_the_ring_does_release():
    # The property is not empty: with one story for all, every honest device releases.
    server = RingServer()
    for slot in range(N):
        server.forward(slot, EVERYBODY)
    for slot in range(N):
        server.announce(slot, EVERYBODY)
    (lists,) = server.signed
    for slot in range(N):
        server.ask(slot, lists)
    assert len(server.grounds) == 1
    honest = set(range(N)) - server.corrupt
    assert all(len(server.released[slot, ShareKind.SELF_MASK]) == RING.degree for slot in honest)
