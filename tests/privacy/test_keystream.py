"""Keystreams: known answer, seeking, separation."""

import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from hypothesis import given
from hypothesis import strategies as st

from privacy.keystream import Keystream, derive_key

KEY = bytes(range(32))


def test_bytes_are_aes_256_ctr_under_the_derived_key():
    cipher = Cipher(algorithms.AES(derive_key(KEY, "x")), modes.ECB()).encryptor()
    blocks = b"".join(cipher.update((5).to_bytes(8, "big") + block.to_bytes(8, "big")) for block in range(3))
    assert Keystream(KEY, "x", 5).read(48) == blocks


def test_known_answer():
    assert Keystream(KEY, "vector", 7).read(16).hex() == "f45cbb5162ce6348f3ff6765cfb4c3e0"


@given(offset=st.integers(0, 100), sizes=st.lists(st.integers(0, 40), max_size=6))
def test_any_offset_and_any_cut_read_the_same_string(offset: int, sizes: list[int]):
    stream = Keystream(KEY, "cut", 1, offset=offset)
    assert b"".join(stream.read(size) for size in sizes) == Keystream(KEY, "cut", 1).read(offset + sum(sizes))[offset:]


def test_long_reads_equal_short_ones():
    long, short = Keystream(KEY, "long", 0), Keystream(KEY, "long", 0)
    assert long.read(1 << 20) == b"".join(short.read(1 << 16) for _ in range(16))


def test_words_are_little_endian():
    assert Keystream(KEY, "w", 0).words(2, np.uint16).tolist() == [
        int.from_bytes(Keystream(KEY, "w", 0).read(4)[i : i + 2], "little") for i in (0, 2)
    ]


def test_purposes_counters_and_keys_name_different_strings():
    streams = [Keystream(KEY, "a", 0), Keystream(KEY, "b", 0), Keystream(KEY, "a", 1), Keystream(KEY[::-1], "a", 0)]
    assert len({stream.read(16) for stream in streams}) == len(streams)


@pytest.mark.parametrize("wrong", [{"key": b"short"}, {"counter": -1}, {"counter": 1 << 64}, {"offset": -1}], ids=str)
def test_a_wrong_argument_is_named_and_the_key_is_not_shown(wrong: dict[str, object]):
    with pytest.raises(ValueError, match=r"must|bytes") as error:
        Keystream(**{"key": KEY, "purpose": "p", "counter": 0, **wrong})  # type: ignore[arg-type]
    assert KEY.hex() not in str(error.value)
    assert "short" not in str(error.value)
