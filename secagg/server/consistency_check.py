"""Phase 3, ConsistencyCheck: the server collects signatures over the survivors. What follows needs a committed charge first."""

from dataclasses import dataclass, field

from secagg import authority, statements
from secagg.messages import ConsistencyCheck, NeighbourSignature, UnmaskRequest
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

    def close(self) -> dict[int, UnmaskRequest] | Abort:
        """The requests to those who signed and have the threshold of signatures; an abort if they could not uncover the sum."""
        requests = {slot: request for slot in sorted(self.signatures) if (request := self._request(slot)) is not None}
        membership = self.membership
        for slot in sorted(self.sharing):
            holders = sum(neighbour in requests for neighbour in membership.neighbours[slot])
            needed = slot in self.surviving or any(peer in self.surviving for peer in membership.neighbours[slot])
            if needed and holders < membership.threshold:
                return Abort(AbortReason.TOO_FEW_SHARES, f"{holders} of {membership.threshold} holders signed", (slot,))
        return {membership.devices[slot]: request for slot, request in requests.items()}

    def _request(self, slot: int) -> UnmaskRequest | None:
        signers = [peer for peer in self.membership.neighbours[slot] if peer in self.signatures][: self.membership.threshold]
        if len(signers) < self.membership.threshold:
            return None
        signatures = tuple(NeighbourSignature(slot=peer, signature=self.signatures[peer]) for peer in signers)
        return UnmaskRequest(context=self.membership.ctx1, signatures=signatures)
