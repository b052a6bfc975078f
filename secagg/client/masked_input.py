"""Phase 2, MaskedInput: the device opens its neighbours' shares and masks its vectors, once."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from secagg import authority, bitmaps, derivation, packing, sealing, statements
from secagg.client.share_keys import Member, Shared
from secagg.messages import ForwardedShares, MaskedInput, ShareKind
from secagg.reasons import Abort, AbortReason


@dataclass(frozen=True, slots=True, kw_only=True)
class Masked:
    """The device has sent its masked input and holds its neighbours' shares.

    Args:
      sharers: A1 as announced, a bitmap.
      held: shares of the neighbours that shared, both kinds; a neighbour whose shares could not be used is missing.
    """

    member: Member
    sharers: bytes
    held: dict[int, dict[ShareKind, bytes]] = field(repr=False)
    sent: MaskedInput


def masked_input(state: Shared, forwarded: ForwardedShares, inputs: Mapping[str, NDArray[np.int64]]) -> Masked | Abort:
    """Masks `inputs` with the neighbours that are among the sharers."""
    member = state.member
    sharers = bitmaps.decode(forwarded.sharers, member.size)
    if sharers is None:
        return Abort(AbortReason.MALFORMED, "sharers are no bitmap of the roster")
    present = [slot for slot in member.neighbours if sharers[slot]]
    if not sharers[member.slot] or [sealed.sender for sealed in forwarded.shares] != present:
        return Abort(AbortReason.WRONG_SHARERS)
    if any(sealed.recipient != member.slot for sealed in forwarded.shares):
        return Abort(AbortReason.WRONG_SHARERS, "shares for another device")
    if int(sharers.sum()) < member.device.context.parameters.minimum_survivors or len(present) < member.threshold:
        return Abort(AbortReason.TOO_FEW_SHARERS, f"{len(present)} neighbours of {len(member.neighbours)}")
    if not member.graph.holds_together(sharers):
        return Abort(AbortReason.TOO_FEW_SHARERS, "too few in one part of the graph")
    strangers = _strangers(member, forwarded)
    if strangers:
        return Abort(AbortReason.BAD_SIGNATURE, "sharers that were not shown this roster", strangers)
    held = _open(state, forwarded)
    if len(held) < member.threshold:
        return Abort(AbortReason.UNUSABLE_SHARES, f"{len(held)} of {len(present)} could be opened")
    return _mask(state, forwarded.sharers, present, held, inputs)


def _strangers(member: Member, forwarded: ForwardedShares) -> tuple[int, ...]:
    """Neighbours of whom it is not shown that they dealt on this very roster: a ring's devices sign that (`secagg.division`, 3)."""
    senders = [sealed.sender for sealed in forwarded.shares]
    if member.graph.topology.complete:
        return ()
    if len(forwarded.signatures) != len(senders):
        return tuple(senders)
    return tuple(
        slot
        for slot, signature in zip(senders, forwarded.signatures, strict=True)
        if not authority.verifies(
            member.neighbours[slot].certificate.identity, signature, statements.dealing(member.ctx1, slot)
        )
    )


def _open(state: Shared, forwarded: ForwardedShares) -> dict[int, dict[ShareKind, bytes]]:
    held: dict[int, dict[ShareKind, bytes]] = {}
    for sealed in forwarded.shares:
        opened = sealing.open_sealed(state.cipher_secrets[sealed.sender], state.member.ctx1, sealed)
        if opened is not None:
            held[sealed.sender] = {ShareKind.SELF_MASK: opened[0], ShareKind.MASK_KEY: opened[1]}
    return held


def _mask(
    state: Shared,
    sharers: bytes,
    present: list[int],
    held: dict[int, dict[ShareKind, bytes]],
    inputs: Mapping[str, NDArray[np.int64]],
) -> Masked | Abort:
    member, parameters = state.member, state.member.device.context.parameters
    fault = packing.fault(parameters.vectors, inputs)
    if fault is not None:
        return Abort(AbortReason.WRONG_INPUT, fault)
    words = packing.pack(parameters.vectors, inputs)
    secrets = [(slot, state.mask_secrets[slot]) for slot in present]
    derivation.mask(words, parameters, state.seed, secrets, member.ctx1, member.slot)
    words.flags.writeable = False
    return Masked(member=member, sharers=sharers, held=held, sent=MaskedInput(context=member.ctx1, words=words))
