"""Keys, shares, masks and lanes do what their definitions say."""

import hashlib
import hmac

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contract.entropy import system_entropy
from contract.randomness import stream
from secagg import MaskCipher, Vector, VectorKind, keys, masks, packing, shamir
from secagg.hashing import encode
from secagg.masks import Mask


def test_every_point_of_low_order_is_known_and_gives_nothing():
    # Points of order 1, 2, 4, 8 on curve and twist, by brute force over the definition: 8 P = 0 means agreement gives zero.
    p = 2**255 - 19
    pair = keys.generate(system_entropy)
    for raw in keys._LOW_ORDER:
        assert keys.is_low_order(raw)
        assert pair.agree(raw) is None
        assert keys.is_low_order(raw[:31] + bytes([raw[31] | 0x80]))
    values = {int.from_bytes(raw, "little") % p for raw in keys._LOW_ORDER}
    assert values == {0, 1, p - 1} | {v for v in values if v > 1}
    assert len(values) == 5
    for v in values - {0}:  # order 8: u^4 stays fixed under doubling to order 4, whose u is 1 or -1
        doubled = (v * v - 1) ** 2 * pow(4 * v * (v * v + 486662 * v + 1), -1, p) % p if (v * v + 486662 * v + 1) % p else 0
        assert doubled in {0, 1, p - 1}
    assert not keys.is_low_order(pair.public)


def test_agreement_is_mutual_and_keys_differ_by_label():
    one, other = keys.generate(system_entropy), keys.generate(system_entropy)
    assert one.agree(other.public) == other.agree(one.public)
    assert keys.from_scalar(one.scalar) == one
    with pytest.raises(ValueError, match="not clamped"):
        keys.from_scalar(one.scalar | 1)


def test_derivation_is_rfc_5869():
    secret, salt = bytes(range(32)), bytes(range(32, 64))
    info = encode("label", b"part")
    extracted = hmac.digest(salt, secret, hashlib.sha256)
    assert keys.derive(secret, salt, "label", b"part") == hmac.digest(extracted, info + b"\x01", hashlib.sha256)


@settings(deadline=None, max_examples=50)
@given(data=st.data(), n=st.integers(1, 12), secret=st.integers(0, shamir.PRIME - 1))
def test_any_threshold_of_shares_gives_the_secret_back(data, n, secret):
    t = data.draw(st.integers(1, n))
    coordinates = data.draw(st.lists(st.integers(1, 2000), min_size=n, max_size=n, unique=True))
    shares = shamir.split(secret, t, coordinates, system_entropy)
    chosen = data.draw(st.permutations(range(n)))[:t]
    assert shamir.combine([coordinates[i] for i in chosen], [shares[i] for i in chosen]) == secret


def test_one_share_too_few_says_nothing():
    # For every candidate secret there is exactly one polynomial through t - 1 shares.
    shares = shamir.split(5, 3, [1, 2, 3, 4], system_entropy)
    for candidate in (0, 1, 2**255):
        third = shamir.combine([3, 1, 2], [0, shares[0], shares[1]])
        weight = shamir.at_zero((3, 1, 2))[0]
        fitting = (candidate - third) * pow(weight, -1, shamir.PRIME) % shamir.PRIME
        assert shamir.combine([3, 1, 2], [fitting, shares[0], shares[1]]) == candidate


@pytest.mark.parametrize(
    ("secret", "t", "coordinates"),
    [(1, 0, [1]), (1, 2, [1]), (1, 1, [1, 1]), (1, 1, [0]), (1, 1, [2**32]), (-1, 1, [1]), (shamir.PRIME, 1, [1])],
)
def test_sharing_out_of_range_is_an_error(secret, t, coordinates):
    with pytest.raises(ValueError, match=r"threshold|coordinates|element"):
        shamir.split(secret, t, coordinates, system_entropy)


def test_elements_beyond_the_prime_are_drawn_again():
    drawn = iter([b"\xff" * 32, (shamir.PRIME).to_bytes(32, "little"), (shamir.PRIME - 1).to_bytes(32, "little")])
    assert shamir.random_element(lambda n: next(drawn)) == shamir.PRIME - 1


def is_probable_prime(n: int) -> bool:
    return all(pow(a, n - 1, n) == 1 for a in (2, 3, 5, 7, 11, 13))


def test_field_is_the_largest_prime_below_2_to_256():
    assert is_probable_prime(shamir.PRIME)
    assert not any(is_probable_prime(n) for n in range(shamir.PRIME + 2, 2**256, 2))


@pytest.mark.parametrize("cipher", list(MaskCipher))
@pytest.mark.parametrize("length", [1, 8, masks.SLICE_WORDS, 3 * masks.SLICE_WORDS + 13])
def test_mask_is_the_plain_keystream_whatever_the_threads(cipher, length):
    key = system_entropy(32)
    whole = np.frombuffer(masks.keystream(key, cipher).update(bytes(8 * length)), dtype="<u8")
    start = stream(1, "words").integers(0, 2**63, length).astype(np.uint64)
    for threads in (1, 2, 5):
        words = start.copy()
        masks.apply(words, [Mask(key, add=True)], cipher, threads=threads)
        assert (words == start + whole).all()
        masks.apply(words, [Mask(key, add=False)], cipher, threads=threads)
        assert (words == start).all()


