"""Messages to protobuf and back. Bytes from outside become a message of the right shape, or None: content is the phases' business."""

from typing import TypeVar

import numpy as np
from google.protobuf.message import DecodeError

from contract.canonical import decimal_of
from protos.tutti.secagg.v1 import secagg_pb2 as pb
from secagg.authority import Certificate
from secagg.context import Context
from secagg.messages import (
    AdvertiseKeys,
    ConsistencyCheck,
    DeviceMessage,
    ForwardedShares,
    MaskedInput,
    NeighbourKeys,
    NeighbourSignature,
    ReleasedShare,
    Roster,
    SealedShares,
    ServerMessage,
    ShareKeys,
    ShareKind,
    SurvivorsAnnouncement,
    Unmasking,
    UnmaskRequest,
    WitnessSignature,
)
from secagg.parameters import MaskCipher, Parameters, Vector, VectorKind
from secagg.reasons import Abort, AbortReason

_Proto = TypeVar("_Proto", pb.DeviceMessage, pb.ServerMessage, pb.Context)
_KINDS = {"self_mask": ShareKind.SELF_MASK, "mask_key": ShareKind.MASK_KEY}


def write_device_message(message: DeviceMessage | Abort) -> bytes:
    """A device's message as bytes."""
    match message:
        case AdvertiseKeys():
            return pb.DeviceMessage(advertise_keys=_advertised(message)).SerializeToString()
        case ShareKeys():
            shares = [_sealed(sealed) for sealed in message.shares]
            dealt = pb.ShareKeys(
                context=message.context,
                seed_commitment=message.seed_commitment,
                shares=shares,
                signature=message.signature,
            )
            return pb.DeviceMessage(share_keys=dealt).SerializeToString()
        case MaskedInput():
            return _write_masked(message)
        case ConsistencyCheck():
            signed = pb.ConsistencyCheck(context=message.context, signature=message.signature)
            return pb.DeviceMessage(consistency_check=signed).SerializeToString()
        case Unmasking():
            released = [_released(share) for share in message.shares]
            sent = pb.Unmasking(context=message.context, shares=released, signature=message.signature)
            return pb.DeviceMessage(unmasking=sent).SerializeToString()
        case Abort():
            return pb.DeviceMessage(abort=_abort(message)).SerializeToString()


def read_device_message(raw: bytes) -> DeviceMessage | Abort | None:
    """What a device sent; None if it is no such message."""
    read = _parse(pb.DeviceMessage(), raw)
    return None if read is None else _read_device(read)


def read_masked_input(raw: bytes | bytearray) -> MaskedInput | None:
    """A device's masked input; None if it is none. Its words are a view of `raw` where they can be: do not write to that meanwhile."""
    found = _masked_in(memoryview(raw))
    if found is None:  # another order of the fields, or no masked input
        message = read_device_message(bytes(raw))
        return message if isinstance(message, MaskedInput) else None
    return found


def opening(number: int, length: int) -> bytes:
    """What stands before `length` bytes of the field `number`: its tag, and the length as a varint.

    >>> opening(2, 300).hex()
    '12ac02'
    """
    found = [number << 3 | 2]
    while length > 0x7F:
        found.append(length & 0x7F | 0x80)
        length >>= 7
    return bytes([*found, length])


def write_server_message(message: ServerMessage | Abort) -> bytes:
    """A server's message as bytes."""
    match message:
        case Roster():
            neighbours = [pb.NeighbourKeys(slot=peer.slot, keys=_advertised(peer.keys)) for peer in message.neighbours]
            roster = pb.Roster(identities=message.identities, key_digests=message.key_digests, neighbours=neighbours)
            return pb.ServerMessage(roster=roster).SerializeToString()
        case ForwardedShares():
            shares = [_sealed(sealed) for sealed in message.shares]
            forwarded = pb.ForwardedShares(
                context=message.context, sharers=message.sharers, shares=shares, signatures=message.signatures
            )
            return pb.ServerMessage(forwarded_shares=forwarded).SerializeToString()
        case SurvivorsAnnouncement():
            announced = pb.SurvivorsAnnouncement(context=message.context, survivors=message.survivors)
            return pb.ServerMessage(survivors_announcement=announced).SerializeToString()
        case UnmaskRequest():
            signatures = [pb.NeighbourSignature(slot=signed.slot, signature=signed.signature) for signed in message.signatures]
            witnesses = [
                pb.WitnessSignature(slot=one.slot, certificate=_certificate(one.certificate), signature=one.signature)
                for one in message.witnesses
            ]
            request = pb.UnmaskRequest(context=message.context, signatures=signatures, witnesses=witnesses)
            return pb.ServerMessage(unmask_request=request).SerializeToString()
        case Abort():
            return pb.ServerMessage(abort=_abort(message)).SerializeToString()


