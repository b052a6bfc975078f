"""A server that lies about keys, neighbours, model, configuration or parameters: honest devices leave before any secret is used."""

from dataclasses import replace

import pytest

from contract.entropy import system_entropy
from secagg import LOWEST_FLOORS, AbortReason, Client, DeviceAuthority, Floors, Phase, Result, Server, keys
from secagg.messages import AdvertiseKeys, NeighbourKeys, Roster
from secagg.statements import advertisement
from secagg.testing import context_of, run_round

VICTIM = 104
LOW_ORDER = bytes.fromhex("e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800")


def lie_to_victim(context, inputs, change, view=None):
    """A round in which the victim is shown `change(roster)`."""

    def lie(device, phase, message):
        return change(message) if device == VICTIM and isinstance(message, Roster) else message

    return run_round(context, inputs, from_server=lie, from_device=view.watch if view else None)


def with_neighbour(roster: Roster, **changes) -> Roster:
    first = roster.neighbours[0]
    return replace(
        roster, neighbours=(NeighbourKeys(slot=first.slot, keys=replace(first.keys, **changes)), *roster.neighbours[1:])
    )


def forged(roster: Roster, keys_of_attacker: AdvertiseKeys) -> Roster:
    """The first neighbour's place taken over in the lists as well."""
    slot = roster.neighbours[0].slot
    cut = slice(32 * slot, 32 * slot + 32)
    identities, digests = bytearray(roster.identities), bytearray(roster.key_digests)
    identities[cut], digests[cut] = keys_of_attacker.certificate.identity, keys_of_attacker.digest()
    neighbours = (NeighbourKeys(slot=slot, keys=keys_of_attacker), *roster.neighbours[1:])
    return replace(roster, identities=bytes(identities), key_digests=bytes(digests), neighbours=neighbours)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda r: with_neighbour(r, mask_key=keys.generate(system_entropy).public), AbortReason.SUBSTITUTED_KEY),
        (lambda r: with_neighbour(r, cipher_key=keys.generate(system_entropy).public), AbortReason.SUBSTITUTED_KEY),
        (lambda r: with_neighbour(r, signature=bytes(64)), AbortReason.BAD_SIGNATURE),
        (lambda r: forged(r, replace(r.neighbours[0].keys, mask_key=bytes([9]) + bytes(31))), AbortReason.BAD_SIGNATURE),
        (lambda r: forged(r, replace(r.neighbours[0].keys, mask_key=bytes(31))), AbortReason.MALFORMED),
        (lambda r: replace(r, neighbours=r.neighbours[1:]), AbortReason.WRONG_NEIGHBOURS),
        (lambda r: replace(r, neighbours=r.neighbours[::-1]), AbortReason.WRONG_NEIGHBOURS),
        (lambda r: replace(r, neighbours=(*r.neighbours, r.neighbours[0])), AbortReason.WRONG_NEIGHBOURS),
        (lambda r: replace(r, identities=r.identities[32:] + r.identities[:32]), AbortReason.ROSTER_UNSORTED),
        (lambda r: replace(r, identities=r.identities + r.identities[-32:], key_digests=r.key_digests + bytes(32)),
         AbortReason.ROSTER_UNSORTED),
        (lambda r: replace(r, identities=r.identities[:-32], key_digests=r.key_digests[:-32]), None),
        (lambda r: replace(r, identities=r.identities[:-1]), AbortReason.MALFORMED),
        (lambda r: replace(r, key_digests=r.key_digests[32:]), AbortReason.MALFORMED),
        (lambda r: replace(r, key_digests=bytes(len(r.key_digests))), AbortReason.OWN_KEY_MISSING),
        (lambda r: replace(r, identities=bytes(range(32)), key_digests=bytes(32), neighbours=()), AbortReason.OWN_KEY_MISSING),
        (lambda r: replace(r, identities=b"", key_digests=b"", neighbours=()), AbortReason.OWN_KEY_MISSING),
    ],
)  # fmt: skip
def test_victim_of_a_false_roster_leaves(change, reason, context, draw_inputs, view, total):
    inputs = draw_inputs(context.parameters)
    outcome = lie_to_victim(context, inputs, change, view)
    assert VICTIM in outcome.aborts
    assert reason is None or outcome.aborts[VICTIM].reason is reason
    assert VICTIM not in view.released_by
    assert isinstance(outcome.result, Result)  # it costs the others one contribution
    honest = [device for device in inputs if device != VICTIM]
    assert {name: values.tolist() for name, values in outcome.result.sums.items()} == total(inputs, honest)


