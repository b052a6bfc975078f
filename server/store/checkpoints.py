"""SQLite's log goes back into its database in the background, so that no round waits until its model is written a second time."""

import sqlite3
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

LEAST_BYTES = 4 << 20
"""Shorter logs are left alone."""
LAST_RESORT_PAGES = 4_000
"""Of 32 KB: a log of so many pages is written back by whoever commits, as SQLite does by itself, should the background not keep up."""


class Checkpoints:
    """Writes back the log of the database file at `path`.

    What is committed is in the log and on the disk before; a checkpoint only moves it, and one that fails or never comes loses nothing.
    """

    def __init__(self, path: Path) -> None:
        self._log = path.with_name(path.name + "-wal")
        # Never makes a file: the store may be gone by then.
        self._address = f"file:{quote(str(path))}?mode=rw"
        self._running: Future[None] | None = None

    def begin(self) -> None:
        """Begins one if the log is long and none is under way."""
        if (self._running is None or self._running.done()) and self._length() >= LEAST_BYTES:
            thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="checkpoint")
            self._running = thread.submit(self._write_back)
            thread.shutdown(wait=False)  # ends with its one task: no thread is left over that a fork could lose

    def close(self) -> None:
        """Waits for the one that is under way."""
        if self._running is not None:
            self._running.result()

    def _length(self) -> int:
        try:
            return self._log.stat().st_size
        except OSError:
            return 0

    def _write_back(self) -> None:
        try:
            with closing(sqlite3.connect(self._address, uri=True, timeout=0.0)) as connection:
                connection.execute("PRAGMA wal_checkpoint(PASSIVE)")
        except sqlite3.Error:
            return  # busy or gone: the next model asks again
