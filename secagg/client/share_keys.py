"""Phase 1, ShareKeys: the device checks the roster and deals shares of its two secrets to its neighbours."""

import itertools
from dataclasses import dataclass, field

from secagg import authority, graph, keys, sealing, shamir, statements
from secagg.client.advertise_keys import Advertised, Device
from secagg.context import with_roster
from secagg.graph import Graph
from secagg.hashing import DIGEST_BYTES
from secagg.keys import KEY_BYTES
from secagg.messages import AdvertiseKeys, Roster, ShareKeys
from secagg.reasons import Abort, AbortReason


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """A device's place in a round whose roster is fixed.

    Args:
      ctx1: the context with the roster.
      slot: the device's place on the roster.
      graph: who is whose neighbour.
      neighbours: keys of the neighbours by slot, ascending.
      witnesses: identities of the witnesses by slot; none on the complete graph.
    """

    device: Device
    ctx1: bytes
    slot: int
    graph: Graph
    neighbours: dict[int, AdvertiseKeys] = field(repr=False)
    witnesses: dict[int, bytes] = field(repr=False)

    @property
    def size(self) -> int:
        """Devices on the roster."""
        return self.graph.topology.roster_size

    @property
    def threshold(self) -> int:
        """t, shares that uncover a secret."""
        return self.graph.topology.threshold


@dataclass(frozen=True, slots=True, kw_only=True)
class Shared:
    """The device has dealt its shares and waits for its neighbours'.

    Args:
      seed: of its own mask.
      cipher_secrets, mask_secrets: agreed with each neighbour.
    """

    member: Member
    seed: bytes = field(repr=False)
    cipher_secrets: dict[int, bytes] = field(repr=False)
    mask_secrets: dict[int, bytes] = field(repr=False)
    sent: ShareKeys


def share_keys(state: Advertised, roster: Roster) -> Shared | Abort:
    """Checks everything that the roster says before any secret is used, then deals the shares."""
    member = _join(state, roster)
    if isinstance(member, Abort):
        return member
    cipher_secrets = _agree(state.cipher_pair, {slot: peer.cipher_key for slot, peer in member.neighbours.items()})
    mask_secrets = _agree(state.mask_pair, {slot: peer.mask_key for slot, peer in member.neighbours.items()})
    if cipher_secrets is None or mask_secrets is None:
        return Abort(AbortReason.LOW_ORDER_POINT)
    seed = shamir.random_element(state.device.entropy)
    sent = _deal(state, member, seed, cipher_secrets)
    seed_bytes = seed.to_bytes(shamir.ELEMENT_BYTES, "little")
    return Shared(member=member, seed=seed_bytes, cipher_secrets=cipher_secrets, mask_secrets=mask_secrets, sent=sent)


def _join(state: Advertised, roster: Roster) -> Member | Abort:
    identities, digests = _blocks(roster.identities), _blocks(roster.key_digests)
    if identities is None or digests is None or len(identities) != len(digests):
        return Abort(AbortReason.MALFORMED, "the roster's lists do not fit together")
    if any(one >= other for one, other in itertools.pairwise(identities)):
        return Abort(AbortReason.ROSTER_UNSORTED)
    own = state.sent.certificate.identity
    if own not in identities or digests[identities.index(own)] != state.sent.digest():
        return Abort(AbortReason.OWN_KEY_MISSING)
    parameters = state.device.context.parameters
    if not parameters.minimum_roster <= len(identities) <= parameters.roster_size:
        return Abort(AbortReason.UNSOUND_ROSTER, f"a roster of {len(identities)} is not what the parameters allow")
    topology = parameters.topology(len(identities))
    fault = state.device.floors.topology_fault(parameters, topology)
    if fault is not None:
        return Abort(AbortReason.UNSOUND_ROSTER, fault)
    built, slot = graph.build(topology, state.ctx0, roster.identities), identities.index(own)
    if tuple(peer.slot for peer in roster.neighbours) != built.neighbours(slot):
        return Abort(AbortReason.WRONG_NEIGHBOURS)
    for peer in roster.neighbours:
        reason = _fault_of(peer.keys, state, identities[peer.slot], digests[peer.slot])
        if reason is not None:
            return Abort(reason, f"slot {peer.slot}")
    return Member(
        device=state.device,
        ctx1=with_roster(state.ctx0, roster.identities, roster.key_digests),
        slot=slot,
        graph=built,
        neighbours={peer.slot: peer.keys for peer in roster.neighbours},
        witnesses={witness: identities[witness] for witness in built.witnesses},
    )


def _fault_of(peer: AdvertiseKeys, state: Advertised, identity: bytes, digest: bytes) -> AbortReason | None:
    if peer.certificate.identity != identity or peer.digest() != digest:
        return AbortReason.SUBSTITUTED_KEY
    if len(peer.cipher_key) != KEY_BYTES or len(peer.mask_key) != KEY_BYTES:
        return AbortReason.MALFORMED
    if not authority.is_certified(peer.certificate, state.device.authority, state.device.context.epoch):
        return AbortReason.UNCERTIFIED
    statement = statements.advertisement(state.ctx0, peer.cipher_key, peer.mask_key)
    return None if authority.verifies(identity, peer.signature, statement) else AbortReason.BAD_SIGNATURE


def _agree(pair: keys.KeyPair, peers: dict[int, bytes]) -> dict[int, bytes] | None:
    """The secret with each peer; None if any peer's key is of low order."""
    secrets = dict(zip(peers, pair.agree_all(peers.values()), strict=True))
    found = {slot: secret for slot, secret in secrets.items() if secret is not None}
    return found if len(found) == len(peers) else None


def _deal(state: Advertised, member: Member, seed: int, cipher_secrets: dict[int, bytes]) -> ShareKeys:
    peers = tuple(member.neighbours)
    coordinates = [peer + 1 for peer in peers]
    entropy, topology = state.device.entropy, member.graph.topology
    self_mask = shamir.split(seed, member.threshold, coordinates, entropy)
    mask_key = shamir.split(state.mask_pair.scalar, member.threshold, coordinates, entropy)
    return ShareKeys(
        context=member.ctx1,
        seed_commitment=statements.seed_commitment(member.ctx1, member.slot, _element(seed)),
        shares=tuple(
            sealing.seal(cipher_secrets[peer], member.ctx1, member.slot, peer, _element(one), _element(other))
            for peer, one, other in zip(peers, self_mask, mask_key, strict=True)
        ),
        signature=b"" if topology.complete else state.device.identity.sign(statements.dealing(member.ctx1, member.slot)),
    )


def _element(value: int) -> bytes:
    return value.to_bytes(shamir.ELEMENT_BYTES, "little")


def _blocks(joined: bytes) -> list[bytes] | None:
    if len(joined) % DIGEST_BYTES:
        return None
    return [joined[start : start + DIGEST_BYTES] for start in range(0, len(joined), DIGEST_BYTES)]
