"""Masks: keystreams of 64-bit words under one-time keys, added or subtracted in place.

The vector is worked through in slices that stay in the cache, and each slice takes all its masks before the next; ciphers keep
their place from slice to slice. Both ciphers are seekable, so threads take separate ranges of the same masks.
"""

import itertools
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, CipherContext, algorithms
from numpy.typing import NDArray

from contract.counter_mode import CounterMode
from secagg.parameters import MaskCipher

SLICE_WORDS = 1 << 15
"""Words of a slice: 256 KiB, of which accumulator, keystream and zeros fit a core's second-level cache together."""
_BLOCK_WORDS = 8
"""Words between places to which both ciphers can seek: 64 bytes, a ChaCha20 block, four AES blocks."""
_AT_ONCE = 256
_ZEROS = bytes(8 * SLICE_WORDS)


@dataclass(frozen=True, slots=True)
class Mask:
    """One mask over a vector: the keystream of `key`, added or subtracted modulo 2^64. The key serves this one vector alone."""

    key: bytes = field(repr=False)
    add: bool


def apply(words: NDArray[np.uint64], masks: Iterable[Mask], cipher: MaskCipher, *, threads: int = 1) -> None:
    """Adds all `masks` to `words`, uint64, shape (n,), in place. Memory is a slice a thread, whatever the number of masks.

    >>> words = np.zeros(3, dtype=np.uint64)
    >>> apply(words, [Mask(bytes(32), True), Mask(bytes(32), False)], MaskCipher.AES_256_CTR)
    >>> words.tolist()
    [0, 0, 0]
    """
    ranges = _ranges(len(words), threads)
    if len(ranges) == 1:
        for batch in _batches(masks):
            _apply_range(words, batch, cipher, ranges[0])
        return
    with ThreadPoolExecutor(max_workers=len(ranges)) as pool:
        for batch in _batches(masks):
            for _ in pool.map(partial(_apply_range, words, batch, cipher), ranges):
                pass


def keystream(key: bytes, cipher: MaskCipher, first_word: int = 0) -> CounterMode | CipherContext:
    """The encryptor whose output over zeros is the mask of `key` from `first_word`, a multiple of 8, on."""
    first_byte = 8 * first_word
    if cipher is MaskCipher.AES_256_CTR:
        return CounterMode(key, (first_byte // 16).to_bytes(16, "big"))
    nonce = (first_byte // 64).to_bytes(4, "little") + bytes(12)
    return Cipher(algorithms.ChaCha20(key, nonce), mode=None).encryptor()


def _apply_range(words: NDArray[np.uint64], masks: Sequence[Mask], cipher: MaskCipher, bounds: tuple[int, int]) -> None:
    streams = [(keystream(mask.key, cipher, bounds[0]).update_into, np.add if mask.add else np.subtract) for mask in masks]
    raw = bytearray(8 * SLICE_WORDS)
    stream_words = np.frombuffer(raw, dtype=np.dtype("<u8"))
    for start in range(*bounds, SLICE_WORDS):
        part = words[start : min(start + SLICE_WORDS, bounds[1])]
        zeros = _ZEROS if len(part) == SLICE_WORDS else _ZEROS[: 8 * len(part)]
        target, mask_words = memoryview(raw)[: len(zeros)], stream_words[: len(part)]
        for update_into, combine in streams:
            update_into(zeros, target)
            combine(part, mask_words, out=part)


def _ranges(length: int, threads: int) -> list[tuple[int, int]]:
    step = -(-length // max(1, threads))
    step = max(SLICE_WORDS, -(-step // _BLOCK_WORDS) * _BLOCK_WORDS)
    return [(start, min(start + step, length)) for start in range(0, length, step)]


def _batches(masks: Iterable[Mask]) -> Iterator[list[Mask]]:
    iterator = iter(masks)
    while batch := list(itertools.islice(iterator, _AT_ONCE)):
        yield batch