def read_server_message(raw: bytes) -> ServerMessage | Abort | None:
    """What a server sent; None if it is no such message."""
    read = _parse(pb.ServerMessage(), raw)
    return None if read is None else _read_server(read)


def write_context(context: Context) -> bytes:
    """A context as bytes."""
    asked = context.parameters
    parameters = pb.Parameters(
        roster_size=asked.roster_size,
        minimum_roster=asked.minimum_roster,
        minimum_survivors=asked.minimum_survivors,
        degree=asked.degree,
        threshold=asked.threshold,
        corrupt_fraction=decimal_of(asked.corrupt_fraction),
        drop_fraction=decimal_of(asked.drop_fraction),
        cipher=asked.cipher.value,
        vectors=[
            pb.Vector(name=v.name, length=v.length, lane_bits=v.lane_bits, kind=v.kind.value, largest=v.largest)
            for v in asked.vectors
        ],
    )
    return pb.Context(
        round_id=context.round_id,
        model_digest=context.model_digest,
        config_digest=context.config_digest,
        ledger_checkpoint=context.ledger_checkpoint,
        epoch=context.epoch,
        parameters=parameters,
    ).SerializeToString()


def read_context(raw: bytes) -> Context | None:
    """The context behind the bytes; None if it is none, or its parameters contradict themselves."""
    read = _parse(pb.Context(), raw)
    if read is None:
        return None
    asked = read.parameters
    try:
        parameters = Parameters(
            roster_size=asked.roster_size,
            minimum_roster=asked.minimum_roster,
            minimum_survivors=asked.minimum_survivors,
            degree=asked.degree,
            threshold=asked.threshold,
            corrupt_fraction=float(asked.corrupt_fraction),
            drop_fraction=float(asked.drop_fraction),
            cipher=MaskCipher(asked.cipher),
            vectors=tuple(
                Vector(name=v.name, length=v.length, lane_bits=v.lane_bits, kind=VectorKind(v.kind), largest=v.largest)
                for v in asked.vectors
            ),
        )
        return Context(
            round_id=read.round_id,
            model_digest=read.model_digest,
            config_digest=read.config_digest,
            ledger_checkpoint=read.ledger_checkpoint,
            epoch=read.epoch,
            parameters=parameters,
        )
    except ValueError:
        return None


def _write_masked(message: MaskedInput) -> bytes:
    """What protobuf would write, with one copy of the words instead of three."""
    words = np.ascontiguousarray(message.words, "<u8").view(np.uint8).data
    head = (opening(1, len(message.context)) + message.context if message.context else b"") + (
        opening(2, len(words)) if len(words) else b""
    )
    return b"".join([opening(3, len(head) + len(words)), head, words])


def _masked_in(raw: memoryview) -> MaskedInput | None:
    """The masked input behind bytes in the order of `_write_masked`, else None."""
    whole = _opened(raw, 3, 0)
    context = None if whole is None else _opened(raw, 1, whole[0])
    words = None if context is None else _opened(raw, 2, context[1])
    if whole is None or context is None or words is None or not whole[1] == words[1] == len(raw) or (words[1] - words[0]) % 8:
        return None
    lanes = np.frombuffer(raw[words[0] : words[1]], "<u8").astype(np.uint64, copy=False)
    return MaskedInput(context=bytes(raw[context[0] : context[1]]), words=lanes)


def _opened(raw: memoryview, number: int, start: int) -> tuple[int, int] | None:
    """From where to where the length-delimited field goes that begins at `start`; None if it has another number, or is cut off."""
    if start >= len(raw) or raw[start] != number << 3 | 2:
        return None
    length = 0
    for place, octet in enumerate(raw[start + 1 : start + 6]):
        length |= (octet & 0x7F) << 7 * place
        if octet < 0x80:
            first = start + 2 + place
            return (first, first + length) if first + length <= len(raw) else None
    return None


def _parse(into: _Proto, raw: bytes) -> _Proto | None:
    try:
        into.ParseFromString(raw)
    except DecodeError:
        return None
    return into


