"""Phase 0, AdvertiseKeys: the server collects certified keys until the roster is full, then fixes it."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field

import numpy as np

from secagg import authority, graph, keys, statements
from secagg.context import Context, with_roster
from secagg.floors import Floors
from secagg.graph import Graph
from secagg.keys import KEY_BYTES
from secagg.messages import AdvertiseKeys, NeighbourKeys, Roster
from secagg.reasons import Abort, AbortReason, Refusal


@dataclass(frozen=True, slots=True, kw_only=True)
class Membership:
    """A round whose roster is fixed.

    Args:
      devices: the caller's name of each device, by slot.
      slots: the slot of each device.
      keys: what each device advertised, by slot.
      neighbours: slots of the neighbours of each slot.
    """

    context: Context
    ctx1: bytes
    devices: tuple[int, ...]
    slots: dict[int, int]
    keys: tuple[AdvertiseKeys, ...]
    graph: Graph
    neighbours: tuple[tuple[int, ...], ...]
    identities: bytes
    key_digests: bytes

    @property
    def size(self) -> int:
        """Devices on the roster."""
        return len(self.devices)

    @property
    def threshold(self) -> int:
        """t, shares that uncover a secret."""
        return self.graph.topology.threshold

    def holds_together(self, present: Collection[int]) -> bool:
        """Whether every stretch of the ring keeps as many of `present` as security asks for."""
        members = np.zeros(self.size, dtype=np.bool_)
        members[list(present)] = True
        return self.graph.holds_together(members)

    def surrounds(self, slots: Iterable[int], present: Collection[int], *, spare: int = 0) -> bool:
        """Whether each of `slots` has t + `spare` neighbours in `present`, or all its neighbours if it has fewer."""
        enough = min(self.threshold + spare, self.graph.topology.degree)
        return all(sum(peer in present for peer in self.neighbours[slot]) >= enough for slot in slots)


@dataclass(slots=True, kw_only=True)
class AdvertisingKeys:
    """Collects advertisements, by device, in order of arrival."""

    context: Context
    ctx0: bytes
    authority: bytes
    advertised: dict[int, AdvertiseKeys] = field(default_factory=dict)
    _identities: set[bytes] = field(default_factory=set)

    @property
    def full(self) -> bool:
        """Whether the roster has as many devices as the round takes."""
        return len(self.advertised) >= self.context.parameters.roster_size

    def receive(self, device: int, message: AdvertiseKeys) -> Refusal | None:
        """Takes one advertisement, or says why not."""
        if device in self.advertised:
            return Refusal.DUPLICATE
        if self.full:
            return Refusal.ROSTER_FULL
        identity = message.certificate.identity
        if len(message.cipher_key) != KEY_BYTES or len(message.mask_key) != KEY_BYTES:
            return Refusal.MALFORMED
        if keys.is_low_order(message.cipher_key) or keys.is_low_order(message.mask_key):
            return Refusal.LOW_ORDER_POINT
        if identity in self._identities:
            return Refusal.IDENTITY_TAKEN
        if not authority.is_certified(message.certificate, self.authority, self.context.epoch):
            return Refusal.UNCERTIFIED
        statement = statements.advertisement(self.ctx0, message.cipher_key, message.mask_key)
        if not authority.verifies(identity, message.signature, statement):
            return Refusal.BAD_SIGNATURE
        self.advertised[device] = message
        self._identities.add(identity)
        return None

    def remove(self, device: int) -> None:
        """The device left before the roster was fixed; its place is free again, its identity is used up."""
        self.advertised.pop(device, None)

    def close(self) -> tuple[Membership, dict[int, Roster]] | Abort:
        """The roster in ascending order of identities, and each device's view of it."""
        found, parameters = len(self.advertised), self.context.parameters
        if found < parameters.minimum_roster:
            return Abort(AbortReason.TOO_FEW_DEVICES, f"{found} of {parameters.minimum_roster}")
        topology = parameters.topology(found)
        fault = Floors(minimum_roster=1, minimum_survivors=1).topology_fault(parameters, topology)
        if fault is not None:
            return Abort(AbortReason.UNSOUND_ROSTER, fault)
        ordered = sorted(self.advertised.items(), key=lambda item: item[1].certificate.identity)
        identities = b"".join(message.certificate.identity for _, message in ordered)
        key_digests = b"".join(message.digest() for _, message in ordered)
        built = graph.build(topology, self.ctx0, identities)
        membership = Membership(
            context=self.context,
            ctx1=with_roster(self.ctx0, identities, key_digests),
            devices=tuple(device for device, _ in ordered),
            slots={device: slot for slot, (device, _) in enumerate(ordered)},
            keys=tuple(message for _, message in ordered),
            graph=built,
            neighbours=tuple(built.neighbours(slot) for slot in range(found)),
            identities=identities,
            key_digests=key_digests,
        )
        return membership, _rosters(membership)


def _rosters(membership: Membership) -> dict[int, Roster]:
    views = [NeighbourKeys(slot=slot, keys=advertised) for slot, advertised in enumerate(membership.keys)]
    return {
        device: Roster(
            identities=membership.identities,
            key_digests=membership.key_digests,
            neighbours=tuple(views[neighbour] for neighbour in membership.neighbours[slot]),
        )
        for slot, device in enumerate(membership.devices)
    }
