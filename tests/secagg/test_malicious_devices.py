"""A device that lies is named and left out, or the round ends with a reason; the sum is never wrong because of a share."""

from dataclasses import replace

import numpy as np
import pytest

from contract.entropy import system_entropy
from secagg import Abort, AbortReason, Phase, Refusal, Result, Vector, choose, keys
from secagg.hashing import encode
from secagg.messages import MaskedInput, ReleasedShare, ShareKeys, ShareKind, Unmasking
from secagg.statements import release, share_commitment
from secagg.testing import context_of, run_round

BAD = 104


def run_with(context, inputs, change, only=None):
    """A round in which the bad device's messages go through `change`; `only` restricts it to one type."""

    def tamper(device, phase, message):
        return change(message) if device == BAD and (only is None or isinstance(message, only)) else message

    return run_round(context, inputs, from_device=tamper)


@pytest.mark.parametrize(
    ("change", "refusal"),
    [
        (lambda m: replace(m, words=m.words[:-1]), Refusal.WRONG_LENGTH),
        (lambda m: replace(m, words=np.concatenate([m.words, m.words[:1]])), Refusal.WRONG_LENGTH),
        (lambda m: replace(m, words=m.words.astype(np.uint32)), Refusal.WRONG_LENGTH),
        (lambda m: replace(m, words=m.words.reshape(1, -1)), Refusal.WRONG_LENGTH),
        (lambda m: replace(m, context=bytes(32)), Refusal.WRONG_CONTEXT),
    ],
)
def test_masked_input_of_wrong_form_is_left_out(change, refusal, context, draw_inputs, total):
    inputs = draw_inputs(context.parameters)
    outcome = run_with(context, inputs, change, MaskedInput)
    assert outcome.refusals == {refusal: 1}
    honest = [device for device in inputs if device != BAD]
    assert {name: values.tolist() for name, values in outcome.result.sums.items()} == total(inputs, honest)


def first_share(message: ShareKeys, **changes) -> ShareKeys:
    return replace(message, shares=(replace(message.shares[0], **changes), *message.shares[1:]))


@pytest.mark.parametrize(
    "change",
    [
        lambda m: replace(m, shares=m.shares[1:]),
        lambda m: replace(m, shares=m.shares[::-1]),
        lambda m: replace(m, shares=(m.shares[0], *m.shares[:-1])),  # the same coordinate twice
        lambda m: first_share(m, sender=0 if m.shares[0].sender else 1),
        lambda m: first_share(m, ciphertext=bytes(79)),
        lambda m: first_share(m, self_mask_commitment=b""),
        lambda m: replace(m, seed_commitment=b""),
        lambda m: replace(m, signature=bytes(1 << 16)),  # only a ring's dealers sign
    ],
)
def test_shares_of_wrong_form_leave_their_dealer_out(change, context, draw_inputs, total):
    inputs = draw_inputs(context.parameters)
    outcome = run_with(context, inputs, change, ShareKeys)
    assert outcome.refusals == {Refusal.MALFORMED: 1}
    honest = [device for device in inputs if device != BAD]
    assert {name: values.tolist() for name, values in outcome.result.sums.items()} == total(inputs, honest)


@pytest.mark.parametrize("signature", [b"", bytes(64), b"x"])
def test_dealer_on_a_ring_that_does_not_sign_the_roster_is_left_out(signature, draw_inputs, total):
    update = Vector(name="u", length=2, lane_bits=20, largest=9)
    asked = choose(roster_size=70, vectors=(update,), corrupt_fraction=0.0, drop_fraction=0.05)
    inputs = draw_inputs(asked)
    outcome = run_with(context_of(asked), inputs, lambda m: replace(m, signature=signature), ShareKeys)
    assert outcome.refusals == {Refusal.BAD_SIGNATURE: 1}
    honest = [device for device in inputs if device != BAD]
    assert {name: values.tolist() for name, values in outcome.result.sums.items()} == total(inputs, honest)


def test_garbage_for_two_neighbours_costs_nothing(context, draw_inputs, total):
    inputs = draw_inputs(context.parameters)

    def garble(message):
        garbled = [replace(sealed, ciphertext=bytes(80)) for sealed in message.shares[:2]]
        return replace(message, shares=(*garbled, *message.shares[2:]))

    outcome = run_with(context, inputs, garble, ShareKeys)
    assert {name: values.tolist() for name, values in outcome.result.sums.items()} == total(inputs, inputs)


def test_garbage_for_everybody_ends_the_round_and_names_the_dealer(context, draw_inputs):
    outcome = run_with(
        context,
        draw_inputs(context.parameters),
        lambda m: replace(m, shares=tuple(replace(s, ciphertext=bytes(80)) for s in m.shares)),
        ShareKeys,
    )
    assert isinstance(outcome.result, Abort)
    assert outcome.result.reason is AbortReason.TOO_FEW_SHARES
    assert [outcome.server.membership.devices[slot] for slot in outcome.result.culprits] == [BAD]


