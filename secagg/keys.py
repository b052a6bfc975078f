"""X25519 key agreement that refuses points of low order, and key derivation under labels.

Sources: RFC 7748, section 6.1 (agreement, the check for an all-zero result); RFC 5869 (HKDF).
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from contract.entropy import Entropy
from secagg.hashing import encode

KEY_BYTES = 32
_LOW_ORDER = frozenset(
    bytes.fromhex(point)
    for point in (
        "00" * 32,
        "01" + "00" * 31,
        "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
        "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
        "ec" + "ff" * 30 + "7f",
        "ed" + "ff" * 30 + "7f",
        "ee" + "ff" * 30 + "7f",
    )
)


@dataclass(frozen=True, slots=True)
class KeyPair:
    """An X25519 key pair.

    Args:
      scalar: 32 clamped secret bytes, as an integer below 2^255.
      public: 32 bytes.
    """

    scalar: int = field(repr=False)
    public: bytes

    def agree(self, peer: bytes) -> bytes | None:
        """The 32 bytes shared with the holder of `peer`; None if `peer` is a point of low order."""
        return _exchange(self._private(), peer)

    def agree_all(self, peers: Iterable[bytes]) -> list[bytes | None]:
        """`agree` with each of `peers`, the private key set up once."""
        private = self._private()
        return [_exchange(private, peer) for peer in peers]

    def _private(self) -> X25519PrivateKey:
        return X25519PrivateKey.from_private_bytes(self.scalar.to_bytes(KEY_BYTES, "little"))


def _exchange(private: X25519PrivateKey, peer: bytes) -> bytes | None:
    try:
        return private.exchange(X25519PublicKey.from_public_bytes(peer))
    except ValueError:  # an all-zero result, or no 32 bytes
        return None


def generate(entropy: Entropy) -> KeyPair:
    """A fresh key pair.

    >>> generate(lambda n: bytes(n)).public.hex()[:16]
    '2fe57da347cd6243'
    """
    return from_scalar(clamp(entropy(KEY_BYTES)))


def clamp(raw: bytes) -> int:
    """The X25519 scalar that 32 bytes stand for (RFC 7748, section 5): what is shared is the scalar that is used.

    >>> clamp(bytes(32)) == 2**254
    True
    """
    return int.from_bytes(raw, "little") & ((1 << 255) - 8) | 1 << 254


def from_scalar(scalar: int) -> KeyPair:
    """The key pair of a clamped scalar.

    Raises:
      ValueError: if the scalar is not clamped.
    """
    if clamp(scalar.to_bytes(KEY_BYTES, "little")) != scalar:
        raise ValueError("the scalar is not clamped")
    private = X25519PrivateKey.from_private_bytes(scalar.to_bytes(KEY_BYTES, "little"))
    return KeyPair(scalar, private.public_key().public_bytes_raw())


def is_low_order(public: bytes) -> bool:
    """Whether every agreement with `public` gives zero: the seven encodings of the points of order 1, 2, 4 and 8 on curve and
    twist, with or without the ignored top bit.

    >>> is_low_order(bytes(32)), is_low_order(bytes(31) + b"\\x80"), is_low_order(bytes([9]) + bytes(31))
    (True, True, False)
    """
    return public[:31] + bytes([public[31] & 0x7F]) in _LOW_ORDER


def derive(secret: bytes, context: bytes, label: str, *parts: bytes) -> bytes:
    """32 bytes of HKDF-SHA256: salt is the round's context, info the label and the parts, unambiguously.

    >>> derive(bytes(32), bytes(32), "a") != derive(bytes(32), bytes(32), "b")
    True
    """
    return HKDF(algorithm=SHA256(), length=KEY_BYTES, salt=context, info=encode(label, *parts)).derive(secret)
