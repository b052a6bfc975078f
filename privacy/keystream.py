"""Seekable AES-256-CTR keystreams: a key and (purpose, counter) name an unlimited string of bytes.

All noise, stochastic rounding and public rotations expand from here, so that a resumed run repeats the same noise and never
uses one stream for two things. Equal arguments give equal bytes on every machine (words are little-endian).
"""

import hashlib
import hmac
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from contract.counter_mode import CounterMode

KEY_BYTES = 32
_ZEROS = memoryview(bytes(1 << 18))
_BLOCK = 16
_Word = TypeVar("_Word", np.uint8, np.uint16, np.uint32, np.uint64)


class Keystream:
    """The bytes named by (key, purpose, counter), read in order from `offset`.

    Streams of different purposes have independent AES keys (HMAC-SHA256 of the purpose under `key`); streams of different
    counters under one purpose use disjoint halves of the CTR space, 2^64 blocks each.

    Args:
      key: 32 secret bytes.
      purpose: what the bytes are for; any text.
      counter: 0 to 2^64 - 1.
      offset: first byte to read.

    Guarantee:
      Indistinguishable from independent uniform bytes as long as AES-256 and HMAC-SHA256 are pseudorandom functions.

    Source: NIST SP 800-38A, section 6.5 (CTR); SP 800-108r1, section 4.1 (one block of the counter-mode KDF).

    >>> Keystream(bytes(32), "doc", 0).read(4) == Keystream(bytes(32), "doc", 0).read(4)
    True
    >>> Keystream(bytes(32), "doc", 0, offset=3).read(5) == Keystream(bytes(32), "doc", 0).read(8)[3:]
    True
    """

    def __init__(self, key: bytes, purpose: str, counter: int, *, offset: int = 0) -> None:
        if len(key) != KEY_BYTES:
            raise ValueError(f"a key has {KEY_BYTES} bytes, not {len(key)}")
        if not 0 <= counter < 1 << 64:
            raise ValueError(f"counter must lie in [0, 2^64), not {counter}")
        if offset < 0:
            raise ValueError(f"offset must not be negative, not {offset}")
        block, skip = divmod(offset, _BLOCK)
        start = counter.to_bytes(8, "big") + block.to_bytes(8, "big")
        self._cipher = CounterMode(derive_key(key, purpose), start)
        if skip:
            self._cipher.update(bytes(skip))

    def read(self, num_bytes: int) -> bytes:
        """The next `num_bytes` bytes."""
        if num_bytes <= len(_ZEROS):
            return self._cipher.update(_ZEROS[:num_bytes])
        parts = [self._cipher.update(_ZEROS[: min(len(_ZEROS), num_bytes - at)]) for at in range(0, num_bytes, len(_ZEROS))]
        return b"".join(parts)

    def words(self, num_words: int, dtype: type[_Word]) -> NDArray[_Word]:
        """The next `num_words` unsigned words of type `dtype`, shape (num_words,)."""
        words = np.empty(num_words, np.dtype(dtype).newbyteorder("<"))
        self.fill(words.view(np.uint8))
        return words.view(dtype)

    def fill(self, target: NDArray[np.uint8]) -> None:
        """Overwrites `target`, shape (n,) and contiguous, with the next n bytes."""
        for start in range(0, len(target), len(_ZEROS)):
            part = target[start : start + len(_ZEROS)].data
            self._cipher.update_into(_ZEROS[: len(part)], part)

    def integer(self, bits: int) -> int:
        """A uniform integer below 2^bits; `bits` is a multiple of 8."""
        return int.from_bytes(self.read(bits // 8), "little")


def derive_key(key: bytes, purpose: str) -> bytes:
    """32 bytes that depend on `key` and `purpose` alone.

    >>> derive_key(bytes(32), "a") != derive_key(bytes(32), "b")
    True
    """
    return hmac.digest(key, b"\x01tutti keystream\x00" + purpose.encode() + b"\x00\x01\x00", hashlib.sha256)
