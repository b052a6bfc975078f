"""What a round's parties signed and released, chained by hashes, and how an auditor checks it offline.

A transcript names one-time keys and no device, holds no share and no vector, and is meant to expire; its `head` is what a ledger keeps.
"""

import itertools
from dataclasses import dataclass

from secagg import authority, bitmaps, graph, statements
from secagg.context import Context, with_roster
from secagg.hashing import number, tagged_hash
from secagg.messages import AdvertiseKeys, ReleasedShare, ShareKind


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedRelease:
    """Of whom one device released which kind of share, under its signature."""

    slot: int
    released: tuple[tuple[int, ShareKind], ...]
    signature: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Transcript:
    """The record of one round.

    Args:
      context: the round.
      advertised: what each slot advertised.
      sharers, survivors: A1 and A2, bitmaps.
      consistency: (slot, signature) in ascending order.
      releases: in ascending order of slots.
    """

    context: Context
    advertised: tuple[AdvertiseKeys, ...]
    sharers: bytes
    survivors: bytes
    consistency: tuple[tuple[int, bytes], ...]
    releases: tuple[SignedRelease, ...]

    @property
    def ctx1(self) -> bytes:
        """The context with this transcript's roster."""
        identities = b"".join(keys.certificate.identity for keys in self.advertised)
        return with_roster(self.context.digest(), identities, b"".join(keys.digest() for keys in self.advertised))

    def chain(self) -> tuple[bytes, ...]:
        """The hash after each entry: the roster's advertisements, the bitmaps, the consistency signatures, the releases."""
        links = [tagged_hash("transcript", self.context.digest())]
        for keys in self.advertised:
            links.append(tagged_hash("advertised", links[-1], keys.certificate.signature, keys.digest(), keys.signature))
        links.append(tagged_hash("bitmaps", links[-1], self.sharers, self.survivors))
        for slot, signature in self.consistency:
            links.append(tagged_hash("consistency", links[-1], number(slot), signature))
        for release in self.releases:
            kinds = b"".join(number(peer) + kind.value.encode().ljust(16, b"\0") for peer, kind in release.released)
            links.append(tagged_hash("release", links[-1], number(release.slot), kinds, release.signature))
        return tuple(links)

    @property
    def head(self) -> bytes:
        """The last link, 32 bytes: it commits to the whole transcript."""
        return self.chain()[-1]


def audit(transcript: Transcript, authority_key: bytes, head: bytes | None = None) -> tuple[str, ...]:
    """Everything that is wrong with a transcript; nothing means that every device released at most one share of each neighbour.

    Args:
      authority_key: public key of the `DeviceAuthority`.
      head: what the ledger keeps, if the auditor has it.
    """
    slots = [slot for slot, _ in transcript.consistency]
    slots += [slot for release in transcript.releases for slot in (release.slot, *(peer for peer, _ in release.released))]
    if any(slot < 0 for slot in slots):
        return ("a slot is negative",)
    faults: list[str] = [] if head is None or head == transcript.head else ["this is not the transcript that was recorded"]
    size, context = len(transcript.advertised), transcript.context
    sharers, survivors = bitmaps.decode(transcript.sharers, size), bitmaps.decode(transcript.survivors, size)
    if sharers is None or survivors is None or not 1 <= size <= context.parameters.roster_size:
        return (*faults, "the bitmaps do not fit the roster")
    if (survivors & ~sharers).any():
        faults.append("a device survived that did not share keys")
    if int(survivors.sum()) < context.parameters.minimum_survivors:
        faults.append(f"{int(survivors.sum())} survivors are below the floor of {context.parameters.minimum_survivors}")
    return (*faults, *_roster_faults(transcript, authority_key), *_signature_faults(transcript), *_release_faults(transcript))


def _roster_faults(transcript: Transcript, authority_key: bytes) -> list[str]:
    context = transcript.context
    ctx0, faults = context.digest(), list[str]()
    identities = [keys.certificate.identity for keys in transcript.advertised]
    if any(one >= other for one, other in itertools.pairwise(identities)):
        faults.append("an identity is on the roster twice, or the roster is out of order")
    for slot, keys in enumerate(transcript.advertised):
        if not authority.is_certified(keys.certificate, authority_key, context.epoch):
            faults.append(f"slot {slot}: not certified")
        statement = statements.advertisement(ctx0, keys.cipher_key, keys.mask_key)
        if not authority.verifies(keys.certificate.identity, keys.signature, statement):
            faults.append(f"slot {slot}: the keys were not signed for this round")
    return faults


def _signature_faults(transcript: Transcript) -> list[str]:
    statement = statements.consistency(transcript.ctx1, transcript.sharers, transcript.survivors)
    identities = [keys.certificate.identity for keys in transcript.advertised]
    return [
        f"slot {slot}: no signature over these survivors"
        for slot, signature in transcript.consistency
        if not 0 <= slot < len(identities) or not authority.verifies(identities[slot], signature, statement)
    ]


def _release_faults(transcript: Transcript) -> list[str]:
    size, ctx1, faults = len(transcript.advertised), transcript.ctx1, list[str]()
    topology = transcript.context.parameters.topology(size)
    identities = b"".join(keys.certificate.identity for keys in transcript.advertised)
    built = graph.build(topology, transcript.context.digest(), identities)
    sharers, survivors = bitmaps.decode(transcript.sharers, size), bitmaps.decode(transcript.survivors, size)
    signed = {slot for slot, _ in transcript.consistency}
    if len({release.slot for release in transcript.releases}) != len(transcript.releases):
        faults.append("a device released twice")
    for release in transcript.releases:
        slot, neighbours = release.slot, set(built.neighbours(release.slot)) if 0 <= release.slot < size else set[int]()
        dealers = [dealer for dealer, _ in release.released]
        if not neighbours or sharers is None or survivors is None or not survivors[slot]:
            faults.append(f"slot {slot}: released shares without having survived")
            continue
        if len(set(dealers)) != len(dealers) or not all(dealer in neighbours and sharers[dealer] for dealer in dealers):
            faults.append(f"slot {slot}: two shares of one neighbour, or of no neighbour")
            continue
        if any(
            kind is not (ShareKind.SELF_MASK if survivors[dealer] else ShareKind.MASK_KEY) for dealer, kind in release.released
        ):
            faults.append(f"slot {slot}: a share of the wrong kind")
        if len(neighbours & signed) < topology.threshold:
            faults.append(f"slot {slot}: too few neighbours had signed")
        if not topology.complete and len(signed.intersection(built.witnesses)) < topology.threshold:
            faults.append(f"slot {slot}: too few witnesses had signed")
        shares = [ReleasedShare(neighbour=dealer, kind=kind, share=b"") for dealer, kind in release.released]
        statement = statements.release(ctx1, transcript.sharers, transcript.survivors, shares)
        if not authority.verifies(transcript.advertised[slot].certificate.identity, release.signature, statement):
            faults.append(f"slot {slot}: the release is not signed")
    return faults
