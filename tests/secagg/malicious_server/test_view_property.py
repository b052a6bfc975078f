"""Whatever a server with up to g corrupt devices says, to whom, and in which order: it never holds what uncovers one input.

Hypothesis plays the server. It holds the signing keys and all received shares of the corrupt devices, so that these give it both shares of
everybody and sign anything. Honest devices are real clients with real cryptography.
"""

import itertools
from dataclasses import replace

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from contract.entropy import system_entropy
from secagg import LOWEST_FLOORS, Abort, Client, DeviceAuthority, Vector, bitmaps, choose, statements
from secagg.client.masked_input import Masked
from secagg.client.share_keys import Shared
from secagg.messages import (
    ConsistencyCheck,
    ForwardedShares,
    MaskedInput,
    NeighbourSignature,
    SealedShares,
    ShareKeys,
    ShareKind,
    SurvivorsAnnouncement,
    Unmasking,
    UnmaskRequest,
)
from secagg.sealing import open_sealed
from secagg.server.advertise_keys import AdvertisingKeys
from secagg.testing import context_of

N, CORRUPT = 7, 2
UPDATE = Vector(name="u", length=2, lane_bits=16, largest=9)
PARAMETERS = choose(roster_size=N, vectors=(UPDATE,), corrupt_fraction=0.29, drop_fraction=0.0, minimum_survivors=6)


class LyingServer:
    """A round up to the roster, and then whatever the caller makes of it. Slots name devices."""

    def __init__(self) -> None:
        context, authority = context_of(PARAMETERS), DeviceAuthority(bytes(32))
        advertising = AdvertisingKeys(context=context, ctx0=context.digest(), authority=authority.public)
        clients, identities = {}, {}
        for device in range(N):
            identities[device] = authority.enrol(context.epoch, system_entropy)
            clients[device] = Client(
                context=context,
                authority=authority.public,
                identity=identities[device],
                floors=replace(LOWEST_FLOORS, corrupt_fraction=0.28),
                entropy=system_entropy,
            )
            clients[device].set_input({"u": np.array([device, 1])})
            assert advertising.receive(device, clients[device].advertise_keys()) is None
        self.membership, rosters = advertising.close()
        self.corrupt = set(range(CORRUPT))
        self.clients, self.identities = {}, {}
        self.dealt: dict[int, ShareKeys] = {}
        for device, roster in rosters.items():
            slot = self.membership.slots[device]
            self.clients[slot], self.identities[slot] = clients[device], identities[device]
            self.dealt[slot] = clients[device].handle(roster)
        self.masked: dict[int, list[bytes]] = {slot: [] for slot in range(N)}
        self.signed: dict[int, list[tuple[bytes, bytes, bytes]]] = {slot: [] for slot in range(N)}
        self.released: dict[tuple[int, ShareKind], set[int]] = {(s, kind): set() for s in range(N) for kind in ShareKind}
        self.grounds: dict[int, tuple[bytes, bytes]] = {}
        self.told: dict[int, dict[str, bytes]] = {slot: {} for slot in range(N)}
        self.sent: list = []
        self._take_corrupt_shares()

    def say(self, slot: int, message) -> None:
        self.sent.append(message)
        reply = self.clients[slot].handle(message)
        match reply:
            case MaskedInput():
                self.masked[slot].append(reply.words.tobytes())
                self.told[slot]["sharers"] = message.sharers
            case ConsistencyCheck():
                self.told[slot]["survivors"] = message.survivors
                self.signed[slot].append((self.told[slot]["sharers"], message.survivors, reply.signature))
            case Unmasking():
                self.grounds[slot] = (self.told[slot]["sharers"], self.told[slot]["survivors"])
                for share in reply.shares:
                    self.released[share.neighbour, share.kind].add(slot)
            case _:
                pass

    def forwarded(self, slot: int, sharers: set[int]) -> ForwardedShares:
        shares: list[SealedShares] = [
            next(s for s in self.dealt[dealer].shares if s.recipient == slot) for dealer in sorted(sharers) if dealer != slot
        ]
        return ForwardedShares(context=self.membership.ctx1, sharers=bitmaps.encode(sharers, N), shares=tuple(shares))

    def announced(self, survivors: set[int]) -> SurvivorsAnnouncement:
        return SurvivorsAnnouncement(context=self.membership.ctx1, survivors=bitmaps.encode(survivors, N))

    def request(self, slot: int, sharers: bytes, survivors: bytes) -> UnmaskRequest:
        """The best request for these bitmaps: everything that was signed, and the corrupt devices' signatures."""
        statement = statements.consistency(self.membership.ctx1, sharers, survivors)
        found = []
        for peer in range(N):
            if peer == slot:
                continue
            if peer in self.corrupt:
                found.append(NeighbourSignature(slot=peer, signature=self.identities[peer].sign(statement)))
                continue
            found += [
                NeighbourSignature(slot=peer, signature=signature)
                for one, other, signature in self.signed[peer]
                if (one, other) == (sharers, survivors)
            ]
        alive = bitmaps.decode(survivors, N)
        return UnmaskRequest(context=self.membership.ctx1, signatures=tuple(s for s in found if alive[s.slot]))

    def check(self) -> None:
        """What must hold at every moment."""
        threshold = self.membership.threshold
        for slot in set(range(N)) - self.corrupt:
            counts = [len(self.released[slot, kind]) for kind in ShareKind]
            assert min(counts) < threshold, f"both secrets of slot {slot} are uncovered: {counts}"
            assert len(set(self.masked[slot])) <= 1, "two different masked vectors in one context"
            assert len({ground[:2] for ground in self.signed[slot]}) <= 1, "two different lists signed"
        grounds = set(self.grounds.values())
        assert len(grounds) <= 1, "shares were released for two different lists of survivors"
        for _, survivors in grounds:
            assert int(bitmaps.decode(survivors, N).sum()) >= PARAMETERS.minimum_survivors

    def _take_corrupt_shares(self) -> None:
        for dealer, holder in itertools.product(range(N), self.corrupt):
            if dealer != holder:
                state = self.clients[holder].state
                assert isinstance(state, Shared)
                sealed = next(s for s in self.dealt[dealer].shares if s.recipient == holder)
                assert open_sealed(state.cipher_secrets[dealer], self.membership.ctx1, sealed) is not None
                for kind in ShareKind:
                    self.released[dealer, kind].add(holder)


