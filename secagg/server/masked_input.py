"""Phase 2, MaskedInput: the server adds each masked vector on arrival and keeps the sum only."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from secagg import bitmaps
from secagg.messages import MaskedInput, SurvivorsAnnouncement
from secagg.reasons import Abort, AbortReason, Refusal
from secagg.server.advertise_keys import Membership


@dataclass(slots=True, kw_only=True)
class CollectingInputs:
    """Adds masked inputs, modulo 2^64 in every word.

    Args:
      sharers, sharers_bitmap: slots of A1.
      total: uint64, shape (words,).
      added: slots whose input is in the total.
    """

    membership: Membership
    sharers: frozenset[int]
    sharers_bitmap: bytes
    total: NDArray[np.uint64] = field(repr=False)
    added: set[int] = field(default_factory=set)

    def receive(self, slot: int, message: MaskedInput) -> Refusal | None:
        """Adds one masked input, O(d), or says why not."""
        if slot in self.added:
            return Refusal.DUPLICATE
        if slot not in self.sharers:
            return Refusal.NOT_ON_ROSTER
        if message.context != self.membership.ctx1:
            return Refusal.WRONG_CONTEXT
        if message.words.shape != self.total.shape or message.words.dtype != np.uint64:
            return Refusal.WRONG_LENGTH
        np.add(self.total, message.words, out=self.total)
        self.added.add(slot)
        return None

    @property
    def sufficient(self) -> bool:
        """Whether the secrets of all sharers are with the threshold of neighbours whose inputs came."""
        return self.membership.holds_together(self.added) and self.membership.surrounds(self.sharers, self.added)

    def close(self) -> tuple[bytes, dict[int, SurvivorsAnnouncement]] | Abort:
        """The survivors (A2, a bitmap), announced to each of them."""
        membership = self.membership
        floor = max(membership.context.parameters.minimum_survivors, membership.threshold + 1)
        if len(self.added) < floor:
            return Abort(AbortReason.TOO_FEW_SURVIVORS, f"{len(self.added)} of {floor}")
        if not membership.holds_together(self.added):
            return Abort(AbortReason.TOO_FEW_SURVIVORS, "too few in one part of the graph")
        survivors = bitmaps.encode(self.added, membership.size)
        announcement = SurvivorsAnnouncement(context=membership.ctx1, survivors=survivors)
        return survivors, {membership.devices[slot]: announcement for slot in sorted(self.added)}
