"""The neighbour graph of one round: everybody, or a ring in an order that follows from the committed identities.

Source: arXiv:2002.10839v1, section 3.2 (a Harary graph on a random order); the check on survivors is our own, see
`secagg.thresholds.ring_topology`.
"""

import hashlib
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from secagg.hashing import tagged_hash
from secagg.thresholds import Topology


@dataclass(frozen=True, slots=True)
class Graph:
    """Who shares and masks with whom.

    Args:
      topology: the numbers.
      order: int64, shape (n,): the slot at each place of the ring.
      places: int64, shape (n,): the place of each slot.
    """

    topology: Topology
    order: NDArray[np.int64] = field(repr=False)
    places: NDArray[np.int64] = field(repr=False)

    def neighbours(self, slot: int) -> tuple[int, ...]:
        """Ascending slots of the neighbours of `slot`; never itself."""
        size = self.topology.roster_size
        if self.topology.complete:
            return (*range(slot), *range(slot + 1, size))
        half = self.topology.degree // 2
        steps = np.concatenate([np.arange(-half, 0), np.arange(1, half + 1)])
        return tuple(sorted(self.order[(self.places[slot] + steps) % size].tolist()))

    @property
    def witnesses(self) -> tuple[int, ...]:
        """Ascending slots of the k first places of the ring, whose signatures every device wants; none on the complete graph.

        There two lists cannot both have t neighbours' signatures; on a ring neighbours in distant parts could sign different lists.
        """
        if self.topology.complete:
            return ()
        return tuple(sorted(self.order[: self.topology.degree].tolist()))

    def holds_together(self, survivors: NDArray[np.bool_]) -> bool:
        """Whether every k/2 successive places keep the survivors that security asks for.

        Args:
          survivors: bool, shape (n,), by slot.
        """
        if self.topology.complete:
            return True
        width = self.topology.degree // 2
        around = survivors[self.order].astype(np.int64)
        sums = np.cumsum(np.concatenate([[0], around, around[: width - 1]]))
        return int((sums[width:] - sums[:-width]).min()) >= self.topology.survivors_per_window


def build(topology: Topology, ctx0: bytes, identities: bytes) -> Graph:
    """The graph for a roster.

    Args:
      ctx0: digest of the round's context.
      identities: the roster's identity keys, ascending, 32 bytes each. Only they decide on the order: a corrupt device can
        choose its other keys freely, but its identities come from the authority.

    >>> from secagg.thresholds import complete_topology
    >>> build(complete_topology(4, 0.0), bytes(32), bytes(128)).neighbours(2)
    (0, 1, 3)
    """
    seed = tagged_hash("graph", ctx0, identities)
    keys = np.frombuffer(hashlib.shake_256(seed).digest(8 * topology.roster_size), dtype="<u8")
    order = np.argsort(keys, kind="stable").astype(np.int64)
    places = np.empty_like(order)
    places[order] = np.arange(len(order))
    return Graph(topology, order, places)
