"""A server that tells one part of the devices one thing and the rest another: it gets one list's releases, over one roster."""

from dataclasses import replace

import numpy as np
import pytest

from contract.entropy import system_entropy
from contract.randomness import stream
from secagg import (
    LOWEST_FLOORS,
    Abort,
    AbortReason,
    Client,
    DeviceAuthority,
    Parameters,
    Result,
    Vector,
    bitmaps,
    choose,
    statements,
)
from secagg.messages import (
    ConsistencyCheck,
    ForwardedShares,
    MaskedInput,
    NeighbourSignature,
    ShareKeys,
    SurvivorsAnnouncement,
    Unmasking,
    UnmaskRequest,
    WitnessSignature,
)
from secagg.server.advertise_keys import AdvertisingKeys
from secagg.testing import context_of, run_round

UPDATE = Vector(name="u", length=2, lane_bits=20, largest=100)
RING = choose(roster_size=80, vectors=(UPDATE,), corrupt_fraction=0.05, drop_fraction=0.05)
SMALL = choose(roster_size=9, vectors=(UPDATE,), corrupt_fraction=0.12, drop_fraction=0.15)


class Crowd:
    """Real devices with keys for one context, of which a server makes rosters as it likes. Devices are named by numbers."""

    def __init__(self, parameters: Parameters, count: int) -> None:
        self.context, self.authority = context_of(parameters), DeviceAuthority(bytes(32))
        self.identities = {d: self.authority.enrol(self.context.epoch, system_entropy) for d in range(count)}
        self.clients = {device: self._client(device) for device in range(count)}
        self.advertised = {device: client.advertise_keys() for device, client in self.clients.items()}

    def _client(self, device):
        client = Client(
            context=self.context,
            authority=self.authority.public,
            identity=self.identities[device],
            floors=LOWEST_FLOORS,
            entropy=system_entropy,
        )
        client.set_input({"u": np.array([device, 1])})
        return client

    def roster(self, devices):
        """The membership of a roster, and each device's view of it."""
        advertising = AdvertisingKeys(context=self.context, ctx0=self.context.digest(), authority=self.authority.public)
        for device in devices:
            assert advertising.receive(device, self.advertised[device]) is None
        return advertising.close()


class TwoArcs:
    """A round on a ring up to the signatures: one half of the ring is shown one list of survivors, the other half another."""

    def __init__(self, *, witnesses_see: int | None = None) -> None:
        self.crowd = Crowd(RING, 80)
        self.membership, rosters = self.crowd.roster(range(80))
        slots, graph = self.membership.slots, self.membership.graph
        self.clients = {slots[device]: client for device, client in self.crowd.clients.items()}
        self.corrupt = set(stream(3, "corrupt").choice(80, 4, replace=False).tolist())
        dealt = {slots[device]: self.crowd.clients[device].handle(roster) for device, roster in rosters.items()}
        assert all(isinstance(message, ShareKeys) for message in dealt.values())
        everybody = bitmaps.encode(range(80), 80)
        for slot, client in self.clients.items():
            sealed = [next(s for s in dealt[peer].shares if s.recipient == slot) for peer in graph.neighbours(slot)]
            forwarded = ForwardedShares(
                context=self.membership.ctx1,
                sharers=everybody,
                shares=tuple(sealed),
                signatures=tuple(dealt[s.sender].signature for s in sealed),
            )
            assert isinstance(client.handle(forwarded), MaskedInput)
        # A calls some of the one half dropped, B some of the other: each alone leaves more than the floor.
        halves = [graph.order[:40].tolist(), graph.order[40:].tolist()]
        out = [set(half[4:36:8]) for half in halves]
        self.lists = [bitmaps.encode(set(range(80)) - gone, 80) for gone in out]
        self.side = {slot: int(slot in set(halves[1])) for slot in range(80)}
        if witnesses_see is not None:
            self.side |= dict.fromkeys(graph.witnesses, witnesses_see)
        self.signed: dict[int, bytes] = {}
        for slot, client in self.clients.items():
            announced = SurvivorsAnnouncement(context=self.membership.ctx1, survivors=self.lists[self.side[slot]])
            reply = client.handle(announced)
            if isinstance(reply, ConsistencyCheck):
                self.signed[slot] = reply.signature

    def signatures(self, slots, which):
        """What the server has of these devices for one list: honest ones signed what they saw, corrupt ones sign anything."""
        alive = bitmaps.decode(self.lists[which], 80)
        statement = statements.consistency(self.membership.ctx1, bitmaps.encode(range(80), 80), self.lists[which])
        for slot in slots:
            device = self.membership.devices[slot]
            if slot in self.corrupt:
                yield slot, self.crowd.identities[device].sign(statement)
            elif alive[slot] and self.side[slot] == which and slot in self.signed:
                yield slot, self.signed[slot]

    def ask(self, slot):
        """The best request that the server can make of a device, and the answer."""
        which = self.side[slot]
        alive = bitmaps.decode(self.lists[which], 80)
        found = [p for p in self.signatures(self.membership.neighbours[slot], which) if alive[p[0]]]
        witnesses = [
            WitnessSignature(slot=w, certificate=self.membership.keys[w].certificate, signature=signature)
            for w, signature in self.signatures(self.membership.graph.witnesses, which)
        ]
        request = UnmaskRequest(
            context=self.membership.ctx1,
            signatures=tuple(NeighbourSignature(slot=peer, signature=signature) for peer, signature in found),
            witnesses=tuple(witnesses),
        )
        return len(found), self.clients[slot].handle(request)


