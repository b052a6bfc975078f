"""SQLite's log goes back into its database in the background, so that no round waits until its model is written a second time."""

import sqlite3
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

LEAST_BYTES = 4 << 20
"""Less is left for later."""
LAST_RESORT_PAGES = 4_000
"""Of 32 KB: a log of so many pages is written back by whoever commits, as SQLite does by itself, should the background not keep up."""


class Checkpoints:
    """Writes back the log of the database file at `path`.

    What is committed is in the log and on the disk before; a checkpoint only moves it, and one that fails or never comes loses nothing.
    """

    def __init__(self, path: Path) -> None:
        # Never makes a file: the store may be gone by then.
        self._address = f"file:{quote(str(path))}?mode=rw"
        self._written = 0
        self._running: Future[None] | None = None

    def begin(self, num_bytes: int) -> None:
        """Begins one if enough was committed since the last, `num_bytes` just now, and none is under way."""
        self._written += num_bytes
        if self._written >= LEAST_BYTES and (self._running is None or self._running.done()):
            self._written = 0
            thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="checkpoint")
            self._running = thread.submit(self._write_back)
            thread.shutdown(wait=False)  # ends with its one task: no thread is left over that a fork could lose

    def close(self) -> None:
        """Waits for the one that is under way."""
        if self._running is not None:
            self._running.result()

    def _write_back(self) -> None:
        try:
            with closing(sqlite3.connect(self._address, uri=True, timeout=0.0)) as connection:
                connection.execute("PRAGMA wal_checkpoint(PASSIVE)")
        except sqlite3.Error:
            return  # busy or gone: another model will ask again
