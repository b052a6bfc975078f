"""A file is there whole or not at all, wherever the process that writes it stops."""

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from server import whole_files
from server.keys import KeyDirectory, NoiseKey

STEPS = ("fchmod", "fsync", "link", "replace")


def stopped_at(step: str, monkeypatch: pytest.MonkeyPatch, write: Callable[[], None]) -> bool:
    """Whether a fork that dies when it comes to `os.<step>` came there."""

    def die(*_: Any) -> None:
        os._exit(7)

    child = os.fork()
    if child == 0:
        monkeypatch.setattr(os, step, die)
        write()
        os._exit(0)
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status) == 7


@pytest.mark.parametrize("step", STEPS)
def test_new_file_is_whole_or_not_there(step: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    stopped = stopped_at(step, monkeypatch, lambda: whole_files.create(path, b"content"))
    assert stopped == (step != "replace")
    assert path.exists() != stopped
    if stopped:
        whole_files.create(path, b"content")
    assert path.read_bytes() == b"content"


@pytest.mark.parametrize("step", STEPS)
def test_replaced_file_is_the_old_one_or_the_new_one(step: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"before")
    stopped = stopped_at(step, monkeypatch, lambda: whole_files.replace(path, b"after"))
    assert path.read_bytes() == (b"before" if stopped else b"after")


def test_file_that_is_there_stays(tmp_path: Path) -> None:
    whole_files.create(tmp_path / "file", b"first")
    with pytest.raises(FileExistsError):
        whole_files.create(tmp_path / "file", b"second")
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("file", b"first")]


@pytest.mark.parametrize("error", [errno.EPERM, errno.EOPNOTSUPP])
def test_where_there_are_no_hard_links_a_file_is_made_and_stays_all_the_same(
    error: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> None:
        raise OSError(error, "no links here")

    monkeypatch.setattr(os, "link", refuse)
    test_file_that_is_there_stays(tmp_path)


def test_mode_is_what_was_asked_for_whatever_the_umask(tmp_path: Path) -> None:
    whole_files.create(tmp_path / "secret", b"")
    whole_files.replace(tmp_path / "public", b"", mode=0o644)
    assert [(tmp_path / name).stat().st_mode & 0o777 for name in ("secret", "public")] == [0o600, 0o644]


@pytest.mark.parametrize("step", ["fchmod", "fsync", "link"])
def test_run_whose_registration_was_stopped_in_its_key_can_have_one(
    step: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys, key = KeyDirectory(tmp_path), NoiseKey(bytes(range(32)))
    assert stopped_at(step, monkeypatch, lambda: keys.create("run", key))
    keys.create("run", key)
    assert keys.read("run") == key