@pytest.mark.parametrize("witnesses_see", [None, 0, 1])
def test_two_lists_in_two_arcs_do_not_both_get_releases(witnesses_see):
    arcs = TwoArcs(witnesses_see=witnesses_see)
    threshold, released, enough = arcs.membership.threshold, set(), set()
    for slot in sorted(set(arcs.signed) - arcs.corrupt):
        neighbours, reply = arcs.ask(slot)
        if neighbours >= threshold:
            enough.add(arcs.side[slot])
        if isinstance(reply, Unmasking):
            released.add(arcs.side[slot])
        else:
            assert reply.reason is AbortReason.TOO_FEW_SIGNATURES
    assert enough == {0, 1}  # neighbours alone would have settled both lists
    assert len(released) <= 1
    if witnesses_see is not None:
        assert released == {witnesses_see}  # the attack is no empty one: the list that the witnesses saw does come out


def ask_all(change, view):
    """A whole round on a ring in which the requests are changed."""

    def from_server(device, phase, message):
        return change(device, message) if isinstance(message, UnmaskRequest) else message

    inputs = {device: {"u": np.array([device, 1])} for device in range(80)}
    return run_round(context_of(RING), inputs, from_server=from_server, from_device=view.watch), view.released_by


@pytest.mark.parametrize(
    ("lie", "reason"),
    [
        (lambda w: (), AbortReason.TOO_FEW_SIGNATURES),
        (lambda w: w[:-1], AbortReason.TOO_FEW_SIGNATURES),
        (lambda w: (w[0],) * len(w), AbortReason.MALFORMED),
        (lambda w: (*w[:-1], replace(w[-1], slot=10_000)), AbortReason.MALFORMED),
        (lambda w: tuple(replace(one, signature=bytes(64)) for one in w), AbortReason.BAD_SIGNATURE),
    ],
)
def test_false_witnesses_release_nothing(lie, reason, view):
    outcome, released = ask_all(lambda device, m: replace(m, witnesses=lie(m.witnesses)) if device == 5 else m, view)
    assert outcome.aborts[5].reason is reason
    assert 5 not in released
    assert isinstance(outcome.result, Result)


def test_witnesses_that_nobody_certified_release_nothing(view):
    # The server could list identities of its own where nobody looks, and sign for them: far away their certificates are asked for.
    forged = DeviceAuthority(bytes([1]) * 32)

    def change(device, message):
        fakes = (replace(w, certificate=forged.issue(w.certificate.identity, w.certificate.epoch)) for w in message.witnesses)
        return replace(message, witnesses=tuple(fakes))

    outcome, released = ask_all(change, view)
    assert {abort.reason for abort in outcome.aborts.values()} == {AbortReason.UNCERTIFIED}
    assert len(released) < RING.degree  # only devices that are next to all these witnesses, and checked them when they joined
    assert isinstance(outcome.result, Abort)


def test_ring_device_that_was_shown_another_roster_counts_for_nobody():
    # The server shows a device one roster and lists it on another, where it would be a survivor who never was there.
    crowd = Crowd(RING, 81)
    here, rosters = crowd.roster(range(80))
    _, elsewhere = crowd.roster(range(1, 81))
    dealt = {device: crowd.clients[device].handle((elsewhere if device == 7 else rosters)[device]) for device in range(80)}
    assert all(isinstance(message, ShareKeys) for message in dealt.values())
    stranger = here.slots[7]
    victim = here.neighbours[stranger][0]
    shares, signatures = [], []
    for peer in here.neighbours[victim]:
        message = dealt[here.devices[peer]]
        found = [s for s in message.shares if s.recipient == victim] if peer != stranger else message.shares[:1]
        shares.append(replace(found[0], sender=peer, recipient=victim))
        signatures.append(message.signature)
    forwarded = ForwardedShares(
        context=here.ctx1, sharers=bitmaps.encode(range(80), 80), shares=tuple(shares), signatures=tuple(signatures)
    )
    reply = crowd.clients[here.devices[victim]].handle(forwarded)
    assert reply == Abort(AbortReason.BAD_SIGNATURE, "sharers that were not shown this roster", (stranger,))


def test_on_the_complete_graph_devices_of_another_roster_are_no_survivors():
    # Two overlapping rosters: two devices are shown the second and deal on it. On the first the server calls them survivors; their mask
    # keys it could learn on the second, so that a sum of seven would pass for one of nine, where eight are the floor.
    crowd = Crowd(SMALL, 12)
    here, rosters = crowd.roster(range(9))
    _, elsewhere = crowd.roster(range(3, 12))
    gone = {7, 8}
    dealt = {d: crowd.clients[d].handle((elsewhere if d in gone else rosters)[d]) for d in range(9)}
    everybody = bitmaps.encode(range(9), 9)
    for device in set(range(9)) - gone:
        slot, shares = here.slots[device], []
        for peer in here.neighbours[slot]:
            found = [s for s in dealt[here.devices[peer]].shares if s.recipient == slot] or dealt[here.devices[peer]].shares[:1]
            shares.append(replace(found[0], sender=peer, recipient=slot))
        client = crowd.clients[device]
        masked = client.handle(ForwardedShares(context=here.ctx1, sharers=everybody, shares=tuple(shares)))
        assert isinstance(masked, MaskedInput)
        reply = client.handle(SurvivorsAnnouncement(context=here.ctx1, survivors=everybody))
        assert reply == Abort(AbortReason.TOO_FEW_SURVIVORS, "7 survivors")
