"""A server that lies about who shared, who survived and who signed: it never gets what uncovers an input."""

from dataclasses import replace

import numpy as np
import pytest

from secagg import Abort, AbortReason, Phase, Result, bitmaps
from secagg.messages import ForwardedShares, NeighbourSignature, ShareKind, SurvivorsAnnouncement, UnmaskRequest
from secagg.testing import run_round

VICTIM = 104
HALF = {100, 101, 102, 103}


def run_lying(context, inputs, change, view, **options):
    """A round in which each message to a device goes through `change(device, message)`."""
    return run_round(
        context, inputs, from_server=lambda device, phase, message: change(device, message), from_device=view.watch, **options
    )


def without(bitmap: bytes, size: int, slot: int) -> bytes:
    members = bitmaps.decode(bitmap, size).copy()
    members[slot] = False
    return bitmaps.encode(bitmaps.slots_of(members), size)


def slot_of(outcome, device):
    return outcome.server.membership.slots[device]


def test_victim_listed_as_dropped_to_half_of_the_devices(context, draw_inputs, view):
    # The server wants the victim's mask key from one half and its seed from the other.
    slots = {}

    def change(device, message):
        if isinstance(message, SurvivorsAnnouncement) and device in HALF:
            return replace(message, survivors=without(message.survivors, 9, slots["victim"]))
        return message

    def note(device, phase, message):
        return change(device, message)

    outcome = run_round(
        context,
        draw_inputs(context.parameters),
        from_device=view.watch,
        from_server=lambda d, p, m: (slots.setdefault("victim", victim_slot(m)) if d == VICTIM else None, note(d, p, m))[1],
    )
    assert not view.uncovered(context.parameters.threshold)
    assert not view.released_by  # no bitmap has the threshold of signatures behind it
    assert isinstance(outcome.result, Abort)


def victim_slot(message) -> int:
    """The slot that is missing among one's own neighbours: one's own."""
    present = {peer.slot for peer in message.neighbours} if hasattr(message, "neighbours") else set()
    return next(iter(set(range(9)) - present)) if present else 0


def test_victim_listed_as_dropped_to_everybody_keeps_its_seed_covered(context, draw_inputs, view, total):
    # A consistent lie: all others release the victim's mask key, nobody its seed, and the victim is asked for nothing.
    slots = {}

    def change(device, phase, message):
        if device == VICTIM and hasattr(message, "neighbours"):
            slots["victim"] = victim_slot(message)
        if isinstance(message, SurvivorsAnnouncement):
            return None if device == VICTIM else replace(message, survivors=without(message.survivors, 9, slots["victim"]))
        return message

    outcome = run_round(context, draw_inputs(context.parameters), from_server=change, from_device=view.watch)
    assert isinstance(outcome.result, Abort)  # its own books say otherwise, so it cannot even go on
    assert len(view.shares.get((slots["victim"], ShareKind.SELF_MASK), {})) == 0
    assert not view.uncovered(context.parameters.threshold)


def test_device_that_is_not_a_survivor_signs_nothing(context, draw_inputs, view):
    def change(device, message):
        if isinstance(message, SurvivorsAnnouncement) and device == VICTIM:
            own = next(slot for slot in range(9) if slot not in neighbours[VICTIM])
            return replace(message, survivors=without(message.survivors, 9, own))
        if hasattr(message, "neighbours"):
            neighbours[device] = {peer.slot for peer in message.neighbours}
        return message

    neighbours = {}
    outcome = run_lying(context, draw_inputs(context.parameters), change, view)
    assert outcome.aborts[VICTIM].reason is AbortReason.WRONG_SURVIVORS
    assert VICTIM not in view.released_by


@pytest.mark.parametrize(
    ("bitmap", "reason"),
    [
        (b"\xff", AbortReason.MALFORMED),
        (b"\xff\xff", AbortReason.MALFORMED),  # nine devices: an unknown tenth
        (b"\xff\x01\x00", AbortReason.MALFORMED),
        (b"", AbortReason.MALFORMED),
        (b"\x00\x00", AbortReason.WRONG_SURVIVORS),
    ],
)
def test_unknown_ids_and_odd_bitmaps_are_refused(bitmap, reason, context, draw_inputs, view):
    def change(device, message):
        lie = isinstance(message, SurvivorsAnnouncement) and device == VICTIM
        return replace(message, survivors=bitmap) if lie else message

    outcome = run_lying(context, draw_inputs(context.parameters), change, view)
    assert outcome.aborts[VICTIM].reason is reason
    assert VICTIM not in view.released_by


