"""Shares under AES-256-GCM, so that the server carries what it cannot read and cannot change.

Each direction of each pair has a key of its own that seals one message, ever; the nonce is therefore zero. Sender, recipient, round
and both commitments are associated data: a sealed message opens in its own place or nowhere.
"""

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from secagg import keys
from secagg.hashing import encode, number
from secagg.messages import SealedShares, ShareKind
from secagg.shamir import ELEMENT_BYTES
from secagg.statements import share_commitment

CIPHERTEXT_BYTES = 2 * ELEMENT_BYTES + 16
_NONCE = bytes(12)


def seal(
    secret: bytes, ctx1: bytes, sender: int, recipient: int, self_mask_share: bytes, mask_key_share: bytes
) -> SealedShares:
    """Both shares for `recipient`, under the secret that the two devices agreed on."""
    self_mask = share_commitment(ctx1, sender, recipient, ShareKind.SELF_MASK, self_mask_share)
    mask_key = share_commitment(ctx1, sender, recipient, ShareKind.MASK_KEY, mask_key_share)
    associated = _associated(ctx1, sender, recipient, self_mask, mask_key)
    ciphertext = _cipher(secret, ctx1, sender, recipient).encrypt(_NONCE, self_mask_share + mask_key_share, associated)
    return SealedShares(
        sender=sender,
        recipient=recipient,
        ciphertext=ciphertext,
        self_mask_commitment=self_mask,
        mask_key_commitment=mask_key,
    )


def open_sealed(secret: bytes, ctx1: bytes, sealed: SealedShares) -> tuple[bytes, bytes] | None:
    """(self mask share, mask key share); None if they were changed, moved, or are not what the dealer committed to."""
    sender, recipient = sealed.sender, sealed.recipient
    associated = _associated(ctx1, sender, recipient, sealed.self_mask_commitment, sealed.mask_key_commitment)
    try:
        plain = _cipher(secret, ctx1, sender, recipient).decrypt(_NONCE, sealed.ciphertext, associated)
    except (InvalidTag, ValueError):
        return None
    if len(plain) != 2 * ELEMENT_BYTES:
        return None
    self_mask_share, mask_key_share = plain[:ELEMENT_BYTES], plain[ELEMENT_BYTES:]
    kept = (
        share_commitment(ctx1, sender, recipient, ShareKind.SELF_MASK, self_mask_share) == sealed.self_mask_commitment
        and share_commitment(ctx1, sender, recipient, ShareKind.MASK_KEY, mask_key_share) == sealed.mask_key_commitment
    )
    return (self_mask_share, mask_key_share) if kept else None


def _cipher(secret: bytes, ctx1: bytes, sender: int, recipient: int) -> AESGCM:
    return AESGCM(keys.derive(secret, ctx1, "sealed shares", number(sender), number(recipient)))


def _associated(ctx1: bytes, sender: int, recipient: int, self_mask: bytes, mask_key: bytes) -> bytes:
    return encode("sealed shares", ctx1, number(sender), number(recipient), self_mask, mask_key)
