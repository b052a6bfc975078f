"""The bytes behind every signature and commitment of a round."""

from collections.abc import Iterable

from secagg.hashing import encode, number, tagged_hash
from secagg.messages import ReleasedShare, ShareKind


def advertisement(ctx0: bytes, cipher_key: bytes, mask_key: bytes) -> bytes:
    """What a device signs with its keys: that they are meant for this round, model, configuration and ledger."""
    return encode("advertise keys", ctx0, cipher_key, mask_key)


def dealing(ctx1: bytes, slot: int) -> bytes:
    """What a device on a ring signs with the shares that it deals: that it was shown this roster, and has this place on it."""
    return encode("share keys", ctx1, number(slot))


def consistency(ctx1: bytes, sharers: bytes, survivors: bytes) -> bytes:
    """What a device signs before it releases: that it was shown these sharers (A1) and survivors (A2)."""
    return encode("consistency check", ctx1, sharers, survivors)


def release(ctx1: bytes, sharers: bytes, survivors: bytes, shares: Iterable[ReleasedShare]) -> bytes:
    """What a device signs with its shares: of whom it released which kind, on the ground of which bitmaps.

    The shares themselves are not in it, so that a transcript can be kept without them.
    """
    listed = b"".join(number(share.neighbour) + share.kind.value.encode().ljust(16, b"\0") for share in shares)
    return encode("release", ctx1, sharers, survivors, listed)


def seed_commitment(ctx1: bytes, slot: int, seed: bytes) -> bytes:
    """Commitment to the seed of a self mask; the seed is uniform, so it hides (random oracle)."""
    return tagged_hash("seed commitment", ctx1, number(slot), seed)


def share_commitment(ctx1: bytes, dealer: int, holder: int, kind: ShareKind, share: bytes) -> bytes:
    """Commitment to one share; a share is uniform, so it hides (random oracle)."""
    return tagged_hash("share commitment", ctx1, number(dealer), number(holder), kind.value.encode(), share)
