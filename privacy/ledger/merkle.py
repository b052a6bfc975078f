"""The Merkle tree of RFC 9162: leaf and node hashes, and the root kept as a frontier, so that an append costs O(log n)."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass


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
        peaks, size, node = list(self.peaks), self.size, leaf
        while size & 1:
            node = node_hash(peaks.pop(), node)
            size >>= 1
        return Frontier(self.size + 1, (*peaks, node))

    def root(self) -> bytes:
        """The root hash; SHA-256 of nothing for the empty tree."""
        if not self.peaks:
            return hashlib.sha256().digest()
        node = self.peaks[-1]
        for peak in reversed(self.peaks[:-1]):
            node = node_hash(peak, node)
        return node


def frontier(leaves: Iterable[bytes]) -> Frontier:
    """The tree over these leaf hashes."""
    tree = Frontier()
    for leaf in leaves:
        tree = tree.append(leaf)
    return tree
