"""For which leaf and which sum a run's noise was used last, written beside its key before the noise is used.

Two records of fixed length take turns, so that writing one leaves the other whole and needs no new file; one that was torn by a crash
does not have its own check, and its noise was not used yet.
"""

import os
import zlib
from pathlib import Path

from contract.errors import ErrorCode, TuttiError
from server import whole_files

_RECORD_BYTES = 128


def mark(path: Path, leaf: int, seal: str) -> None:
    """Forces to the disk that the noise of `leaf` is about to be used for the sum of this seal.

    Guarantee: once this returns, no later call lets the noise of this leaf or of an earlier one serve another sum, a crash at any write
      included; the check sum tells a torn record, and is no defence against who may write the file (and so read the key).

    Raises:
      TuttiError: RUN_STATE if the noise of this leaf, or of a later one, was used for another sum, or the file says nothing.
    """
    kept = _records(path.read_bytes()) if path.exists() else []
    last = max((record for record in kept if record is not None), default=None)
    if kept and last is None:
        raise TuttiError(ErrorCode.RUN_STATE, f"{path} is damaged: nobody can tell what the run's noise was used for")
    if last is not None and (last[0] > leaf or (last[0] == leaf and last[1] != seal)):
        detail = (
            f"the noise of leaf {last[0]} of run {path.stem[:12]} was used for another sum: its database is older than its key"
        )
        raise TuttiError(ErrorCode.RUN_STATE, detail)
    if len(kept) == 2:
        _overwrite(path, 1 - kept.index(last), _record(leaf, seal))
    else:
        second = _record(leaf, seal)
        whole_files.replace(path, (second if last is None else _record(*last)) + second)


def _record(leaf: int, seal: str) -> bytes:
    said = f"{leaf} {seal}".encode("ascii")
    record = (said + f" {zlib.crc32(said):08x}".encode()).ljust(_RECORD_BYTES - 1) + b"\n"
    if len(record) != _RECORD_BYTES:
        raise ValueError(f"a seal of {len(seal)} characters does not fit its record")
    return record


def _records(content: bytes) -> list[tuple[int, str] | None]:
    """What both records say, None for a torn one; one record if the file is of the older form, which had nothing else."""
    if len(content) != 2 * _RECORD_BYTES:
        leaf, _, seal = content.partition(b" ")
        return [(int(leaf), seal.decode("ascii")) if leaf.isdigit() else None]
    return [_said(content[start : start + _RECORD_BYTES]) for start in (0, _RECORD_BYTES)]


def _said(record: bytes) -> tuple[int, str] | None:
    said, _, check = record.rstrip().rpartition(b" ")
    if f"{zlib.crc32(said):08x}".encode() != check:
        return None
    leaf, _, seal = said.decode("ascii").partition(" ")
    return int(leaf), seal


def _overwrite(path: Path, place: int, record: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY)
    try:
        written = os.pwrite(descriptor, record, place * _RECORD_BYTES)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    if written != len(record):  # a torn record stands for noise that was not used
        raise OSError(f"{path}: {written} of {len(record)} bytes were written")
