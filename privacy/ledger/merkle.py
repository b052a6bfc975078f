"""The Merkle tree of RFC 9162: leaf and node hashes, and the root kept as a frontier, so that an append costs O(log n).

Proofs are in `privacy.ledger.proofs`.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

HASH_BYTES = 32
EMPTY_ROOT = hashlib.sha256().digest()
"""The root of the tree without entries: SHA-256 of nothing."""


def leaf_hash(body: bytes) -> bytes:
    """SHA-256(0x00 || body), RFC 9162 section 2.1.1.

    >>> leaf_hash(b"").hex()[:16]
    '6e340b9cffb37a98'
    """
    return hashlib.sha256(b"\x00" + body).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """SHA-256(0x01 || left || right), RFC 9162 section 2.1.1."""
    return hashlib.sha256(b"\x01" + left + right).digest()


@dataclass(frozen=True, slots=True)
class Frontier:
    """A tree of `size` leaves as the roots of its perfect subtrees, largest first."""

    size: int = 0
    peaks: tuple[bytes, ...] = ()

    def append(self, leaf: bytes) -> "Frontier":
        """The tree with one more leaf hash.

        >>> Frontier().append(leaf_hash(b"")).root().hex()[:16]
        '6e340b9cffb37a98'
        """
        return self.grow(leaf)[0]

    def grow(self, leaf: bytes) -> tuple["Frontier", tuple[bytes, ...]]:
        """The tree with one more leaf hash, and the roots of the perfect subtrees that this leaf completes, smallest first.

        A store that keeps these, one tuple beside every second leaf, can answer any proof without hashing bodies.

        >>> [len(Frontier(size, (bytes(32),) * size.bit_count()).grow(bytes(32))[1]) for size in range(8)]
        [0, 1, 0, 2, 0, 1, 0, 3]
        """
        peaks, size, node, completed = list(self.peaks), self.size, leaf, list[bytes]()
        while size & 1:
            node = node_hash(peaks.pop(), node)
            completed.append(node)
            size >>= 1
        return Frontier(self.size + 1, (*peaks, node)), tuple(completed)

    def root(self) -> bytes:
        """The root hash; SHA-256 of nothing for the empty tree."""
        return fold(self.peaks)


def fold(peaks: Iterable[bytes]) -> bytes:
    """The root over neighbouring subtrees, largest first."""
    smallest_first = list(peaks)[::-1]
    if not smallest_first:
        return EMPTY_ROOT
    node = smallest_first[0]
    for peak in smallest_first[1:]:
        node = node_hash(peak, node)
    return node


def frontier(leaves: Iterable[bytes]) -> Frontier:
    """The tree over these leaf hashes."""
    tree = Frontier()
    for leaf in leaves:
        tree = tree.append(leaf)
    return tree
