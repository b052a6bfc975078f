"""Phase 3, ConsistencyCheck: the server collects signatures over the survivors. What follows needs a committed charge first."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field

from secagg import authority, statements
from secagg.messages import ConsistencyCheck, NeighbourSignature, UnmaskRequest, WitnessSignature
from secagg.reasons import Abort, AbortReason, Refusal
from secagg.server.advertise_keys import Membership


@dataclass(slots=True, kw_only=True)
class CheckingConsistency:
    """Collects consistency signatures, by slot.

    Args:
      sharers, survivors: A1 and A2, bitmaps.
      sharing, surviving: the same as sets of slots.
    """

    membership: Membership
    sharers: bytes
    survivors: bytes
    sharing: frozenset[int]
    surviving: frozenset[int]
    signatures: dict[int, bytes] = field(default_factory=dict)

    def receive(self, slot: int, message: ConsistencyCheck) -> Refusal | None:
        """Takes one signature, or says why not."""
        if slot in self.signatures:
            return Refusal.DUPLICATE
        if slot not in self.surviving:
            return Refusal.NOT_ON_ROSTER
        if message.context != self.membership.ctx1:
            return Refusal.WRONG_CONTEXT
        statement = statements.consistency(self.membership.ctx1, self.sharers, self.survivors)
        if not authority.verifies(self.membership.keys[slot].certificate.identity, message.signature, statement):
            return Refusal.BAD_SIGNATURE
        self.signatures[slot] = message.signature
        return None

    @property
    def sufficient(self) -> bool:
        """Whether enough have signed for every secret that is needed, and for those who may leave in the one phase that is left."""
        membership, threshold = self.membership, self.membership.threshold
        if not membership.graph.topology.complete and len(self._witnesses()) < threshold:
            return False
        signed = self.signatures.keys()
        asked = {slot for slot in signed if sum(peer in signed for peer in membership.neighbours[slot]) >= threshold}
        spare = math.ceil(membership.context.parameters.drop_fraction * membership.graph.topology.degree / 4)
        return membership.surrounds(self._needed(), asked, spare=spare)

    def close(self) -> dict[int, UnmaskRequest] | Abort:
        """The requests to those who signed and have the threshold of signatures; an abort if they could not uncover the sum."""
        membership, witnesses = self.membership, self._witnesses()
        if not membership.graph.topology.complete and len(witnesses) < membership.threshold:
            return Abort(AbortReason.TOO_FEW_SIGNATURES, f"{len(witnesses)} of {membership.threshold} witnesses")
        requests = {
            slot: request for slot in sorted(self.signatures) if (request := self._request(slot, witnesses)) is not None
        }
        for slot in self._needed():
            holders = sum(neighbour in requests for neighbour in membership.neighbours[slot])
            if holders < membership.threshold:
                return Abort(AbortReason.TOO_FEW_SHARES, f"{holders} of {membership.threshold} holders signed", (slot,))
        return {membership.devices[slot]: request for slot, request in requests.items()}

    def _needed(self) -> Iterator[int]:
        """Survivors, and the dropped whose masks are in a survivor's input."""
        for slot in sorted(self.sharing):
            if slot in self.surviving or any(peer in self.surviving for peer in self.membership.neighbours[slot]):
                yield slot

    def _witnesses(self) -> tuple[WitnessSignature, ...]:
        """The same for everybody; none on the complete graph."""
        signed = [slot for slot in self.membership.graph.witnesses if slot in self.signatures][: self.membership.threshold]
        return tuple(
            WitnessSignature(slot=slot, certificate=self.membership.keys[slot].certificate, signature=self.signatures[slot])
            for slot in signed
        )

    def _request(self, slot: int, witnesses: tuple[WitnessSignature, ...]) -> UnmaskRequest | None:
        signers = [peer for peer in self.membership.neighbours[slot] if peer in self.signatures][: self.membership.threshold]
        if len(signers) < self.membership.threshold:
            return None
        signatures = tuple(NeighbourSignature(slot=peer, signature=self.signatures[peer]) for peer in signers)
        return UnmaskRequest(context=self.membership.ctx1, signatures=signatures, witnesses=witnesses)
