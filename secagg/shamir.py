"""Shamir's secret sharing over the prime field of 2^256 - 189, with shares at the coordinates slot + 1.

Source: Shamir 1979 (doi:10.1145/359168.359176). Secrets and shares are integers below `PRIME`, 32 little-endian bytes on the wire.
"""

import functools
import math
from collections.abc import Sequence

from contract.entropy import Entropy

PRIME = 2**256 - 189
"""The largest prime below 2^256: every X25519 scalar and all but 2^-248 of 32 random bytes are elements."""
ELEMENT_BYTES = 32


def random_element(entropy: Entropy) -> int:
    """A uniform element of the field.

    >>> random_element(lambda n: bytes([7]) + bytes(n - 1))
    7
    """
    while True:
        element = int.from_bytes(entropy(ELEMENT_BYTES), "little")
        if element < PRIME:
            return element


def split(secret: int, threshold: int, coordinates: Sequence[int], entropy: Entropy) -> list[int]:
    """One share for each coordinate; any `threshold` of them give the secret back, fewer say nothing.

    Guarantee:
      Fewer than `threshold` shares are jointly uniform whatever the secret is, if `entropy` is.

    Raises:
      ValueError: for a threshold outside [1, number of coordinates], coordinates that repeat or are not in [1, 2^32), or a
        secret that is no element.
    """
    if not 1 <= threshold <= len(coordinates):
        raise ValueError(f"threshold must lie in [1, {len(coordinates)}], not {threshold}")
    if len(set(coordinates)) != len(coordinates) or not all(0 < x < 1 << 32 for x in coordinates):
        raise ValueError("coordinates must be different and lie in [1, 2^32)")
    if not 0 <= secret < PRIME:
        raise ValueError("the secret is no element of the field")
    polynomial = [random_element(entropy) for _ in range(threshold - 1)]
    return [_evaluate(secret, polynomial, x) for x in coordinates]


def combine(coordinates: Sequence[int], shares: Sequence[int]) -> int:
    """The secret behind the shares; all of them are used, so pass exactly `threshold`.

    >>> coins = iter(range(1, 100))
    >>> shares = split(42, 2, [1, 2, 3], lambda n: next(coins).to_bytes(n, "little"))
    >>> combine([1, 3], [shares[0], shares[2]])
    42
    """
    weights = at_zero(tuple(coordinates))
    return sum(w * s for w, s in zip(weights, shares, strict=True)) % PRIME


@functools.lru_cache(maxsize=4096)
def at_zero(coordinates: tuple[int, ...]) -> tuple[int, ...]:
    """Lagrange's weights for the value at zero; kept, since many secrets share their holders.

    >>> at_zero((1, 2)) == (2, PRIME - 1)
    True
    """
    product = math.prod(coordinates)
    denominators = [x * math.prod(y - x for y in coordinates if y != x) % PRIME for x in coordinates]
    return tuple(product * inverse % PRIME for inverse in _inverses(denominators))


def _inverses(elements: list[int]) -> list[int]:
    """Inverses of all elements by one inversion (Montgomery)."""
    prefixes = [1]
    for element in elements:
        prefixes.append(prefixes[-1] * element % PRIME)
    running = pow(prefixes[-1], -1, PRIME)
    inverses: list[int] = []
    for element, prefix in zip(reversed(elements), reversed(prefixes[:-1]), strict=True):
        inverses.append(running * prefix % PRIME)
        running = running * element % PRIME
    return inverses[::-1]


def _evaluate(constant: int, polynomial: list[int], x: int) -> int:
    value = 0
    for coefficient in reversed(polynomial):  # reduced once: x is small, and a long integer costs less than a division a step
        value = value * x + coefficient
    return (value * x + constant) % PRIME
