"""One-time certificates: an authority that the server does not control says "a real device of this epoch", and no more.

A device uses an identity in one round and never again, so that rounds cannot be linked by it. What makes a device real
(attestation) is outside; here is where its verdict enters.
"""

import functools
from dataclasses import dataclass, field

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from contract.entropy import Entropy
from secagg.hashing import encode, number

IDENTITY_BYTES = 32
SIGNATURE_BYTES = 64
_REMEMBERED = 1 << 12
"""Verdicts kept: those on the certificates, keys and lists of a thousand neighbours, in some two megabytes."""


@dataclass(frozen=True, slots=True)
class Certificate:
    """The authority's word for one identity.

    Args:
      identity: the device's one-time Ed25519 key, 32 bytes.
      epoch: when it may be used; a number that all sides agree on, for instance a day.
      signature: the authority's, 64 bytes.
    """

    identity: bytes
    epoch: int
    signature: bytes


@dataclass(frozen=True, slots=True)
class OneTimeIdentity:
    """A certified signing key for one round."""

    seed: bytes = field(repr=False)
    certificate: Certificate

    def sign(self, statement: bytes) -> bytes:
        """The 64-byte signature over `statement`."""
        return Ed25519PrivateKey.from_private_bytes(self.seed).sign(statement)


class DeviceAuthority:
    """Issues certificates. In production another party runs it, behind an `IssuingDesk`; in a simulation the composition root does.

    >>> authority = DeviceAuthority(bytes(32))
    >>> device = authority.enrol(3, lambda n: bytes(n))
    >>> is_certified(device.certificate, authority.public, 3), is_certified(device.certificate, authority.public, 4)
    (True, False)
    """

    def __init__(self, seed: bytes) -> None:
        self._key = Ed25519PrivateKey.from_private_bytes(seed)

    @property
    def public(self) -> bytes:
        """The key that everybody checks certificates with, 32 bytes."""
        return self._key.public_key().public_bytes_raw()

    def issue(self, identity: bytes, epoch: int) -> Certificate:
        """A certificate for an identity that the authority has convinced itself of."""
        return Certificate(identity, epoch, self._key.sign(_statement(identity, epoch)))

    def enrol(self, epoch: int, entropy: Entropy) -> OneTimeIdentity:
        """A fresh identity with its certificate, as the device's side obtains it."""
        seed, public = fresh_key(entropy)
        return OneTimeIdentity(seed, self.issue(public, epoch))


def fresh_key(entropy: Entropy) -> tuple[bytes, bytes]:
    """A signing key's seed and its public key, 32 bytes each."""
    seed = entropy(IDENTITY_BYTES)
    return seed, Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes_raw()


def is_certified(certificate: Certificate, authority: bytes, epoch: int) -> bool:
    """Whether the authority with the public key `authority` vouches for the certificate in `epoch`."""
    if certificate.epoch != epoch or len(certificate.identity) != IDENTITY_BYTES:
        return False
    return verifies(authority, certificate.signature, _statement(certificate.identity, epoch))


@functools.lru_cache(maxsize=_REMEMBERED)
def verifies(identity: bytes, signature: bytes, statement: bytes) -> bool:
    """Whether `signature` is the Ed25519 signature of `identity` over `statement`.

    A function of these public bytes and of nothing else: the devices that one process plays check the same ones once.
    """
    try:
        Ed25519PublicKey.from_public_bytes(identity).verify(signature, statement)
    except (InvalidSignature, ValueError):
        return False
    return True


def _statement(identity: bytes, epoch: int) -> bytes:
    return encode("one-time certificate", identity, number(epoch))
