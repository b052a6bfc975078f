"""Opens `--store`: the database and the directory of key files beside it."""

from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from server.keys import KeyDirectory
from server.store.signing import LedgerKey
from server.store.store import Store


@contextmanager
def opened(store: str) -> Generator[tuple[Store, KeyDirectory]]:
    """The store and its key directory, closed at the end.

    Raises:
      TuttiError: SCHEMA_MISMATCH if another version wrote it.
    """
    database = Store.open(store)
    try:
        yield database, KeyDirectory(directory(store) / "keys")
    finally:
        database.close()


def directory(store: str) -> Path:
    """Where files that belong to a store but not into its database are kept."""
    return Path(".tutti").absolute() if "://" in store else Path(store).absolute()


def ledger_key(store: str) -> LedgerKey:
    """The key that signs the ledger of a store; made when it is first asked to sign."""
    return LedgerKey(directory(store), store=store)
