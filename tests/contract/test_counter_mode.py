"""Counter mode: the same bytes whichever way they are made, wherever they are cut, and past the end of GCM's counter."""

import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from hypothesis import given
from hypothesis import strategies as st

from contract import counter_mode
from contract.counter_mode import CounterMode

KEY = bytes(range(32))


def plainly(start: bytes, num_bytes: int) -> bytes:
    """Block by block, by the definition."""
    first, cipher = int.from_bytes(start, "big"), Cipher(algorithms.AES(KEY), modes.ECB()).encryptor()
    counters = range(first, first + -(-num_bytes // 16))
    return b"".join(cipher.update((counter % (1 << 128)).to_bytes(16, "big")) for counter in counters)[:num_bytes]


@pytest.fixture(params=[True, False], ids=["by GCM", "by counter mode"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    monkeypatch.setattr(counter_mode, "gcm_is_faster", lambda: request.param)
    return bool(request.param)


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize(
    "start", [bytes(16), bytes(range(12)) + bytes(4), bytes(range(16)), b"\xff" * 16, b"\xff" * 12 + bytes(4)]
)
def test_bytes_are_those_of_the_definition(start: bytes) -> None:
    assert CounterMode(KEY, start).update(bytes(1000)) == plainly(start, 1000)


@pytest.mark.usefixtures("way")
def test_a_counter_block_has_16_bytes() -> None:
    with pytest.raises(ValueError, match="16 bytes, not 12"):
        CounterMode(KEY, bytes(12))


@given(sizes=st.lists(st.integers(0, 70), max_size=8), into=st.booleans(), gcm=st.booleans(), longest=st.integers(1, 200))
def test_any_cut_reads_the_same_string_also_beyond_the_limit_of_gcm(
    sizes: list[int], into: bool, gcm: bool, longest: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(counter_mode, "gcm_is_faster", lambda: gcm)
        patch.setattr(counter_mode, "_LONGEST_BYTES", longest)
        stream, found = CounterMode(KEY, bytes(range(12)) + bytes(4)), b""
        for size in sizes:
            target = bytearray(size)
            if into:
                stream.update_into(bytes(size), memoryview(target))
            found += bytes(target) if into else stream.update(bytes(size))
    assert found == plainly(bytes(range(12)) + bytes(4), sum(sizes))


def test_the_choice_is_made_once() -> None:
    assert counter_mode.gcm_is_faster() is counter_mode.gcm_is_faster()
