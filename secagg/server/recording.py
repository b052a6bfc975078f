"""From the server's memory of a round to its transcript."""

from secagg.messages import Unmasking
from secagg.server.consistency_check import CheckingConsistency
from secagg.transcript import SignedRelease, Transcript


def record(checked: CheckingConsistency, released: dict[int, Unmasking]) -> Transcript:
    """The transcript of a round whose survivors are announced."""
    membership = checked.membership
    return Transcript(
        context=membership.context,
        advertised=membership.keys,
        sharers=checked.sharers,
        survivors=checked.survivors,
        consistency=tuple(sorted(checked.signatures.items())),
        releases=tuple(
            SignedRelease(
                slot=slot,
                released=tuple((share.neighbour, share.kind) for share in message.shares),
                signature=message.signature,
            )
            for slot, message in sorted(released.items())
        ),
    )
