"""Messages survive the wire, and bytes from outside are a message or nothing."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protos.tutti.secagg.v1 import secagg_pb2 as pb
from secagg import Abort, AbortReason, MaskCipher, Phase, Result, Vector, choose, wire
from secagg.messages import MaskedInput
from secagg.testing import context_of, run_round
from secagg.transcript import audit


def over_the_wire_device(device, phase, message):
    read = wire.read_device_message(wire.write_device_message(message))
    if isinstance(message, MaskedInput):
        assert read.context == message.context
        assert (read.words == message.words).all()
        assert read.words.dtype == np.uint64
    else:
        assert read == message
    return read


def over_the_wire_server(device, phase, message):
    read = wire.read_server_message(wire.write_server_message(message))
    assert read == message
    return read


def test_round_over_the_wire_is_the_same_round(context, draw_inputs, total):
    inputs = draw_inputs(context.parameters)
    outcome = run_round(
        context,
        inputs,
        leaves={101: Phase.MASKED_INPUT},
        from_device=over_the_wire_device,
        from_server=over_the_wire_server,
    )
    assert isinstance(outcome.result, Result)
    honest = [device for device in inputs if device != 101]
    assert {name: values.tolist() for name, values in outcome.result.sums.items()} == total(inputs, honest)


def test_ring_over_the_wire_keeps_signatures_and_witnesses():
    asked = choose(
        roster_size=70, vectors=(Vector(name="u", length=2, lane_bits=20, largest=9),), corrupt_fraction=0.0, drop_fraction=0.05
    )
    assert asked.degree < 69
    inputs = {device: {"u": np.array([device % 9, 1])} for device in range(70)}
    outcome = run_round(context_of(asked), inputs, from_device=over_the_wire_device, from_server=over_the_wire_server)
    assert isinstance(outcome.result, Result)
    assert outcome.result.sums["u"].tolist() == [sum(d % 9 for d in range(70)), 70]
    assert audit(outcome.transcript, outcome.authority) == ()


@pytest.mark.parametrize("cipher", list(MaskCipher))
def test_context_keeps_its_digest_over_the_wire(cipher, parameters):
    from dataclasses import replace

    context = context_of(replace(parameters, cipher=cipher, drop_fraction=0.1 + 0.2))
    read = wire.read_context(wire.write_context(context))
    assert read == context
    assert read.digest() == context.digest()


def test_abort_crosses_in_both_directions():
    abort = Abort(AbortReason.TOO_FEW_SURVIVORS, "3 of 7", (1, 2))
    assert wire.read_device_message(wire.write_device_message(abort)) == abort
    assert wire.read_server_message(wire.write_server_message(abort)) == abort


def test_masked_input_takes_eight_bytes_a_word(context):
    words = np.arange(1000, dtype=np.uint64)
    assert len(wire.write_device_message(MaskedInput(context=bytes(32), words=words))) < 8 * 1000 + 64


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\xff\xff\xff",
        pb.DeviceMessage(masked_input=pb.MaskedInput(words=b"1234567")).SerializeToString(),
        pb.DeviceMessage(unmasking=pb.Unmasking(shares=[pb.ReleasedShare(neighbour=1)])).SerializeToString(),
        pb.DeviceMessage(abort=pb.Abort(reason="no such reason")).SerializeToString(),
    ],
)
def test_what_is_no_message_is_none(raw):
    assert wire.read_device_message(raw) is None


def test_what_is_no_context_is_none(context):
    assert wire.read_context(b"\xff") is None
    for change in (
        {"roster_size": 1},
        {"cipher": "rot13"},
        {"drop_fraction": "much"},
        {"corrupt_fraction": "nan"},
        {"threshold": 0},
    ):
        read = pb.Context.FromString(wire.write_context(context))
        for name, value in change.items():
            setattr(read.parameters, name, value)
        assert wire.read_context(read.SerializeToString()) is None


@settings(max_examples=200, deadline=None)
@given(raw=st.binary(max_size=200))
def test_noise_never_raises(raw):
    wire.read_device_message(raw)
    wire.read_server_message(raw)
    wire.read_context(raw)


def test_both_shares_of_one_neighbour_cannot_be_encoded():
    share = pb.ReleasedShare(neighbour=1, self_mask=b"a" * 32)
    share.mask_key = b"b" * 32
    assert share.WhichOneof("share") == "mask_key"
    assert not share.self_mask


def written_by_protobuf(message: MaskedInput) -> bytes:
    words = message.words.astype("<u8").tobytes()
    return pb.DeviceMessage(masked_input=pb.MaskedInput(context=message.context, words=words)).SerializeToString()


def same(one, other) -> bool:
    if one is None or other is None:
        return one is other
    return one.context == other.context and one.words.dtype == other.words.dtype and one.words.tolist() == other.words.tolist()


@given(context=st.binary(max_size=40), words=st.lists(st.integers(0, 2**64 - 1), max_size=40))
@settings(max_examples=60, deadline=None)
def test_a_masked_input_has_the_bytes_that_protobuf_writes(context, words):
    message = MaskedInput(context=context, words=np.array(words, np.uint64))
    raw = wire.write_device_message(message)
    assert raw == written_by_protobuf(message)
    assert same(wire.read_masked_input(raw), wire.read_device_message(raw))
    assert same(wire.read_masked_input(bytearray(raw)), message)


@given(st.data())
@settings(max_examples=200, deadline=None)
def test_a_masked_input_is_read_as_protobuf_reads_it_whatever_was_done_to_its_bytes(data):
    raw = bytearray(written_by_protobuf(MaskedInput(context=bytes(32), words=np.arange(20, dtype=np.uint64))))
    at = data.draw(st.integers(0, 45))
    match data.draw(st.sampled_from(["change", "cut", "insert", "append"])):
        case "change":
            raw[at] = data.draw(st.integers(0, 255))
        case "cut":
            del raw[-at:]
        case "insert":
            raw[at:at] = data.draw(st.binary(min_size=1, max_size=9))
        case _:
            raw += data.draw(st.binary(min_size=1, max_size=9))
    expected = wire.read_device_message(bytes(raw))
    assert same(wire.read_masked_input(raw), expected if isinstance(expected, MaskedInput) else None)


def test_fields_in_another_order_are_read_as_well():
    words = np.arange(3, dtype=np.uint64)
    inner = b"\x12\x18" + words.tobytes() + b"\x0a\x01c"
    assert same(wire.read_masked_input(b"\x1a" + bytes([len(inner)]) + inner), MaskedInput(context=b"c", words=words))
    large = MaskedInput(context=bytes(32), words=np.arange(40_000, dtype=np.uint64))
    assert same(wire.read_masked_input(written_by_protobuf(large)), large)