def test_survivor_who_never_shared_is_refused(context, draw_inputs, view):
    # Overlapping lists: a device cannot have survived and not have shared.
    def change(device, message):
        return replace(message, survivors=b"\xff\x01") if isinstance(message, SurvivorsAnnouncement) else message

    outcome = run_lying(context, draw_inputs(context.parameters), change, view, leaves={108: Phase.SHARE_KEYS})
    assert {abort.reason for abort in outcome.aborts.values()} == {AbortReason.WRONG_SURVIVORS}
    assert not view.released_by


def test_too_few_survivors_are_refused_by_the_device(context, draw_inputs, view):
    # Down to three, the sum would be of two others.
    def change(device, message):
        if isinstance(message, SurvivorsAnnouncement):
            own = next(slot for slot in range(9) if slot not in neighbours[device])
            return replace(message, survivors=bitmaps.encode({own, (own + 1) % 9, (own + 2) % 9}, 9))
        if hasattr(message, "neighbours"):
            neighbours[device] = {peer.slot for peer in message.neighbours}
        return message

    neighbours = {}
    outcome = run_lying(context, draw_inputs(context.parameters), change, view)
    assert {abort.reason for abort in outcome.aborts.values()} == {AbortReason.TOO_FEW_SURVIVORS}
    assert not view.released_by


def test_asking_twice_gives_nothing_twice(context, draw_inputs, view):
    requests = {}

    def change(device, message):
        if isinstance(message, UnmaskRequest):
            requests[device] = message
        return message

    outcome = run_lying(context, draw_inputs(context.parameters), change, view)
    for device, client in outcome.clients.items():
        assert client.handle(requests[device]).reason is AbortReason.ALREADY_RELEASED
        assert isinstance(client.state, Abort)


def test_other_survivors_after_signing_end_the_round(context, draw_inputs, view):
    # Sign one list, then be shown another, in order to collect two signatures.
    announced = {}

    def change(device, message):
        if isinstance(message, SurvivorsAnnouncement):
            announced[device] = message
        if isinstance(message, UnmaskRequest) and device == VICTIM:
            own = next(slot for slot in range(9) if slot not in neighbours[device])
            return replace(announced[device], survivors=without(announced[device].survivors, 9, (own + 1) % 9))
        if hasattr(message, "neighbours"):
            neighbours[device] = {peer.slot for peer in message.neighbours}
        return message

    neighbours = {}
    outcome = run_lying(context, draw_inputs(context.parameters), change, view)
    assert outcome.aborts[VICTIM].reason is AbortReason.SECOND_REQUEST
    assert VICTIM not in view.released_by


def test_other_sharers_after_masking_give_no_second_masked_vector(context, draw_inputs, view):
    forwarded = {}

    def change(device, message):
        if isinstance(message, ForwardedShares):
            forwarded[device] = message
        if isinstance(message, SurvivorsAnnouncement) and device == VICTIM:
            first = forwarded[device]
            dropped = first.shares[0].sender
            return replace(first, sharers=without(first.sharers, 9, dropped), shares=first.shares[1:])
        return message

    outcome = run_lying(context, draw_inputs(context.parameters), change, view)
    assert outcome.aborts[VICTIM].reason is AbortReason.SECOND_REQUEST
    assert VICTIM not in view.released_by


def test_different_sharers_to_different_devices_release_nothing(context, draw_inputs, view):
    # One half is told that a device never shared, so the halves mask differently and sign differently.
    def change(device, message):
        if isinstance(message, ForwardedShares) and device in HALF:
            dropped = message.shares[0].sender
            return replace(message, sharers=without(message.sharers, 9, dropped), shares=message.shares[1:])
        return message

    outcome = run_lying(context, draw_inputs(context.parameters), change, view)
    assert isinstance(outcome.result, Abort)
    assert not view.released_by


@pytest.mark.parametrize(
    ("lie", "reason"),
    [
        (lambda m: replace(m, shares=m.shares[:-1]), AbortReason.WRONG_SHARERS),
        (lambda m: replace(m, shares=(*m.shares, m.shares[-1])), AbortReason.WRONG_SHARERS),
        (lambda m: replace(m, shares=m.shares[::-1]), AbortReason.WRONG_SHARERS),
        (lambda m: replace(m, shares=tuple(replace(s, recipient=s.sender) for s in m.shares)), AbortReason.WRONG_SHARERS),
        (lambda m: replace(m, sharers=b"\x00\x00"), AbortReason.WRONG_SHARERS),
        (lambda m: replace(m, sharers=b"\x00"), AbortReason.MALFORMED),
        (lambda m: replace(m, context=bytes(32)), AbortReason.WRONG_CONTEXT),
        (lambda m: replace(m, shares=tuple(replace(s, ciphertext=bytes(80)) for s in m.shares)), AbortReason.UNUSABLE_SHARES),
    ],
)
def test_false_shares_are_refused(lie, reason, context, draw_inputs, view):
    def change(device, message):
        return lie(message) if isinstance(message, ForwardedShares) and device == VICTIM else message

    outcome = run_lying(context, draw_inputs(context.parameters), change, view)
    assert outcome.aborts[VICTIM].reason is reason
    assert VICTIM not in view.released_by


