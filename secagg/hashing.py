"""Domain-separated SHA-256: equal digests mean equal labels and equal lists of parts."""

import functools
import hashlib

DIGEST_BYTES = 32
_DOMAIN = b"tutti secagg v1\x00"


def tagged_hash(label: str, *parts: bytes) -> bytes:
    """32 bytes that commit to `label` and to each of `parts`, their number and their borders.

    >>> tagged_hash("a", b"bc") != tagged_hash("a", b"b", b"c") != tagged_hash("ab", b"c")
    True
    """
    return hashlib.sha256(encode(label, *parts)).digest()


def encode(label: str, *parts: bytes) -> bytes:
    """The bytes that `tagged_hash` hashes: domain, label and parts, each behind its length in eight bytes.

    >>> encode("a", b"bc")[-10:]
    b'\\x02\\x00\\x00\\x00\\x00\\x00\\x00\\x00bc'
    """
    return _prefix(label) + b"".join([len(part).to_bytes(8, "little") + part for part in parts])


@functools.lru_cache(maxsize=64)
def _prefix(label: str) -> bytes:
    return _DOMAIN + len(label.encode()).to_bytes(8, "little") + label.encode()


def number(value: int) -> bytes:
    """A non-negative integer below 2^64 in eight bytes.

    >>> number(258)
    b'\\x02\\x01\\x00\\x00\\x00\\x00\\x00\\x00'
    """
    return value.to_bytes(8, "little")