@pytest.mark.parametrize("drops", [True, False])
def test_shares_of_another_secret_are_traced_to_their_dealer(drops, context, draw_inputs, monkeypatch):
    # Well-formed, well-committed shares that lie on no common polynomial.
    import secagg.client.share_keys as module

    genuine = module.shamir.split
    made = []

    def crooked(secret, threshold, coordinates, entropy):
        shares = genuine(secret, threshold, coordinates, entropy)
        made.append(1)
        return [share + 1 if i % 2 else share for i, share in enumerate(shares)] if len(made) in {1, 2} else shares

    monkeypatch.setattr(module.shamir, "split", crooked)
    inputs = draw_inputs(context.parameters)
    outcome = run_round(context, inputs, leaves={100: Phase.MASKED_INPUT} if drops else None)
    assert outcome.result.reason is AbortReason.DEALER_INCONSISTENT
    assert len(outcome.result.culprits) == 1


def signed_again(message: Unmasking, outcome_state, shares) -> Unmasking:
    signature = outcome_state.member.device.identity.sign(
        release(message.context, outcome_state.sharers, outcome_state.survivors, shares)
    )
    return replace(message, shares=shares, signature=signature)


@pytest.mark.parametrize(
    ("change", "refusal"),
    [
        (lambda s: (replace(s[0], share=bytes(32)), *s[1:]), Refusal.WRONG_SHARE),
        (lambda s: (replace(s[0], share=s[1].share), replace(s[1], share=s[0].share), *s[2:]), Refusal.WRONG_SHARE),
        (lambda s: (replace(s[0], kind=ShareKind.MASK_KEY), *s[1:]), Refusal.WRONG_RELEASES),
        (lambda s: (s[0], *s), Refusal.WRONG_RELEASES),
        (lambda s: (replace(s[0], neighbour=77), *s[1:]), Refusal.WRONG_RELEASES),
        (
            lambda s: (*s, ReleasedShare(neighbour=s[0].neighbour, kind=ShareKind.MASK_KEY, share=bytes(32))),
            Refusal.WRONG_RELEASES,
        ),
    ],
)
def test_wrong_shares_are_traced_to_their_holder_and_the_sum_is_right(change, refusal, context, draw_inputs, total):
    inputs = draw_inputs(context.parameters)
    outcome = run_with(context, inputs, lambda m: replace(m, shares=change(m.shares)), Unmasking)
    assert outcome.refusals == {refusal: 1}
    assert {name: values.tolist() for name, values in outcome.result.sums.items()} == total(inputs, inputs)


def test_unsigned_release_is_refused(context, draw_inputs):
    outcome = run_with(context, draw_inputs(context.parameters), lambda m: replace(m, signature=bytes(64)), Unmasking)
    assert outcome.refusals == {Refusal.BAD_SIGNATURE: 1}
    assert isinstance(outcome.result, Result)


def test_low_order_and_uncertified_keys_do_not_get_in(context, draw_inputs):
    low = bytes.fromhex("5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157")
    inputs = draw_inputs(context.parameters)
    for change, refusal in [
        (lambda m: replace(m, mask_key=low), Refusal.LOW_ORDER_POINT),
        (lambda m: replace(m, cipher_key=low), Refusal.LOW_ORDER_POINT),
        (lambda m: replace(m, cipher_key=bytes(31)), Refusal.MALFORMED),
        (lambda m: replace(m, mask_key=keys.generate(system_entropy).public), Refusal.BAD_SIGNATURE),
        (lambda m: replace(m, certificate=replace(m.certificate, signature=bytes(64))), Refusal.UNCERTIFIED),
        (lambda m: replace(m, certificate=replace(m.certificate, epoch=9)), Refusal.UNCERTIFIED),
        (lambda m: replace(m, certificate=replace(m.certificate, identity=b"x")), Refusal.UNCERTIFIED),
    ]:
        from secagg.messages import AdvertiseKeys

        outcome = run_with(context, inputs, change, AdvertiseKeys)
        assert outcome.refusals[refusal] == 1
        assert BAD not in outcome.result.survivors


def test_one_identity_has_one_place(context, draw_inputs):
    taken = {}

    def copy(device, phase, message):
        taken.setdefault("first", message)
        return taken["first"] if device == BAD and phase is Phase.ADVERTISE_KEYS else message

    outcome = run_round(context, draw_inputs(context.parameters), from_device=copy)
    assert outcome.refusals[Refusal.IDENTITY_TAKEN] == 1


def test_false_consistency_signature_is_refused(context, draw_inputs, total):
    from secagg.messages import ConsistencyCheck

    inputs = draw_inputs(context.parameters)
    outcome = run_with(context, inputs, lambda m: replace(m, signature=bytes(64)), ConsistencyCheck)
    assert outcome.refusals[Refusal.BAD_SIGNATURE] == 1
    assert {name: values.tolist() for name, values in outcome.result.sums.items()} == total(inputs, inputs)


def test_commitments_differ_by_place_and_kind():
    seen = {
        share_commitment(bytes(32), dealer, holder, kind, bytes(32))
        for dealer in (0, 1)
        for holder in (2, 3)
        for kind in ShareKind
    }
    assert len(seen) == 8
    assert encode("a", b"b") != encode("a", b"b", b"")
