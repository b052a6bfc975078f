"""Phase 3, ConsistencyCheck: the device signs the one list of survivors that it will ever act on.

Source: Bonawitz et al. 2017, figure 4, round 3; here the signed statement holds full bitmaps and the context with the roster.
"""

from dataclasses import dataclass, field

from secagg import bitmaps, statements
from secagg.client.masked_input import Masked
from secagg.client.share_keys import Member
from secagg.messages import ConsistencyCheck, ShareKind, SurvivorsAnnouncement
from secagg.reasons import Abort, AbortReason


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """The device has signed these bitmaps and waits for its neighbours' signatures.

    Args:
      sharers, survivors: A1 and A2, bitmaps.
      held: shares of neighbours, as in `Masked`.
    """

    member: Member
    sharers: bytes
    survivors: bytes
    held: dict[int, dict[ShareKind, bytes]] = field(repr=False)
    sent: ConsistencyCheck


def consistency_check(state: Masked, announced: SurvivorsAnnouncement) -> Checked | Abort:
    """Signs sharers and survivors, if their sum may be uncovered."""
    member = state.member
    sharers, survivors = bitmaps.decode(state.sharers, member.size), bitmaps.decode(announced.survivors, member.size)
    if sharers is None or survivors is None:
        return Abort(AbortReason.MALFORMED, "survivors are no bitmap of the roster")
    if not survivors[member.slot] or bool((survivors & ~sharers).any()):
        return Abort(AbortReason.WRONG_SURVIVORS)
    count = int(survivors.sum())
    if (
        member.graph.topology.complete
    ):  # whoever dealt on another roster, or deals garbage, is no survivor: `secagg.division`, 3
        count = 1 + sum(bool(survivors[slot]) for slot in state.held)
    if count < member.device.context.parameters.minimum_survivors:
        return Abort(AbortReason.TOO_FEW_SURVIVORS, f"{count} survivors")
    if sum(bool(survivors[slot]) for slot in member.neighbours) < member.threshold:
        return Abort(AbortReason.TOO_FEW_SURVIVORS, "fewer neighbours than the threshold")
    if not member.graph.holds_together(survivors):
        return Abort(AbortReason.TOO_FEW_SURVIVORS, "too few in one part of the graph")
    statement = statements.consistency(member.ctx1, state.sharers, announced.survivors)
    sent = ConsistencyCheck(context=member.ctx1, signature=member.device.identity.sign(statement))
    return Checked(member=member, sharers=state.sharers, survivors=announced.survivors, held=state.held, sent=sent)
