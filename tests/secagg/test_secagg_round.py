"""A round gives the exact sum of what the survivors submitted, or a reason; whoever leaves, and whenever."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contract.randomness import stream
from secagg import (
    LOWEST_FLOORS,
    Abort,
    AbortReason,
    Client,
    Context,
    DeviceAuthority,
    MaskCipher,
    Phase,
    Refusal,
    Result,
    Server,
    Vector,
    VectorKind,
    choose,
)
from secagg.messages import AdvertiseKeys, MaskedInput, Unmasking
from secagg.testing import context_of, run_round

WORKING = [Phase.ADVERTISE_KEYS, Phase.SHARE_KEYS, Phase.MASKED_INPUT, Phase.CONSISTENCY_CHECK, Phase.UNMASKING]


def sums_of(outcome):
    assert isinstance(outcome.result, Result), outcome.result
    return {name: values.tolist() for name, values in outcome.result.sums.items()}


def test_sum_is_exact_when_everybody_stays(context, draw_inputs, total):
    inputs = draw_inputs(context.parameters)
    outcome = run_round(context, inputs)
    assert sums_of(outcome) == total(inputs, inputs)
    assert sorted(outcome.result.survivors) == sorted(inputs)
    assert not outcome.aborts
    assert not outcome.refusals


@pytest.mark.parametrize("phase", WORKING)
def test_sum_is_exact_when_one_leaves_in(phase, context, draw_inputs, total):
    inputs = draw_inputs(context.parameters)
    outcome = run_round(context, inputs, leaves={104: phase})
    submitted = [device for device in inputs if device != 104 or WORKING.index(phase) > WORKING.index(Phase.MASKED_INPUT)]
    assert sorted(outcome.result.survivors) == submitted
    assert sums_of(outcome) == total(inputs, submitted)


@settings(max_examples=40, deadline=None)
@given(leaving=st.dictionaries(st.integers(100, 108), st.sampled_from(WORKING), max_size=5))
def test_result_is_the_survivors_sum_or_a_reason(leaving):
    update = Vector(name="update", length=5, lane_bits=12, largest=100)
    asked = choose(roster_size=9, minimum_roster=7, vectors=(update,), corrupt_fraction=0.12, drop_fraction=0.15)
    rng = stream(3, "leaving")
    inputs = {100 + i: {"update": rng.integers(-100, 101, 5)} for i in range(9)}
    outcome = run_round(context_of(asked), inputs, leaves=leaving)
    if isinstance(outcome.result, Result):
        submitted = [d for d in inputs if WORKING.index(leaving.get(d, Phase.UNMASKING)) > WORKING.index(Phase.MASKED_INPUT)]
        assert sorted(outcome.result.survivors) == submitted
        assert outcome.result.sums["update"].tolist() == sum(inputs[d]["update"] for d in submitted).tolist()
    else:
        assert len(leaving) >= 1
        assert outcome.result.reason.name.startswith("TOO_FEW")


def test_ring_of_neighbours_sums_exactly_with_a_tenth_leaving(draw_inputs, total):
    update = Vector(name="update", length=40, lane_bits=20, largest=1000)
    asked = choose(roster_size=100, minimum_roster=90, vectors=(update,), corrupt_fraction=0.05, drop_fraction=0.1)
    assert asked.degree < 40
    inputs = draw_inputs(asked)
    leaves = {100 + i: WORKING[i % 5] for i in range(10)}
    outcome = run_round(context_of(asked), inputs, leaves=leaves)
    gone = [d for d, phase in leaves.items() if WORKING.index(phase) <= 2]
    assert sums_of(outcome) == total(inputs, [d for d in inputs if d not in gone])


@pytest.mark.parametrize("cipher", list(MaskCipher))
@pytest.mark.parametrize("lane_bits", [8, 12, 21, 31, 32])
@pytest.mark.parametrize("length", [1, 2, 7, 1000])
def test_every_lane_width_and_length_sums_exactly(cipher, lane_bits, length):
    largest = ((1 << (lane_bits - 1)) - 1) // 4
    vectors = (Vector(name="a", length=length, lane_bits=lane_bits, largest=largest),)
    asked = choose(roster_size=4, vectors=vectors, corrupt_fraction=0.0, drop_fraction=0.0, cipher=cipher)
    extremes = {i: {"a": np.full(length, largest if i % 2 else -largest)} for i in range(4)}
    assert run_round(context_of(asked), extremes).result.sums["a"].tolist() == [0] * length
    top = {i: {"a": np.full(length, largest)} for i in range(4)}
    assert run_round(context_of(asked), top).result.sums["a"].tolist() == [4 * largest] * length


def test_threads_do_not_change_the_sum(draw_inputs):
    update = Vector(name="update", length=300_000, lane_bits=21, largest=1000)
    asked = choose(roster_size=4, vectors=(update,), corrupt_fraction=0.0, drop_fraction=0.0)
    inputs = draw_inputs(asked)
    outcome = run_round(context_of(asked), inputs, threads=3)
    assert (outcome.result.sums["update"] == sum(one["update"] for one in inputs.values())).all()


def test_too_few_survivors_end_the_round_and_release_nothing(context, draw_inputs, view):
    leaves = dict.fromkeys([100, 101, 102, 103], Phase.MASKED_INPUT)
    outcome = run_round(context, draw_inputs(context.parameters), leaves=leaves, from_device=view.watch)
    assert outcome.result.reason is AbortReason.TOO_FEW_SURVIVORS
    assert not view.released_by


def test_too_few_signers_end_the_round_before_it_is_charged(context, draw_inputs, view):
    leaves = dict.fromkeys([100, 101, 102, 103], Phase.CONSISTENCY_CHECK)
    outcome = run_round(context, draw_inputs(context.parameters), leaves=leaves, from_device=view.watch)
    assert outcome.result.reason is AbortReason.TOO_FEW_SHARES
    assert outcome.server.phase is Phase.ABORTED
    assert not view.released_by


def test_nothing_is_asked_for_before_the_charge(context, draw_inputs):
    inputs = draw_inputs(context.parameters)
    authority = DeviceAuthority(bytes(32))
    server = Server(context=context, authority=authority.public)
    clients = make_clients(context, authority, inputs)
    replies = {device: client.advertise_keys() for device, client in clients.items()}
    for _ in range(4):
        with pytest.raises(ValueError, match="cannot be asked for in the phase"):
            server.request_unmasking()
        for device, reply in replies.items():
            assert server.handle(device, reply) is None
        assert server.ready
        sends = server.close_phase()
        replies = {device: clients[device].handle(message) for device, message in sends.items()}
    assert server.phase is Phase.AWAITING_CHARGE
    assert not sends
    with pytest.raises(ValueError, match="the charge comes first"):
        server.close_phase()
    assert server.result() is None
    assert len(server.request_unmasking()) == 9


def test_late_duplicate_and_early_messages_change_nothing(context, draw_inputs, total):
    inputs = draw_inputs(context.parameters)
    seen = {}

    def noisy(device, phase, message):
        seen.setdefault(device, []).append(message)
        if device == 101 and phase is Phase.MASKED_INPUT:
            return seen[101][0]  # an old message instead of the masked input
        return message

    outcome = run_round(context, inputs, from_device=noisy)
    assert outcome.refusals == {Refusal.OUT_OF_PHASE: 1}
    assert sums_of(outcome) == total(inputs, [device for device in inputs if device != 101])
    for message in seen[102]:
        assert outcome.server.handle(102, message) is Refusal.OUT_OF_PHASE
    assert outcome.server.handle(999, seen[102][1]) is Refusal.NOT_ON_ROSTER


def test_duplicates_within_a_phase_are_refused(context, draw_inputs, total):
    inputs = draw_inputs(context.parameters)
    server_of = {}

    def twice(device, phase, message):
        if device == 105 and "server" in server_of:
            server_of["server"].handle(device, message)
        return message

    authority = DeviceAuthority(bytes(32))
    server = Server(context=context, authority=authority.public)
    clients = make_clients(context, authority, inputs)
    replies = {device: client.advertise_keys() for device, client in clients.items()}
    while server.result() is None:
        for device, reply in replies.items():
            server.handle(device, reply)
            if server.phase is not Phase.ADVERTISE_KEYS or not server.ready:
                assert server.handle(device, reply) is Refusal.DUPLICATE
        sends = server.close_phase()
        if server.phase is Phase.AWAITING_CHARGE:
            sends = server.request_unmasking()
        replies = {device: clients[device].handle(message) for device, message in sends.items()}
    assert {name: values.tolist() for name, values in server.result().sums.items()} == total(inputs, inputs)


def test_resumed_upload_sends_the_same_bytes(context, draw_inputs):
    inputs = draw_inputs(context.parameters)

    def resumed(device, phase, message):
        again = (
            clients[device].handle(received[device]) if device in received and not isinstance(message, Unmasking) else message
        )
        if isinstance(message, MaskedInput):
            assert again.words.tobytes() == message.words.tobytes()
        else:
            assert again == message
        return again

    received, clients = {}, {}

    def remember(device, phase, message):
        received[device] = message
        return message

    authority = DeviceAuthority(bytes(32))
    clients.update(make_clients(context, authority, inputs))
    server = Server(context=context, authority=authority.public)
    replies = {device: client.advertise_keys() for device, client in clients.items()}
    while server.result() is None:
        for device, reply in replies.items():
            assert server.handle(device, resumed(device, server.phase, reply)) is None
        sends = server.close_phase()
        if server.phase is Phase.AWAITING_CHARGE:
            sends = server.request_unmasking()
        replies = {d: clients[d].handle(remember(d, server.phase, message)) for d, message in sends.items()}
    assert isinstance(server.result(), Result)


def test_restarted_device_leaves_the_round(context, draw_inputs):
    inputs = draw_inputs(context.parameters)
    authority = DeviceAuthority(bytes(32))
    server = Server(context=context, authority=authority.public)
    clients = make_clients(context, authority, inputs)
    for device, client in clients.items():
        server.handle(device, client.advertise_keys())
    rosters = server.close_phase()
    restarted = make_clients(context, authority, {103: inputs[103]})[103]
    assert server.handle(103, restarted.advertise_keys()) is Refusal.OUT_OF_PHASE
    assert restarted.handle(rosters[103]).reason is AbortReason.OWN_KEY_MISSING


def test_restarted_server_gets_nothing_out_of_devices_of_the_old_round(context, draw_inputs):
    inputs = draw_inputs(context.parameters)
    authority = DeviceAuthority(bytes(32))
    old, new = (Server(context=context, authority=authority.public) for _ in range(2))
    clients = make_clients(context, authority, inputs)
    for device, client in clients.items():
        old.handle(device, client.advertise_keys())
    shares = {device: clients[device].handle(roster) for device, roster in old.close_phase().items()}
    for device, message in shares.items():
        assert new.handle(device, message) is Refusal.OUT_OF_PHASE
    fresh = make_clients(context, authority, inputs)
    for device, client in fresh.items():
        new.handle(device, client.advertise_keys())
    for device, roster in new.close_phase().items():
        assert isinstance(clients[device].handle(roster), Abort)


def test_messages_of_another_round_are_refused_on_both_sides(context, parameters, draw_inputs):
    inputs, recorded = draw_inputs(parameters), {}

    def record(device, phase, message):
        recorded[phase, device] = message
        return message

    run_round(context, inputs, from_device=record, from_server=lambda d, p, m: record((d, "to"), p, m))

    def replay(device, phase, message):
        return recorded[phase, device] if device == 104 else message

    second = run_round(context_of(parameters, "round-2"), inputs, from_device=replay)
    assert second.refusals[Refusal.UNCERTIFIED] == 1  # another authority; below, the same one
    assert 104 not in second.result.survivors

    def misdirect(device, phase, message):
        return recorded[phase, (device, "to")] if device == 104 and phase is Phase.MASKED_INPUT else message

    third = run_round(context_of(parameters, "round-3"), inputs, from_server=misdirect)
    assert third.aborts[104].reason is AbortReason.WRONG_CONTEXT


def test_advertisement_of_another_round_is_refused(context, parameters):
    authority = DeviceAuthority(bytes(32))
    client = make_clients(context_of(parameters, "round-0"), authority, {1: {}})[1]
    server = Server(context=context, authority=authority.public)
    assert server.handle(1, client.advertise_keys()) is Refusal.BAD_SIGNATURE


def test_roster_takes_the_first_n(context, draw_inputs):
    outcome = run_round(context, draw_inputs(context.parameters, count=12))
    assert outcome.refusals[Refusal.ROSTER_FULL] == 3
    assert sorted(outcome.result.survivors) == list(range(100, 109))


def test_device_that_left_frees_its_place_before_the_roster_is_fixed(context, draw_inputs):
    authority = DeviceAuthority(bytes(32))
    server = Server(context=context, authority=authority.public)
    clients = make_clients(context, authority, draw_inputs(context.parameters, count=10))
    sent = {device: client.advertise_keys() for device, client in clients.items()}
    for device in range(100, 109):
        assert server.handle(device, sent[device]) is None
    assert server.ready
    server.drop(104)
    assert not server.ready
    assert server.handle(104, sent[104]) is Refusal.NOT_ON_ROSTER
    assert server.handle(109, sent[109]) is None


def test_too_few_devices_end_the_round(context, draw_inputs):
    outcome = run_round(context, draw_inputs(context.parameters, count=6))
    assert outcome.result == Abort(AbortReason.TOO_FEW_DEVICES, "6 of 7")


def test_input_outside_the_declaration_never_leaves_the_device(context, draw_inputs):
    for name, wrong in [
        ("update", np.full(11, 501)),
        ("update", np.full(10, 1)),
        ("metrics", np.full(3, 0.5)),
        ("update", np.full(11, -(2**63))),
    ]:
        inputs = draw_inputs(context.parameters)
        inputs[104] = {**inputs[104], name: wrong}
        outcome = run_round(context, inputs)
        assert outcome.aborts[104].reason is AbortReason.WRONG_INPUT
        assert 104 not in outcome.result.survivors
    inputs[104] = {"update": inputs[103]["update"]}
    assert run_round(context, inputs).aborts[104].reason is AbortReason.WRONG_INPUT


def test_callers_mistakes_are_errors(context, draw_inputs):
    authority = DeviceAuthority(bytes(32))
    client = make_clients(context, authority, {1: {}})[1]
    with pytest.raises(ValueError, match="advertise_keys comes first"):
        client.handle(None)
    outcome = run_round(context, draw_inputs(context.parameters))
    with pytest.raises(ValueError, match="the round is completed"):
        outcome.server.close_phase()
    with pytest.raises(ValueError, match="threads"):
        Server(context=context, authority=authority.public, threads=0)


def test_modular_vectors_may_exceed_the_lane():
    wide = Vector(name="w", length=8, lane_bits=8, kind=VectorKind.MODULAR, largest=1000)
    asked = choose(roster_size=4, vectors=(wide,), corrupt_fraction=0.0, drop_fraction=0.0)
    inputs = {i: {"w": np.array([100, 0, 0, 0, 0, 0, 0, 0])} for i in range(4)}
    # 400 = 2 * 256 - 112: the lane comes back as -112, the next one moves by two.
    assert run_round(context_of(asked), inputs).result.sums["w"].tolist() == [-112, 2, 0, 0, 0, 0, 0, 0]


def test_no_secret_is_in_a_repr(context, draw_inputs):
    seen = []
    outcome = run_round(context, draw_inputs(context.parameters), from_device=lambda d, p, m: seen.append(m) or m)
    for client in outcome.clients.values():
        text = repr(client.state)
        assert "seed=" not in text.replace("seed_commitment=", "")
        for name in ("scalar", "held", "cipher_secrets", "mask_secrets", "share=b", "words"):
            assert name not in text
    assert any(isinstance(message, AdvertiseKeys) for message in seen)
    assert all("share=b" not in repr(message) and "words=" not in repr(message) for message in seen)


def make_clients(context: Context, authority: DeviceAuthority, inputs) -> dict[int, Client]:
    from contract.entropy import system_entropy

    clients = {}
    for device, vectors in inputs.items():
        identity = authority.enrol(context.epoch, system_entropy)
        client = Client(
            context=context, authority=authority.public, identity=identity, floors=LOWEST_FLOORS, entropy=system_entropy
        )
        client.set_input(vectors)
        clients[device] = client
    return clients
