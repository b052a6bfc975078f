"""Mask keys: one for each mask of each vector, from what two devices agreed on or from a device's own seed."""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from secagg import keys, masks
from secagg.hashing import number
from secagg.masks import Mask
from secagg.parameters import Parameters, Vector


def pairwise_key(secret: bytes, ctx1: bytes, one: int, other: int, vector: Vector) -> bytes:
    """Key of the mask between two slots: the lower one adds it, the higher one subtracts it."""
    return keys.derive(secret, ctx1, "pairwise mask", number(min(one, other)), number(max(one, other)), *_form(vector))


def self_key(seed: bytes, ctx1: bytes, slot: int, vector: Vector) -> bytes:
    """Key of a device's own mask, which it adds."""
    return keys.derive(seed, ctx1, "self mask", number(slot), *_form(vector))


def device_masks(seed: bytes, secrets: Iterable[tuple[int, bytes]], ctx1: bytes, slot: int, vector: Vector) -> list[Mask]:
    """All masks of one device over one vector.

    Args:
      secrets: (neighbour's slot, secret agreed on) of the neighbours that shared keys.
    """
    own = [Mask(self_key(seed, ctx1, slot, vector), add=True)]
    return own + [Mask(pairwise_key(secret, ctx1, slot, peer, vector), add=slot < peer) for peer, secret in secrets]


def parts(parameters: Parameters, words: NDArray[np.uint64]) -> list[tuple[Vector, NDArray[np.uint64]]]:
    """Each vector with the view of its words."""
    found: list[tuple[Vector, NDArray[np.uint64]]] = []
    start = 0
    for vector in parameters.vectors:
        found.append((vector, words[start : start + vector.words]))
        start += vector.words
    return found


def mask(
    words: NDArray[np.uint64], parameters: Parameters, seed: bytes, secrets: list[tuple[int, bytes]], ctx1: bytes, slot: int
) -> None:
    """Adds all masks of one device to its packed vectors, in place."""
    for vector, part in parts(parameters, words):
        masks.apply(part, device_masks(seed, secrets, ctx1, slot, vector), parameters.cipher)


def _form(vector: Vector) -> tuple[bytes, ...]:
    return vector.name.encode(), number(vector.length), number(vector.lane_bits), vector.kind.value.encode()
