"""The key file of a run's central noise: 0600, outside the database, destroyed when the run ends.

The store holds the key's id (a hash) only. Whoever has this file can subtract the noise from the released models, so it never
enters a log, an entry or a backup of the store, and `destroy` overwrites it before it unlinks it.
"""

import hashlib
import os
from dataclasses import dataclass, field
from pathlib import Path

from contract.entropy import Entropy
from contract.errors import ErrorCode, TuttiError
from server import release_guard, whole_files

KEY_BYTES = 32


@dataclass(frozen=True, slots=True)
class NoiseKey:
    """256 bits and their public id."""

    secret: bytes = field(repr=False)

    @property
    def id(self) -> str:
        """Hex SHA-256 under a label, so that it says nothing about the key."""
        return hashlib.sha256(b"tutti noise key id\x00" + self.secret).hexdigest()


def seeded_key(seed: int, run: str) -> NoiseKey:
    """A key that anyone can repeat: for replays, whose report says that their guarantee is void."""
    return NoiseKey(hashlib.sha256(f"tutti seeded noise {seed} {run}".encode()).digest())


class KeyDirectory:
    """Key files of the runs of one store."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def create(self, run: str, key: NoiseKey) -> None:
        """Writes the key of a run, for its owner's eyes only: whole and on the disk, or not at all.

        Raises:
          TuttiError: CONFLICT if the run has one: a key is never replaced.
        """
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            whole_files.create(self._path(run), key.secret)
        except FileExistsError:
            detail = (
                f"{self._path(run)} is there already: another process registers the same task at this moment, or was stopped while "
                "it did. If `tutti runs list` does not know this run, remove the file"
            )
            raise TuttiError(ErrorCode.CONFLICT, detail) from None

    def read(self, run: str) -> NoiseKey:
        """The key of a run.

        Raises:
          TuttiError: RUN_STATE if the file is gone or others may read it.
        """
        path = self._path(run)
        try:
            mode, secret = path.stat().st_mode, path.read_bytes()
        except FileNotFoundError:
            raise TuttiError(ErrorCode.RUN_STATE, f"the noise key of run {run[:12]} is gone: it cannot go on") from None
        if mode & 0o077 or len(secret) != KEY_BYTES:
            raise TuttiError(ErrorCode.RUN_STATE, f"the noise key file of run {run[:12]} is damaged or readable by others")
        return NoiseKey(secret)

    def mark_release(self, run: str, leaf: int, seal: str) -> None:
        """Writes beside the key, before noise is used, for which leaf and which sum it is about to be used.

        A database that was put back to an earlier backup would otherwise let the same noise be used for other data: the key file does
        not go back with it.

        Raises:
          TuttiError: RUN_STATE if the noise of this leaf, or of a later one, was used for another sum.
        """
        release_guard.mark(self._path(run).with_suffix(".released"), leaf, seal)

    def destroy(self, run: str) -> None:
        """Overwrites and removes the key of a run; nothing happens if there is none."""
        path = self._path(run)
        if path.exists():
            with path.open("r+b") as file:
                file.write(bytes(KEY_BYTES))
                file.flush()
                os.fsync(file.fileno())
            path.unlink()
        path.with_suffix(".released").unlink(missing_ok=True)

    def _path(self, run: str) -> Path:
        return self._directory / f"{run}.key"


def fresh_key(entropy: Entropy) -> NoiseKey:
    """A new key from `entropy`."""
    return NoiseKey(entropy(KEY_BYTES))
