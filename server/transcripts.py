"""Transcripts of secure aggregation, kept for a while beside the store, and their check against the digests in the ledger.

The ledger holds a digest for ever; the transcript itself, one-time keys and signatures without any share or vector, is a file until it
expires. Whoever has both, offline, sees whether every device of a round released at most one share of each neighbour.
"""

import json
import os
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any

from contract.clock import wall_time
from privacy.ledger.entries import EntryKind
from secagg import Transcript, audit, transcript_json
from secagg.parameter_json import group_round_id

KEPT_DAYS = 30
"""Days after which a transcript is removed; the report names the same number."""
MOST_FILES = 1_000
"""Transcripts of one run; beyond, the oldest are removed."""
KIND = EntryKind.SECAGG_TRANSCRIPT.value
_DAY_S = 86_400.0


class TranscriptState(Enum):
    """What became of a transcript whose digest is in the ledger."""

    SOUND = "sound"
    FAULTY = "faulty"
    NOT_KEPT = "not kept"


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckedTranscript:
    """One group of one round. `authority` is the key that certified its devices, hex, None if the transcript is not kept."""

    round: int
    group: int
    state: TranscriptState
    devices: int | None = None
    authority: str | None = None
    faults: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """For `--json`."""
        return {
            "round": self.round, "group": self.group, "state": self.state.value, "devices": self.devices, "authority": self.authority,
            "faults": list(self.faults),
        }  # fmt: skip


@dataclass(frozen=True, slots=True)
class TranscriptFolder:
    """The folder of one store, `transcripts/RUN/ROUND-GROUP.json`.

    Args:
      now_s: wall seconds, which the age of a file is held against.
    """

    directory: Path
    now_s: Callable[[], float] = field(default=lambda: wall_time().timestamp(), repr=False)

    def keep(self, run: str, round_index: int, group: int, transcript: Transcript, authority: bytes) -> None:
        """Writes a transcript, and removes what has expired of its run; with the first of a run, of all others too."""
        folder, now_s = self.directory / run, self.now_s()
        if not folder.is_dir():
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.expire()
        path = folder / _name(round_index, group)
        fresh = path.with_suffix(".writing")
        with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            file.write(transcript_json.encode(transcript, authority=authority))
        os.utime(fresh, (now_s, now_s))
        fresh.replace(path)
        _expire(folder, now_s)

    def read(self, run: str, round_index: int, group: int) -> bytes | None:
        """A transcript as it was written; None if it is not kept any more."""
        path = self.directory / run / _name(round_index, group)
        return path.read_bytes() if path.is_file() else None

    def expire(self) -> None:
        """Removes transcripts that are older than `KEPT_DAYS`, and of each run all but the newest `MOST_FILES`."""
        for folder in self.directory.iterdir() if self.directory.is_dir() else ():
            _expire(folder, self.now_s())


def check(
    bodies: Iterable[bytes], read: Callable[[str, int, int], bytes | None], *, authority: bytes | None = None
) -> list[CheckedTranscript]:
    """Holds transcripts against their entries.

    Args:
      bodies: entries of a run, of any kind.
      read: a transcript by run, round and group, as `encode` wrote it.
      authority: public key of the device authority as the auditor knows it; the one that is named beside the transcript unless given.
    """
    facts = (json.loads(body) for body in bodies)
    return [_checked(entry, read, authority) for entry in facts if entry["kind"] == KIND]


def _checked(
    entry: dict[str, Any], read: Callable[[str, int, int], bytes | None], authority: bytes | None
) -> CheckedTranscript:
    run, round_index, group = str(entry["run"]), int(entry["round"]), int(entry["group"])
    raw = read(run, round_index, group)
    if raw is None:
        return CheckedTranscript(round=round_index, group=group, state=TranscriptState.NOT_KEPT)
    try:
        transcript, told = transcript_json.decode(raw)
    except ValueError as error:
        return CheckedTranscript(round=round_index, group=group, state=TranscriptState.FAULTY, faults=(str(error),))
    faults = list(audit(transcript, authority or told, bytes.fromhex(entry["transcript"])))
    named = {group_round_id(run, round_index, group=group, groups=groups) for groups in (group + 1, group + 2)}
    if transcript.context.round_id not in named:
        faults.append(f"it is of {transcript.context.round_id}")
    return CheckedTranscript(
        round=round_index,
        group=group,
        state=TranscriptState.FAULTY if faults else TranscriptState.SOUND,
        devices=len(transcript.advertised),
        authority=(authority or told).hex(),
        faults=tuple(faults),
    )


def _expire(folder: Path, now_s: float) -> None:
    kept: list[tuple[float, Path]] = []
    for path in folder.glob("*.json"):
        with suppress(FileNotFoundError):  # another process removes what has expired, too
            kept.append((path.stat().st_mtime, path))
    kept.sort()
    for place, (written_s, path) in enumerate(kept):
        if written_s < now_s - KEPT_DAYS * _DAY_S or place < len(kept) - MOST_FILES:
            path.unlink(missing_ok=True)


def _name(round_index: int, group: int) -> str:
    return f"{round_index}-{group}.json"
