"""Phase 4, Unmasking: the server collects one share for each neighbour, uncovers what they give, and takes the masks off."""

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from secagg import authority, derivation, keys, masks, packing, shamir, statements
from secagg.keys import KeyPair
from secagg.masks import Mask
from secagg.messages import ShareKeys, ShareKind, Unmasking
from secagg.parameters import Vector
from secagg.reasons import Abort, AbortReason, Refusal
from secagg.server.advertise_keys import Membership


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What the round reveals.

    Args:
      sums: int64, shape (length,), by vector name.
      survivors: the devices whose inputs are in the sums, as the caller names them.
    """

    sums: dict[str, NDArray[np.int64]] = field(repr=False)
    survivors: tuple[int, ...]


@dataclass(slots=True, kw_only=True)
class CollectingShares:
    """Collects released shares and uncovers the sum.

    Args:
      dealt: what the sharers dealt, by slot: its commitments tell a wrong share from a right one.
      asked: slots that were sent a request.
      total: the masked sum; unmasked in place.
    """

    membership: Membership
    sharers: bytes
    survivors: bytes
    sharing: frozenset[int]
    surviving: frozenset[int]
    dealt: dict[int, ShareKeys] = field(repr=False)
    asked: frozenset[int]
    total: NDArray[np.uint64] = field(repr=False)
    released: dict[int, Unmasking] = field(default_factory=dict)
    _holders: dict[int, dict[int, int]] = field(default_factory=dict, repr=False)
    _commitments: dict[tuple[int, int], bytes] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        for dealer, message in self.dealt.items():
            survived = dealer in self.surviving
            for sealed in message.shares:
                kept = sealed.self_mask_commitment if survived else sealed.mask_key_commitment
                self._commitments[dealer, sealed.recipient] = kept

    def receive(self, slot: int, message: Unmasking) -> Refusal | None:
        """Takes one holder's shares, all or none, or says why not."""
        if slot in self.released:
            return Refusal.DUPLICATE
        if slot not in self.asked:
            return Refusal.NOT_ON_ROSTER
        if message.context != self.membership.ctx1:
            return Refusal.WRONG_CONTEXT
        dealers = [share.neighbour for share in message.shares]
        if len(set(dealers)) != len(dealers):
            return Refusal.WRONG_RELEASES
        for share in message.shares:
            if (share.neighbour, slot) not in self._commitments or share.kind is not self._due(share.neighbour):
                return Refusal.WRONG_RELEASES
            kept = statements.share_commitment(self.membership.ctx1, share.neighbour, slot, share.kind, share.share)
            if kept != self._commitments[share.neighbour, slot]:
                return Refusal.WRONG_SHARE
        statement = statements.release(self.membership.ctx1, self.sharers, self.survivors, message.shares)
        if not authority.verifies(self.membership.keys[slot].certificate.identity, message.signature, statement):
            return Refusal.BAD_SIGNATURE
        for share in message.shares:
            self._holders.setdefault(share.neighbour, {})[slot] = int.from_bytes(share.share, "little")
        self.released[slot] = message
        return None

    @property
    def sufficient(self) -> bool:
        """Whether every secret that is needed has the threshold of shares."""
        return all(len(self._holders.get(slot, {})) >= self.membership.threshold for slot in self._needed())

    def close(self, threads: int) -> Result | Abort:
        """Takes off every mask; the memory used does not grow with the number of masks."""
        secrets: dict[int, int] = {}
        for slot in self._needed():
            secret = self._combine(slot)
            if isinstance(secret, Abort):
                return secret
            secrets[slot] = secret
        fault = self._fault_of(secrets)
        if fault is not None:
            return fault
        pairs = {slot: keys.from_scalar(secret) for slot, secret in secrets.items() if slot not in self.surviving}
        agreed = self._agree(pairs)
        parameters = self.membership.context.parameters
        for vector, part in derivation.parts(parameters, self.total):
            masks.apply(part, self._masks(vector, secrets, agreed), parameters.cipher, threads=threads)
        sums = packing.unpack(parameters.vectors, self.total)
        return Result(sums=sums, survivors=tuple(self.membership.devices[slot] for slot in sorted(self.surviving)))

    def _due(self, dealer: int) -> ShareKind:
        return ShareKind.SELF_MASK if dealer in self.surviving else ShareKind.MASK_KEY

    def _needed(self) -> Iterator[int]:
        """Survivors' seeds, and keys of the dropped whose masks are in a survivor's input."""
        for slot in sorted(self.sharing):
            if slot in self.surviving or any(peer in self.surviving for peer in self.membership.neighbours[slot]):
                yield slot

    def _combine(self, slot: int) -> int | Abort:
        held, threshold = self._holders.get(slot, {}), self.membership.threshold
        if len(held) < threshold:
            return Abort(AbortReason.TOO_FEW_SHARES, f"{len(held)} of {threshold}", (slot,))
        holders = sorted(held)[:threshold]
        return shamir.combine([holder + 1 for holder in holders], [held[holder] for holder in holders])

    def _fault_of(self, secrets: dict[int, int]) -> Abort | None:
        """A dealer whose shares do not give back what it committed to or advertised."""
        culprits = tuple(slot for slot, secret in secrets.items() if not self._is_true(slot, secret))
        return Abort(AbortReason.DEALER_INCONSISTENT, f"{len(culprits)} dealers", culprits) if culprits else None

    def _is_true(self, slot: int, secret: int) -> bool:
        raw = secret.to_bytes(shamir.ELEMENT_BYTES, "little")
        if slot in self.surviving:
            return statements.seed_commitment(self.membership.ctx1, slot, raw) == self.dealt[slot].seed_commitment
        return keys.clamp(raw) == secret and keys.from_scalar(secret).public == self.membership.keys[slot].mask_key

    def _agree(self, pairs: dict[int, KeyPair]) -> dict[tuple[int, int], bytes]:
        """What each dropped device had agreed on with each surviving neighbour."""
        agreed: dict[tuple[int, int], bytes] = {}
        for slot, pair in pairs.items():
            peers = [peer for peer in self.membership.neighbours[slot] if peer in self.surviving]
            for peer, secret in zip(peers, pair.agree_all(self.membership.keys[peer].mask_key for peer in peers), strict=True):
                if secret is not None:  # keys of low order never came onto the roster
                    agreed[peer, slot] = secret
        return agreed

    def _masks(self, vector: Vector, secrets: dict[int, int], agreed: dict[tuple[int, int], bytes]) -> Iterator[Mask]:
        """The inverse of every mask that is still in the total."""
        ctx1 = self.membership.ctx1
        for slot in sorted(self.surviving):
            seed = secrets[slot].to_bytes(shamir.ELEMENT_BYTES, "little")
            yield Mask(derivation.self_key(seed, ctx1, slot, vector), add=False)
        for (survivor, dropped), secret in agreed.items():
            yield Mask(derivation.pairwise_key(secret, ctx1, survivor, dropped, vector), add=survivor > dropped)
