"""Phase 4, Unmasking: for each neighbour one of two shares, once, and only if enough neighbours signed the same survivors."""

from dataclasses import dataclass

from secagg import authority, bitmaps, statements
from secagg.client.consistency_check import Checked
from secagg.client.share_keys import Member
from secagg.messages import ReleasedShare, ShareKind, Unmasking, UnmaskRequest, WitnessSignature
from secagg.reasons import Abort, AbortReason


@dataclass(frozen=True, slots=True, kw_only=True)
class Released:
    """The device has released its shares; it keeps none of them."""

    member: Member
    sharers: bytes
    survivors: bytes
    sent: Unmasking


def unmasking(state: Checked, request: UnmaskRequest) -> Released | Abort:
    """Releases the shares that the signed survivors call for.

    Guarantee:
      With 2t > k + t1 no server that at most t1 corrupt neighbours of a device help ever holds t shares of both secrets of that device:
      each honest neighbour releases one of the two, and 2t shares would need k + t1 at most. And no two devices of one roster
      release for different lists of survivors: t signatures of the same k witnesses (on the complete graph, of all the others) are
      behind each release, and honest ones sign once. What follows is proved in `secagg.division`.
    """
    member = state.member
    survivors = bitmaps.decode(state.survivors, member.size)
    if survivors is None:
        return Abort(AbortReason.MALFORMED)
    signers = [signature.slot for signature in request.signatures]
    if len(set(signers)) != len(signers) or not all(slot in member.neighbours and survivors[slot] for slot in signers):
        return Abort(AbortReason.MALFORMED, "signatures must be of different surviving neighbours")
    if len(signers) < member.threshold:
        return Abort(AbortReason.TOO_FEW_SIGNATURES, f"{len(signers)} of {member.threshold}")
    statement = statements.consistency(member.ctx1, state.sharers, state.survivors)
    for signed in request.signatures[: member.threshold]:
        if not authority.verifies(member.neighbours[signed.slot].certificate.identity, signed.signature, statement):
            return Abort(AbortReason.BAD_SIGNATURE, f"slot {signed.slot}")
    fault = _witness_fault(member, request, statement)
    if fault is not None:
        return fault
    return _release(state, [bool(alive) for alive in survivors])


def _witness_fault(member: Member, request: UnmaskRequest, statement: bytes) -> Abort | None:
    """Why the witnesses do not settle the list, or None. A device that is a witness itself may be shown its own signature."""
    if member.graph.topology.complete:
        return None
    slots = [witness.slot for witness in request.witnesses]
    if len(set(slots)) != len(slots) or not all(slot in member.witnesses for slot in slots):
        return Abort(AbortReason.MALFORMED, "signatures must be of different witnesses")
    if len(slots) < member.threshold:
        return Abort(AbortReason.TOO_FEW_SIGNATURES, f"{len(slots)} of {member.threshold} witnesses")
    for witness in request.witnesses[: member.threshold]:
        if not _is_certified(member, witness):
            return Abort(AbortReason.UNCERTIFIED, f"slot {witness.slot}")
        if not authority.verifies(member.witnesses[witness.slot], witness.signature, statement):
            return Abort(AbortReason.BAD_SIGNATURE, f"slot {witness.slot}")
    return None


def _is_certified(member: Member, witness: WitnessSignature) -> bool:
    if witness.slot in member.neighbours:  # certified, or this device would not have joined
        return True
    device, certificate = member.device, witness.certificate
    if certificate.identity != member.witnesses[witness.slot]:
        return False
    return authority.is_certified(certificate, device.authority, device.context.epoch)


def _release(state: Checked, survivors: list[bool]) -> Released:
    member = state.member
    kinds = {slot: ShareKind.SELF_MASK if survivors[slot] else ShareKind.MASK_KEY for slot in state.held}
    shares = tuple(
        ReleasedShare(neighbour=slot, kind=kinds[slot], share=state.held[slot][kinds[slot]]) for slot in sorted(kinds)
    )
    signature = member.device.identity.sign(statements.release(member.ctx1, state.sharers, state.survivors, shares))
    sent = Unmasking(context=member.ctx1, shares=shares, signature=signature)
    return Released(member=member, sharers=state.sharers, survivors=state.survivors, sent=sent)
