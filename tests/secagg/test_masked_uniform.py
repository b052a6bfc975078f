"""What the server receives looks uniform: by frequency, and by the linear complexity of every bit of a word."""

import numpy as np
import pytest

from secagg import MaskCipher, Vector, choose
from secagg.messages import MaskedInput
from secagg.testing import context_of, run_round


@pytest.fixture(params=list(MaskCipher))
def masked_zeros(request) -> np.ndarray:
    """Masked vectors of devices that all submit zero, so that nothing but the masks can look random; shape (4, words)."""
    vector = Vector(name="v", length=3 * 8192, lane_bits=21, largest=10)
    asked = choose(roster_size=4, vectors=(vector,), corrupt_fraction=0.0, drop_fraction=0.0, cipher=request.param)
    words = []

    def keep(device, phase, message):
        if isinstance(message, MaskedInput):
            words.append(message.words)
        return message

    outcome = run_round(context_of(asked), {i: {"v": np.zeros(3 * 8192, dtype=np.int64)} for i in range(4)}, from_device=keep)
    assert not outcome.result.sums["v"].any()
    return np.array(words)


def test_bytes_are_uniform_by_chi_squared(masked_zeros):
    # 255 degrees of freedom: outside [156, 378] with probability about 2e-6 for each of the eight cohort members.
    for words in masked_zeros:
        counts = np.bincount(words.view(np.uint8), minlength=256)
        expected = counts.sum() / 256
        assert 156 < float(((counts - expected) ** 2 / expected).sum()) < 378


def test_words_of_two_devices_are_independent_by_chi_squared(masked_zeros):
    for bit in (0, 20, 21, 42, 63):
        planes = (masked_zeros >> np.uint64(bit)) & np.uint64(1)
        agree = float((planes[0] == planes[1]).mean())
        assert abs(agree - 0.5) < 6 * 0.5 / planes.shape[1] ** 0.5  # six deviations: 2e-9 each


def linear_complexity(bits: list[int]) -> int:
    """Berlekamp-Massey over GF(2), polynomials as Python integers."""
    c, b, length, gap = 1, 1, 0, 1
    reversed_seen = 0
    for n, bit in enumerate(bits):
        reversed_seen = (reversed_seen << 1) | bit
        if (c & reversed_seen & ((1 << (length + 1)) - 1)).bit_count() & 1:
            previous = c
            c ^= b << gap
            if 2 * length <= n:
                length, b, gap = n + 1 - length, previous, 1
            else:
                gap += 1
        else:
            gap += 1
    return length


def test_the_oracle_finds_a_shift_register():
    state, bits = 0b1001, []
    for _ in range(60):
        bits.append(state & 1)
        state = (state >> 1) | ((state ^ (state >> 1)) & 1) << 3
    assert linear_complexity(bits) == 4
    assert linear_complexity([0] * 20 + [1]) == 21


def test_every_bit_plane_has_the_linear_complexity_of_chance(masked_zeros):
    # For n random bits the profile stays within 2 log2 of n/2; P[|L - n/2| > 24] < 2^-46 for each plane.
    words = masked_zeros[0][:1024]
    for bit in range(64):
        plane = ((words >> np.uint64(bit)) & np.uint64(1)).tolist()
        assert abs(linear_complexity(plane) - 512) <= 24
