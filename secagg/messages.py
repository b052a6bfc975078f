"""The messages of a round, named as in the papers: what a device says, then what the server says.

Sources: Bonawitz et al. 2017 (doi:10.1145/3133956.3133982), figure 4; arXiv:2002.10839v1, algorithm 3. Slots are places on the roster,
which is in ascending order of identities. Everything after AdvertiseKeys names the round by `context`, which is ctx1.
"""

from dataclasses import dataclass, field
from enum import Enum
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from secagg.authority import Certificate
from secagg.hashing import tagged_hash


class ShareKind(Enum):
    """Which of a device's two secrets a share belongs to."""

    SELF_MASK = "self mask"
    """Seed of its own mask: uncovered where it survived."""
    MASK_KEY = "mask key"
    """Secret key of its pairwise masks: uncovered where it dropped out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AdvertiseKeys:
    """A device's two public keys under a certified one-time identity; the signature covers ctx0."""

    certificate: Certificate
    cipher_key: bytes
    mask_key: bytes
    signature: bytes

    def digest(self) -> bytes:
        """What a roster commits to for this device, 32 bytes."""
        return tagged_hash("keys", self.certificate.identity, self.cipher_key, self.mask_key)


@dataclass(frozen=True, slots=True, kw_only=True)
class SealedShares:
    """Shares of both secrets of `sender` for `recipient`: 80 bytes of AES-256-GCM, and commitments to the two shares.

    The server holds every released share against its commitment, and so knows who sent a wrong one.
    """

    sender: int
    recipient: int
    ciphertext: bytes
    self_mask_commitment: bytes
    mask_key_commitment: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class ShareKeys:
    """Sealed shares for each neighbour, ascending, and a commitment to the seed of the self mask.

    On a ring a signature over the roster goes with them: who is far away cannot see whether shares open.
    """

    context: bytes
    seed_commitment: bytes
    shares: tuple[SealedShares, ...]
    signature: bytes = b""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class MaskedInput:
    """The packed vectors under all masks, uint64, shape (words,)."""

    context: bytes
    words: NDArray[np.uint64] = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsistencyCheck:
    """A signature over ctx1, sharers and survivors."""

    context: bytes
    signature: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleasedShare:
    """One share of one secret of a neighbour. There is no message with two."""

    neighbour: int
    kind: ShareKind
    share: bytes = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Unmasking:
    """The released shares, ascending by neighbour, and a signature over which ones they are."""

    context: bytes
    shares: tuple[ReleasedShare, ...]
    signature: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class NeighbourKeys:
    """A neighbour's slot and what it advertised."""

    slot: int
    keys: AdvertiseKeys


@dataclass(frozen=True, slots=True, kw_only=True)
class Roster:
    """Who is in the round: identities (ascending) and key digests of all, 32 bytes each, and the keys of one's neighbours."""

    identities: bytes
    key_digests: bytes
    neighbours: tuple[NeighbourKeys, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ForwardedShares:
    """Everybody who shared keys, as a bitmap, and the shares sealed for this device by those of its neighbours.

    On a ring with each of these neighbours' signatures over the roster, in the same order.
    """

    context: bytes
    sharers: bytes
    shares: tuple[SealedShares, ...]
    signatures: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class SurvivorsAnnouncement:
    """Everybody whose masked input was added, as a bitmap."""

    context: bytes
    survivors: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class NeighbourSignature:
    """A neighbour's consistency signature."""

    slot: int
    signature: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class WitnessSignature:
    """A witness's consistency signature, with its certificate: a device has seen those of its neighbours only."""

    slot: int
    certificate: Certificate
    signature: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class UnmaskRequest:
    """The proof that enough neighbours, and on a ring enough witnesses, signed the same survivors: the request for shares."""

    context: bytes
    signatures: tuple[NeighbourSignature, ...]
    witnesses: tuple[WitnessSignature, ...] = ()


DeviceMessage: TypeAlias = AdvertiseKeys | ShareKeys | MaskedInput | ConsistencyCheck | Unmasking
ServerMessage: TypeAlias = Roster | ForwardedShares | SurvivorsAnnouncement | UnmaskRequest