def test_own_key_under_two_slots_cannot_be_said(context, draw_inputs):
    def double(roster: Roster) -> Roster:
        own = roster.identities[:32]
        return replace(roster, identities=own + roster.identities, key_digests=roster.key_digests[:32] + roster.key_digests)

    outcome = lie_to_victim(context, draw_inputs(context.parameters), double)
    assert outcome.aborts[VICTIM].reason is AbortReason.ROSTER_UNSORTED


def test_uncertified_neighbour_is_refused(context, draw_inputs):
    other = DeviceAuthority(bytes([5]) * 32)

    def replace_first(roster: Roster) -> Roster:
        pretender = other.enrol(context.epoch, system_entropy)
        pair = keys.generate(system_entropy)
        signature = pretender.sign(advertisement(context.digest(), pair.public, pair.public))
        forger = AdvertiseKeys(
            certificate=pretender.certificate, cipher_key=pair.public, mask_key=pair.public, signature=signature
        )
        return in_order(forged(roster, forger))

    outcome = lie_to_victim(context, draw_inputs(context.parameters), replace_first)
    assert outcome.aborts[VICTIM].reason in {AbortReason.UNCERTIFIED, AbortReason.WRONG_NEIGHBOURS}


def in_order(roster: Roster) -> Roster:
    """The same roster with its lists sorted again and neighbours renumbered."""
    blocks = [(roster.identities[i : i + 32], roster.key_digests[i : i + 32]) for i in range(0, len(roster.identities), 32)]
    blocks.sort()
    places = {identity: slot for slot, (identity, _) in enumerate(blocks)}
    moved = [NeighbourKeys(slot=places[peer.keys.certificate.identity], keys=peer.keys) for peer in roster.neighbours]
    return Roster(
        identities=b"".join(identity for identity, _ in blocks),
        key_digests=b"".join(digest for _, digest in blocks),
        neighbours=tuple(sorted(moved, key=lambda peer: peer.slot)),
    )


@pytest.mark.parametrize("field", ["model_digest", "config_digest", "ledger_checkpoint", "round_id"])
def test_different_models_or_configurations_part_the_devices(field, context, draw_inputs, view):
    # The server tells one device something else, and forwards its keys as if it had not.
    inputs = draw_inputs(context.parameters)
    authority = DeviceAuthority(bytes(32))
    server = Server(context=context, authority=authority.public)
    clients = {}
    for device in inputs:
        told = replace(context, **{field: "ff" * 32}) if device == VICTIM else context
        clients[device] = Client(
            context=told,
            authority=authority.public,
            identity=authority.enrol(context.epoch, system_entropy),
            floors=LOWEST_FLOORS,
            entropy=system_entropy,
        )
        clients[device].set_input(inputs[device])
    advertised = {device: client.advertise_keys() for device, client in clients.items()}
    for device, message in advertised.items():
        if device == VICTIM:  # an honest server refuses; the lying one takes it unchecked
            server._state.advertised[device] = message
        else:
            assert server.handle(device, message) is None
    replies = {device: clients[device].handle(roster) for device, roster in server.close_phase().items()}
    assert all(reply.reason is AbortReason.BAD_SIGNATURE for reply in replies.values())


def test_different_parameters_part_the_devices(context, parameters):
    weaker = replace(parameters, minimum_survivors=2)
    assert context.digest() != context_of(weaker).digest()


