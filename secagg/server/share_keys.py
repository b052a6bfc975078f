"""Phase 1, ShareKeys: the server collects sealed shares and hands each to its addressee."""

from dataclasses import dataclass, field

from secagg import authority, bitmaps, statements
from secagg.hashing import DIGEST_BYTES
from secagg.messages import ForwardedShares, SealedShares, ShareKeys
from secagg.reasons import Abort, AbortReason, Refusal
from secagg.sealing import CIPHERTEXT_BYTES
from secagg.server.advertise_keys import Membership


@dataclass(slots=True, kw_only=True)
class SharingKeys:
    """Collects the dealt shares, by slot of the dealer."""

    membership: Membership
    dealt: dict[int, ShareKeys] = field(default_factory=dict)

    def receive(self, slot: int, message: ShareKeys) -> Refusal | None:
        """Takes one dealer's shares, or says why not."""
        if slot in self.dealt:
            return Refusal.DUPLICATE
        if message.context != self.membership.ctx1:
            return Refusal.WRONG_CONTEXT
        if tuple(sealed.recipient for sealed in message.shares) != self.membership.neighbours[slot]:
            return Refusal.MALFORMED
        if len(message.seed_commitment) != DIGEST_BYTES or not all(_is_whole(sealed, slot) for sealed in message.shares):
            return Refusal.MALFORMED
        if self._on_ring and not self._is_signed(slot, message):
            return Refusal.BAD_SIGNATURE
        if message.signature and not self._on_ring:
            return Refusal.MALFORMED
        self.dealt[slot] = message
        return None

    @property
    def sufficient(self) -> bool:
        """Whether every sharer has the threshold of neighbours that share, and no stretch of a ring lacks them."""
        return self.membership.holds_together(self.dealt) and self.membership.surrounds(self.dealt, self.dealt)

    def close(self) -> tuple[bytes, dict[int, ForwardedShares]] | Abort:
        """The sharers (A1, a bitmap), and for each of them what its neighbours sealed for it."""
        floor = max(self.membership.context.parameters.minimum_survivors, self.membership.threshold + 1)
        if len(self.dealt) < floor:
            return Abort(AbortReason.TOO_FEW_SHARERS, f"{len(self.dealt)} of {floor}")
        if not self.membership.holds_together(self.dealt):
            return Abort(AbortReason.TOO_FEW_SHARERS, "too few in one part of the graph")
        sharers = bitmaps.encode(self.dealt, self.membership.size)
        addressed: dict[int, list[SealedShares]] = {slot: [] for slot in self.dealt}
        for dealer in sorted(self.dealt):
            for sealed in self.dealt[dealer].shares:
                if sealed.recipient in addressed:
                    addressed[sealed.recipient].append(sealed)
        forwarded = {
            self.membership.devices[slot]: ForwardedShares(
                context=self.membership.ctx1,
                sharers=sharers,
                shares=tuple(shares),
                signatures=tuple(self.dealt[sealed.sender].signature for sealed in shares) if self._on_ring else (),
            )
            for slot, shares in addressed.items()
        }
        return sharers, forwarded

    @property
    def _on_ring(self) -> bool:
        return not self.membership.graph.topology.complete

    def _is_signed(self, slot: int, message: ShareKeys) -> bool:
        statement = statements.dealing(self.membership.ctx1, slot)
        return authority.verifies(self.membership.keys[slot].certificate.identity, message.signature, statement)


def _is_whole(sealed: SealedShares, dealer: int) -> bool:
    sizes = (len(sealed.ciphertext), len(sealed.self_mask_commitment), len(sealed.mask_key_commitment))
    return sealed.sender == dealer and sizes == (CIPHERTEXT_BYTES, DIGEST_BYTES, DIGEST_BYTES)