@pytest.mark.parametrize("cipher", list(MaskCipher))
def test_streams_are_seekable(cipher):
    key = system_entropy(32)
    whole = masks.keystream(key, cipher).update(bytes(8 * 400))
    assert masks.keystream(key, cipher, first_word=128).update(bytes(8 * 272)) == whole[1024:]


def test_many_masks_go_through_in_batches():
    keys_ = [system_entropy(32) for _ in range(600)]
    words = np.zeros(20, dtype=np.uint64)
    masks.apply(words, (Mask(key, add=True) for key in keys_), MaskCipher.AES_256_CTR)
    masks.apply(words, (Mask(key, add=False) for key in reversed(keys_)), MaskCipher.AES_256_CTR, threads=2)
    assert not words.any()


@settings(deadline=None)
@given(data=st.data(), lane_bits=st.integers(8, 32), length=st.integers(1, 40), devices=st.integers(1, 6))
def test_words_sum_as_integers_do(data, lane_bits, length, devices):
    bound = ((1 << (lane_bits - 1)) - 1) // devices
    vector = Vector(name="v", length=length, lane_bits=lane_bits, largest=max(bound, 1))
    inputs = [
        np.array(data.draw(st.lists(st.integers(-bound, bound), min_size=length, max_size=length)), dtype=np.int64)
        for _ in range(devices)
    ]
    words = sum(packing.pack((vector,), {"v": one}) for one in inputs)
    assert packing.unpack((vector,), words)["v"].tolist() == sum(inputs).tolist()
    # In plain integers: the definition of a word.
    count = vector.words
    plain = [
        sum(
            int(sum(one[j * count + w] for one in inputs)) << (lane_bits * j)
            for j in range(vector.lanes)
            if j * count + w < length
        )
        for w in range(count)
    ]
    assert [int(word) for word in words] == [value % 2**64 for value in plain]


@pytest.mark.parametrize("dtype", [np.int32, np.int64])
def test_both_integer_types_pack_alike(dtype):
    vector = Vector(name="v", length=5, lane_bits=12, largest=2000)
    values = np.array([-2000, 2000, -1, 0, 7], dtype=dtype)
    assert packing.unpack((vector,), packing.pack((vector,), {"v": values}))["v"].tolist() == values.tolist()


def test_equal_integer_sums_give_equal_words_even_when_lanes_overflow():
    vector = Vector(name="v", length=9, lane_bits=8, kind=VectorKind.MODULAR, largest=10**6)
    rng = stream(5, "cohorts")
    first = [rng.integers(-(10**5), 10**5, 9) for _ in range(4)]
    shift = rng.integers(-(10**5), 10**5, (3, 9))
    second = [first[0] + shift[0], first[1] - shift[0] + shift[1], first[2] - shift[1] + shift[2], first[3] - shift[2]]
    words = [sum(packing.pack((vector,), {"v": one}) for one in cohort) for cohort in (first, second)]
    assert (words[0] == words[1]).all()


def test_largest_word_is_reached():
    vector = Vector(name="v", length=1, lane_bits=8, largest=1)
    assert int(packing.pack((vector,), {"v": np.array([-1])})[0]) == 2**64 - 1


def test_modular_lanes_overflow_at_the_predicted_rate_and_decode_within_the_stated_error():
    # Sums of 200,000 lanes, Gaussian of deviation 50 rounded, lanes of 8 bits: P[|X| leaves the lane] = 0.0105. The band is six deviations
    # of a binomial count: false alarm below 1e-8.
    vector = Vector(name="v", length=200_000, lane_bits=8, kind=VectorKind.MODULAR, largest=10**4)
    exact = np.rint(stream(7, "overflow").normal(0.0, 50.0, vector.length)).astype(np.int64)
    decoded = packing.unpack((vector,), packing.pack((vector,), {"v": exact}))["v"]
    wraps = (exact + 128) // 256
    rate, predicted = float((wraps != 0).mean()), 0.01075
    assert abs(rate - predicted) < 6 * (predicted / vector.length) ** 0.5
    assert rate <= packing.overflow_bound(50.0, 8)
    # The stated error: a lane moves by the wraps of the lane below it, and by a multiple of 2^8 where it overflows itself.
    count = vector.words
    below = np.concatenate([np.zeros(count, dtype=np.int64), wraps[:-count]])
    carried = exact + below
    assert (decoded == carried - 256 * ((carried + 128) // 256)).mean() > 0.999  # a carry may wrap a lane that was at its edge
    assert ((decoded - carried) % 256 == 0).mean() > 0.999