@pytest.mark.parametrize(
    "changes",
    [
        {"minimum_survivors": 4},
        {"minimum_roster": 4},
        {"corrupt_fraction": 0.0},
        {"corrupt_fraction": 0.4},
        {"threshold": 4},
        {"threshold": 5},
        {"degree": 4, "threshold": 4},
    ],
)
def test_parameters_below_the_floors_are_refused(changes, parameters):
    floors = Floors(minimum_roster=7, minimum_survivors=5, corrupt_fraction=0.1)
    context = context_of(replace(parameters, **changes))
    authority = DeviceAuthority(bytes(32))
    client = Client(
        context=context,
        authority=authority.public,
        identity=authority.enrol(1, system_entropy),
        floors=floors,
        entropy=system_entropy,
    )
    if "degree" in changes:  # up to 64 devices the graph is complete, whatever the server says
        assert context.parameters.topology(9).degree == 8
        return
    assert client.advertise_keys().reason is AbortReason.BELOW_FLOORS
    assert client.handle(None).reason is AbortReason.BELOW_FLOORS


def test_smaller_roster_than_agreed_is_refused(context, draw_inputs):
    def shorten(roster: Roster) -> Roster:
        keep = 6  # below the smallest roster of seven
        blocks = [(roster.identities[i : i + 32], roster.key_digests[i : i + 32]) for i in range(0, 32 * 9, 32)]
        own = next(b for b in blocks if b[0] not in {peer.keys.certificate.identity for peer in roster.neighbours})
        kept = sorted([own, *[b for b in blocks if b != own][: keep - 1]])
        peers = {peer.keys.certificate.identity: peer.keys for peer in roster.neighbours}
        return Roster(
            identities=b"".join(b[0] for b in kept),
            key_digests=b"".join(b[1] for b in kept),
            neighbours=tuple(NeighbourKeys(slot=s, keys=peers[b[0]]) for s, b in enumerate(kept) if b != own),
        )

    outcome = lie_to_victim(context, draw_inputs(context.parameters), shorten)
    assert outcome.aborts[VICTIM].reason is AbortReason.UNSOUND_ROSTER


def test_graph_that_does_not_follow_from_the_keys_is_refused(draw_inputs):
    from secagg import Vector, choose

    update = Vector(name="update", length=3, lane_bits=20, largest=1000)
    asked = choose(roster_size=80, vectors=(update,), corrupt_fraction=0.05, drop_fraction=0.05)
    assert asked.degree < 40
    rosters = {}

    def swap(device, phase, message):
        # The second device is shown the neighbours of the first, whom the server likes better.
        if isinstance(message, Roster):
            rosters[device] = message
            if len(rosters) == 2:
                return next(iter(rosters.values()))
        return message

    outcome = run_round(context_of(asked), draw_inputs(asked), from_server=swap)
    assert [abort.reason for abort in outcome.aborts.values()] == [AbortReason.WRONG_NEIGHBOURS]
    assert list(outcome.aborts) == [list(rosters)[1]]


@pytest.mark.parametrize("which", ["cipher_key", "mask_key"])
def test_low_order_point_is_refused_by_devices_too(which, context, draw_inputs):
    # A corrupt, certified device advertises a point of low order, and the server lets it in.
    inputs = draw_inputs(context.parameters)
    authority = DeviceAuthority(bytes(32))
    server = Server(context=context, authority=authority.public)
    clients = {}
    for device in inputs:
        identity = authority.enrol(context.epoch, system_entropy)
        clients[device] = Client(
            context=context, authority=authority.public, identity=identity, floors=LOWEST_FLOORS, entropy=system_entropy
        )
        message = clients[device].advertise_keys()
        if device == VICTIM:
            fields = {"cipher_key": message.cipher_key, "mask_key": message.mask_key, which: LOW_ORDER}
            signature = identity.sign(advertisement(context.digest(), fields["cipher_key"], fields["mask_key"]))
            message = replace(message, signature=signature, **{which: LOW_ORDER})
        server._state.advertised[device] = message
    for device, roster in server.close_phase().items():
        if device != VICTIM:
            assert clients[device].handle(roster).reason is AbortReason.LOW_ORDER_POINT
    assert server.phase is Phase.SHARE_KEYS