def test_few_changed_shares_cost_nothing_but_those(context, draw_inputs, view, total):
    # Coordinates are wrong, ciphertexts are swapped: associated data does not fit, so the shares are as if never sent.
    def change(device, message):
        if isinstance(message, ForwardedShares) and device == VICTIM:
            first, second, *rest = message.shares
            swapped = (replace(first, ciphertext=second.ciphertext), replace(second, ciphertext=first.ciphertext), *rest)
            return replace(message, shares=swapped)
        return message

    inputs = draw_inputs(context.parameters)
    outcome = run_lying(context, inputs, change, view)
    assert {name: values.tolist() for name, values in outcome.result.sums.items()} == total(inputs, inputs)
    assert len(view.released_by[VICTIM].shares) == 6


@pytest.mark.parametrize(
    ("lie", "reason"),
    [
        (lambda m: m.signatures[:-1], AbortReason.TOO_FEW_SIGNATURES),
        (lambda m: (), AbortReason.TOO_FEW_SIGNATURES),
        (lambda m: (m.signatures[0],) * 6, AbortReason.MALFORMED),
        (lambda m: (*m.signatures[:-1], NeighbourSignature(slot=99, signature=bytes(64))), AbortReason.MALFORMED),
        (lambda m: (*m.signatures[:-1], replace(m.signatures[-1], signature=bytes(64))), AbortReason.BAD_SIGNATURE),
        (lambda m: tuple(replace(s, signature=m.signatures[0].signature) for s in m.signatures), AbortReason.BAD_SIGNATURE),
    ],
)
def test_false_requests_are_refused(lie, reason, context, draw_inputs, view):
    def change(device, message):
        if isinstance(message, UnmaskRequest) and device == VICTIM:
            return replace(message, signatures=lie(message))
        return message

    outcome = run_lying(context, draw_inputs(context.parameters), change, view)
    assert outcome.aborts[VICTIM].reason is reason
    assert VICTIM not in view.released_by
    assert isinstance(outcome.result, Result)  # eight others suffice


def test_own_signature_does_not_count(context, draw_inputs, view):
    def change(device, message):
        if isinstance(message, UnmaskRequest) and device == VICTIM:
            own = next(slot for slot in range(9) if slot not in neighbours[device])
            return replace(message, signatures=(NeighbourSignature(slot=own, signature=bytes(64)), *message.signatures[1:]))
        if hasattr(message, "neighbours"):
            neighbours[device] = {peer.slot for peer in message.neighbours}
        return message

    neighbours = {}
    outcome = run_lying(context, draw_inputs(context.parameters), change, view)
    assert outcome.aborts[VICTIM].reason is AbortReason.MALFORMED


def test_phases_cannot_be_skipped(context, draw_inputs, view):
    sent = {}

    def change(device, message):
        sent.setdefault(type(message), message)
        return message

    done = run_lying(context, draw_inputs(context.parameters), change, view)
    for skipped in (SurvivorsAnnouncement, UnmaskRequest):

        def skip(device, phase, message, skipped=skipped):
            return sent[skipped] if device == VICTIM and isinstance(message, ForwardedShares) else message

        outcome = run_round(context, draw_inputs(context.parameters), from_server=skip)
        assert outcome.aborts[VICTIM].reason is AbortReason.WRONG_CONTEXT
    assert isinstance(done.result, Result)


def test_fakes_beyond_the_allowed_fraction_leave_only_the_devices_own_noise(context, draw_inputs):
    # Eight certified devices of nine are the server's. They follow the protocol, and the sum minus their inputs is the victim's input:
    # what protects it now is what it added itself before it submitted.
    inputs = draw_inputs(context.parameters)
    noise = np.array([7, -3, 0, 12, -9, 1, 1, -5, 20, -2, 4])
    secret = inputs[VICTIM]["update"].copy()
    inputs[VICTIM] = {**inputs[VICTIM], "update": np.clip(secret + noise, -500, 500)}
    result = run_round(context, inputs).result
    learnt = result.sums["update"] - sum(inputs[device]["update"] for device in inputs if device != VICTIM)
    assert learnt.tolist() == np.clip(secret + noise, -500, 500).tolist()
    assert learnt.tolist() != secret.tolist()