LISTS = st.sampled_from([frozenset(range(N)), *(frozenset(range(N)) - {out} for out in range(N))])
ODD = st.frozensets(st.integers(0, N - 1), min_size=1)
MOVES = st.lists(
    st.one_of(
        st.tuples(st.just("forward"), st.integers(0, N - 1), LISTS | ODD),
        st.tuples(st.just("announce"), st.integers(0, N - 1), LISTS | ODD),
        st.tuples(st.just("request"), st.integers(0, N - 1), st.integers(0, N - 1)),
        st.tuples(st.just("replay"), st.integers(0, N - 1), st.integers(0, 50)),
    ),
    max_size=25,
)


def play(server: LyingServer, move) -> None:
    kind, slot, what = move
    if kind == "forward":
        server.say(slot, server.forwarded(slot, set(what)))
    elif kind == "announce":
        server.say(slot, server.announced(set(what)))
    elif kind == "request":
        told = server.told[what]
        if "survivors" in told:
            server.say(slot, server.request(slot, told["sharers"], told["survivors"]))
    elif server.sent:
        server.say(slot, server.sent[what % len(server.sent)])
    server.check()


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(honest_phases=st.integers(0, 2), moves=MOVES)
def test_no_interleaving_uncovers_an_input(honest_phases, moves):
    # The server may begin honestly, so that the lies reach every depth.
    server = LyingServer()
    for slot in range(N if honest_phases > 0 else 0):
        server.say(slot, server.forwarded(slot, set(range(N))))
    for slot in range(N if honest_phases > 1 else 0):
        server.say(slot, server.announced(set(range(N))))
    for move in moves:
        play(server, move)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    sharers=st.lists(LISTS, min_size=N, max_size=N),
    survivors=st.lists(LISTS, min_size=N, max_size=N),
    pairs=st.booleans(),
    order=st.permutations(range(N)),
    asked=st.lists(st.tuples(st.integers(0, N - 1), st.integers(0, N - 1)), max_size=30),
)
def test_no_choice_of_lists_for_each_device_uncovers_an_input(sharers, survivors, pairs, order, asked):
    # Goes deep: everybody gets through to a signature where its own lists allow it; then the server asks with whatever was signed.
    server = LyingServer()
    for slot in order:
        server.say(slot, server.forwarded(slot, set(sharers[0] if pairs else sharers[slot]) | {slot}))
    for slot in order:
        if isinstance(server.clients[slot].state, Masked):
            server.say(slot, server.announced(set(survivors[slot % 2] if pairs else survivors[slot])))
    for slot, grounds in [*asked, *((slot, slot) for slot in order)]:
        told = server.told[grounds]
        if "survivors" in told and not isinstance(server.clients[slot].state, Abort):
            server.say(slot, server.request(slot, told["sharers"], told["survivors"]))
        server.check()


def test_honest_course_does_release():
    # The property is not empty: with one list for all, every honest device releases.
    server = LyingServer()
    for slot in range(N):
        server.say(slot, server.forwarded(slot, set(range(N))))
    for slot in range(N):
        server.say(slot, server.announced(set(range(N))))
    for slot in range(N):
        server.say(slot, server.request(slot, server.told[slot]["sharers"], server.told[slot]["survivors"]))
    server.check()
    assert len(server.grounds) == N
    assert all(len(server.released[slot, ShareKind.SELF_MASK]) == N - 1 for slot in range(N))