def _read_device(read: pb.DeviceMessage) -> DeviceMessage | Abort | None:
    match read.WhichOneof("message"):
        case "advertise_keys":
            return _read_advertised(read.advertise_keys)
        case "share_keys":
            dealt = read.share_keys
            shares = tuple(_read_sealed(sealed) for sealed in dealt.shares)
            return ShareKeys(
                context=dealt.context, seed_commitment=dealt.seed_commitment, shares=shares, signature=dealt.signature
            )
        case "masked_input":
            raw = read.masked_input.words
            if len(raw) % 8:
                return None
            return MaskedInput(
                context=read.masked_input.context, words=np.frombuffer(raw, dtype="<u8").astype(np.uint64, copy=False)
            )
        case "consistency_check":
            return ConsistencyCheck(context=read.consistency_check.context, signature=read.consistency_check.signature)
        case "unmasking":
            released = [_read_released(share) for share in read.unmasking.shares]
            kept = tuple(share for share in released if share is not None)
            whole = len(kept) == len(released)
            return Unmasking(context=read.unmasking.context, shares=kept, signature=read.unmasking.signature) if whole else None
        case "abort":
            return _read_abort(read.abort)
        case None:
            return None


def _read_server(read: pb.ServerMessage) -> ServerMessage | Abort | None:
    match read.WhichOneof("message"):
        case "roster":
            neighbours = tuple(
                NeighbourKeys(slot=peer.slot, keys=_read_advertised(peer.keys)) for peer in read.roster.neighbours
            )
            return Roster(identities=read.roster.identities, key_digests=read.roster.key_digests, neighbours=neighbours)
        case "forwarded_shares":
            forwarded = read.forwarded_shares
            shares = tuple(_read_sealed(sealed) for sealed in forwarded.shares)
            return ForwardedShares(
                context=forwarded.context, sharers=forwarded.sharers, shares=shares, signatures=tuple(forwarded.signatures)
            )
        case "survivors_announcement":
            announced = read.survivors_announcement
            return SurvivorsAnnouncement(context=announced.context, survivors=announced.survivors)
        case "unmask_request":
            signed = read.unmask_request.signatures
            signatures = tuple(NeighbourSignature(slot=one.slot, signature=one.signature) for one in signed)
            witnesses = tuple(
                WitnessSignature(slot=one.slot, certificate=_read_certificate(one.certificate), signature=one.signature)
                for one in read.unmask_request.witnesses
            )
            return UnmaskRequest(context=read.unmask_request.context, signatures=signatures, witnesses=witnesses)
        case "abort":
            return _read_abort(read.abort)
        case None:
            return None


def _advertised(message: AdvertiseKeys) -> pb.AdvertiseKeys:
    return pb.AdvertiseKeys(
        certificate=_certificate(message.certificate),
        cipher_key=message.cipher_key,
        mask_key=message.mask_key,
        signature=message.signature,
    )


def _read_advertised(read: pb.AdvertiseKeys) -> AdvertiseKeys:
    certificate = _read_certificate(read.certificate)
    return AdvertiseKeys(certificate=certificate, cipher_key=read.cipher_key, mask_key=read.mask_key, signature=read.signature)


def _certificate(certificate: Certificate) -> pb.Certificate:
    return pb.Certificate(identity=certificate.identity, epoch=certificate.epoch, signature=certificate.signature)


def _read_certificate(read: pb.Certificate) -> Certificate:
    return Certificate(read.identity, read.epoch, read.signature)


def _sealed(sealed: SealedShares) -> pb.SealedShares:
    return pb.SealedShares(
        sender=sealed.sender,
        recipient=sealed.recipient,
        ciphertext=sealed.ciphertext,
        self_mask_commitment=sealed.self_mask_commitment,
        mask_key_commitment=sealed.mask_key_commitment,
    )


def _read_sealed(read: pb.SealedShares) -> SealedShares:
    return SealedShares(
        sender=read.sender,
        recipient=read.recipient,
        ciphertext=read.ciphertext,
        self_mask_commitment=read.self_mask_commitment,
        mask_key_commitment=read.mask_key_commitment,
    )


def _released(share: ReleasedShare) -> pb.ReleasedShare:
    if share.kind is ShareKind.SELF_MASK:
        return pb.ReleasedShare(neighbour=share.neighbour, self_mask=share.share)
    return pb.ReleasedShare(neighbour=share.neighbour, mask_key=share.share)


def _read_released(read: pb.ReleasedShare) -> ReleasedShare | None:
    which = read.WhichOneof("share")
    if which is None:
        return None
    share = read.self_mask if which == "self_mask" else read.mask_key
    return ReleasedShare(neighbour=read.neighbour, kind=_KINDS[which], share=share)


def _abort(abort: Abort) -> pb.Abort:
    return pb.Abort(reason=abort.reason.name, detail=abort.detail, culprits=abort.culprits)


def _read_abort(read: pb.Abort) -> Abort | None:
    if read.reason not in AbortReason.__members__:
        return None
    return Abort(AbortReason[read.reason], read.detail, tuple(read.culprits))
