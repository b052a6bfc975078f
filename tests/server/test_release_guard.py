"""The guard beside the noise key: a database put back to an earlier backup cannot make the same noise serve other data."""

import os
from pathlib import Path

import pytest

from contract.errors import ErrorCode, TuttiError
from server.keys import KeyDirectory, NoiseKey


def test_the_same_sum_may_be_released_again_and_another_may_not(tmp_path: Path) -> None:
    keys = KeyDirectory(tmp_path)
    keys.create("run", NoiseKey(bytes(32)))
    keys.mark_release("run", 0, "a")
    keys.mark_release("run", 3, "b")
    keys.mark_release("run", 3, "b")
    for leaf, seal in ((3, "c"), (2, "b"), (0, "a")):
        with pytest.raises(TuttiError) as refused:
            keys.mark_release("run", leaf, seal)
        assert refused.value.code is ErrorCode.RUN_STATE
    keys.mark_release("run", 4, "d")


def test_the_guard_goes_with_the_key(tmp_path: Path) -> None:
    keys = KeyDirectory(tmp_path)
    keys.create("run", NoiseKey(bytes(32)))
    keys.mark_release("run", 0, "a")
    keys.destroy("run")
    assert list(tmp_path.iterdir()) == []


def test_one_of_two_records_is_always_whole(tmp_path: Path) -> None:
    keys, kept = KeyDirectory(tmp_path), tmp_path / "run.released"
    keys.create("run", NoiseKey(bytes(32)))
    for leaf in range(5):
        before = kept.read_bytes() if kept.exists() else b""
        keys.mark_release("run", leaf, f"seal{leaf}")
        halves = [(before[start : start + 128], kept.read_bytes()[start : start + 128]) for start in (0, 128)]
        assert sum(old == new for old, new in halves) == (leaf > 0)
        with pytest.raises(TuttiError, match=f"noise of leaf {leaf} of run run"):
            keys.mark_release("run", leaf, "another")


def test_a_torn_record_is_that_of_noise_that_was_not_used(tmp_path: Path) -> None:
    keys, kept = KeyDirectory(tmp_path), tmp_path / "run.released"
    keys.create("run", NoiseKey(bytes(32)))
    for leaf in (0, 1, 2):
        keys.mark_release("run", leaf, f"seal{leaf}")
    content = bytearray(kept.read_bytes())
    newest = content.index(b"seal2")
    content[newest : newest + 5] = b"\0\0\0\0\0"
    kept.write_bytes(bytes(content))
    with pytest.raises(TuttiError, match="noise of leaf 1"):
        keys.mark_release("run", 1, "another")
    keys.mark_release("run", 2, "after the crash")
    with pytest.raises(TuttiError, match="noise of leaf 2"):
        keys.mark_release("run", 2, "seal2")


def test_noise_whose_record_was_written_in_part_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keys, whole = KeyDirectory(tmp_path), os.pwrite
    keys.create("run", NoiseKey(bytes(32)))
    keys.mark_release("run", 0, "a")

    def half(descriptor: int, data: bytes, offset: int) -> int:
        return whole(descriptor, data[:64], offset)

    monkeypatch.setattr(os, "pwrite", half)
    with pytest.raises(OSError, match="64 of 128 bytes"):
        keys.mark_release("run", 1, "b")


def test_a_guard_of_the_older_form_counts(tmp_path: Path) -> None:
    keys = KeyDirectory(tmp_path)
    keys.create("run", NoiseKey(bytes(32)))
    (tmp_path / "run.released").write_text("7 abc", encoding="ascii")
    with pytest.raises(TuttiError, match="noise of leaf 7"):
        keys.mark_release("run", 7, "abd")
    keys.mark_release("run", 7, "abc")
    keys.mark_release("run", 8, "abd")
    with pytest.raises(TuttiError, match="noise of leaf 8"):
        keys.mark_release("run", 7, "abc")


@pytest.mark.parametrize("content", [b"", b"\0" * 256, b"\0" * 100, b"x" * 256])
def test_a_damaged_guard_lets_no_noise_out(tmp_path: Path, content: bytes) -> None:
    keys = KeyDirectory(tmp_path)
    keys.create("run", NoiseKey(bytes(32)))
    (tmp_path / "run.released").write_bytes(content)
    with pytest.raises(TuttiError, match="is damaged"):
        keys.mark_release("run", 0, "a")
