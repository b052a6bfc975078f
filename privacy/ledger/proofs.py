"""Inclusion and consistency proofs of RFC 9162: which nodes they need, how they are put together, how they are checked.

Making a proof is pure: `inclusion_path` and `consistency_path` name the subtrees, `nodes_of` says which stored perfect nodes those
are made of, and `assemble` hashes them together. A proof over n leaves reads and holds O(log n) hashes.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

from privacy.ledger.merkle import EMPTY_ROOT, fold, node_hash


class Node(NamedTuple):
    """The root of the perfect subtree over leaves [place 2^level, (place + 1) 2^level)."""

    level: int
    place: int

    @property
    def last_leaf(self) -> int:
        """The leaf that completed it."""
        return ((self.place + 1) << self.level) - 1


class Span(NamedTuple):
    """Leaves [start, end) that one proof element covers."""

    start: int
    end: int


ReadNodes = Callable[[Iterable[Node]], Mapping[Node, bytes]]
"""Gives the hashes of stored nodes; level 0 are the leaf hashes."""


def inclusion_path(index: int, size: int) -> list[Span]:
    """The subtrees whose roots prove that leaf `index` is in the tree of `size` leaves, nearest first (RFC 9162, 2.1.3.1).

    Raises:
      ValueError: if the tree has no such leaf.

    >>> inclusion_path(0, 7)
    [Span(start=1, end=2), Span(start=2, end=4), Span(start=4, end=7)]
    """
    if not 0 <= index < size:
        raise ValueError(f"leaf {index} is not in a tree of {size}")
    path: list[Span] = []
    start, end = 0, size
    while end - start > 1:
        middle = start + _split(end - start)
        if index < middle:
            path.append(Span(middle, end))
            end = middle
        else:
            path.append(Span(start, middle))
            start = middle
    return path[::-1]


def consistency_path(old_size: int, size: int) -> list[Span]:
    """The subtrees whose roots prove that the tree of `size` leaves begins with that of `old_size` (RFC 9162, 2.1.4.1).

    Raises:
      ValueError: unless 0 < old_size <= size.

    >>> consistency_path(3, 7)
    [Span(start=2, end=3), Span(start=3, end=4), Span(start=0, end=2), Span(start=4, end=7)]
    """
    if not 0 < old_size <= size:
        raise ValueError(f"no consistency proof from {old_size} to {size} leaves")
    path: list[Span] = []
    start, end, whole = 0, size, True
    while end != old_size:
        middle = start + _split(end - start)
        if old_size <= middle:
            path.append(Span(middle, end))
            end = middle
        else:
            path.append(Span(start, middle))
            start, whole = middle, False
    if not whole:
        path.append(Span(start, end))
    return path[::-1]


def nodes_of(span: Span) -> list[Node]:
    """The perfect nodes that the subtree over `span` is made of, largest first.

    >>> nodes_of(Span(4, 7))
    [Node(level=1, place=2), Node(level=0, place=6)]
    """
    nodes, start = list[Node](), span.start
    while start < span.end:
        level = (span.end - start).bit_length() - 1
        nodes.append(Node(level, start >> level))
        start += 1 << level
    return nodes


def assemble(path: Sequence[Span], read: ReadNodes) -> list[bytes]:
    """The hashes of the subtrees of a path, from stored nodes in one read."""
    parts = [nodes_of(span) for span in path]
    hashes = read(node for nodes in parts for node in nodes)
    return [fold(hashes[node] for node in nodes) for nodes in parts]


def root(size: int, read: ReadNodes) -> bytes:
    """The root of the tree that the first `size` leaves made."""
    return assemble([Span(0, size)], read)[0] if size else EMPTY_ROOT


def verify_inclusion(*, leaf: bytes, index: int, size: int, proof: Sequence[bytes], root: bytes) -> bool:
    """Whether `proof` shows that leaf hash `leaf` stands at `index` in the tree of `size` leaves with this root.

    Source: RFC 9162, section 2.1.3.2.
    """
    if not 0 <= index < size:
        return False
    position, last, node = index, size - 1, leaf
    for step in proof:
        if last == 0:
            return False
        if position & 1 or position == last:
            node = node_hash(step, node)
            while not position & 1 and position:
                position, last = position >> 1, last >> 1
        else:
            node = node_hash(node, step)
        position, last = position >> 1, last >> 1
    return last == 0 and node == root


def verify_consistency(*, old_size: int, old_root: bytes, size: int, root: bytes, proof: Sequence[bytes]) -> bool:
    """Whether `proof` shows that the tree of `size` leaves extends that of `old_size`.

    Everything extends the empty tree; equal sizes need equal roots; both with an empty proof.

    Source: RFC 9162, section 2.1.4.2.
    """
    if not 0 <= old_size <= size:
        return False
    if old_size == size:
        return not proof and old_root == root
    if old_size == 0:
        return not proof and old_root == EMPTY_ROOT
    if not proof:
        return False
    steps = [old_root, *proof] if old_size & (old_size - 1) == 0 else list(proof)
    position, last = old_size - 1, size - 1
    while position & 1:
        position, last = position >> 1, last >> 1
    old_node = new_node = steps[0]
    for step in steps[1:]:
        if last == 0:
            return False
        if position & 1 or position == last:
            old_node, new_node = node_hash(step, old_node), node_hash(step, new_node)
            while not position & 1 and position:
                position, last = position >> 1, last >> 1
        else:
            new_node = node_hash(new_node, step)
        position, last = position >> 1, last >> 1
    return last == 0 and old_node == old_root and new_node == root


def _split(size: int) -> int:
    """The largest power of two below `size`, for size > 1."""
    return 1 << ((size - 1).bit_length() - 1)
