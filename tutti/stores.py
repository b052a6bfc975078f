"""Opens `--store`: the database and the directory of key files beside it."""

from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import make_url
from sqlalchemy.exc import OperationalError, SQLAlchemyError

from contract.errors import ErrorCode, TuttiError
from server.keys import KeyDirectory
from server.store.signing import LedgerKey
from server.store.store import Store
from server.transcripts import TranscriptFolder


@contextmanager
def opened(store: str) -> Generator[tuple[Store, KeyDirectory]]:
    """The store and its key directory, closed at the end.

    Raises:
      TuttiError: SCHEMA_MISMATCH if another version wrote it; UNAVAILABLE if there can be none, or it fails.
    """
    try:
        database = Store.open(store)
    except (OSError, SQLAlchemyError, ModuleNotFoundError) as error:
        raise TuttiError(ErrorCode.UNAVAILABLE, f"{_shown(store)} cannot be opened: {_reason(error)}") from None
    try:
        yield database, KeyDirectory(directory(store) / "keys")
    except OperationalError as error:
        raise TuttiError(ErrorCode.UNAVAILABLE, f"{_shown(store)} failed: {_reason(error)}") from None
    finally:
        database.close()


@contextmanager
def existing(store: str) -> Generator[tuple[Store, KeyDirectory]]:
    """The same of a store that is there, for commands that read: a name that was mistyped makes no empty one, of which all is well.

    Raises:
      TuttiError: NOT_FOUND if there is none.
    """
    file = _file(store)
    if file is not None and not file.is_file():
        detail = (
            f"{_shown(store)} is not there: name another with --store or TUTTI_STORE, or make one with `tutti run TASK.yaml`"
        )
        raise TuttiError(ErrorCode.NOT_FOUND, detail)
    with opened(store) as both:
        yield both


def _file(store: str) -> Path | None:
    """SQLite's file; None for a server's database, which somebody made, and for what cannot be opened anyway."""
    if "://" not in store:
        return None if Path(store).is_file() else Path(store) / "tutti.db"
    try:
        url = make_url(store)
    except SQLAlchemyError:
        return None  # told when it is opened
    file = Path(url.database) if url.get_backend_name() == "sqlite" and url.database else None
    return file if file is not None and file.parent.is_dir() else None


def _shown(store: str) -> str:
    # A database URL may hold a password.
    return "the database" if "://" in store else f"the store {store}"


def _reason(error: Exception) -> str:
    """The first line of what the system or the driver says.

    >>> _reason(FileExistsError(17, "File exists", "README.md"))
    'File exists'
    """
    said = error.strerror if isinstance(error, OSError) and error.strerror else str(getattr(error, "orig", error))
    return said.splitlines()[0] if said else type(error).__name__


def directory(store: str) -> Path:
    """Where files that belong to a store but not into its database are kept."""
    return Path(".tutti").absolute() if "://" in store else Path(store).absolute()


def transcripts(store: str) -> TranscriptFolder:
    """Where the transcripts of a store's secure sums are kept until they expire."""
    return transcript_folder(directory(store))


def transcript_folder(beside: Path) -> TranscriptFolder:
    """The transcripts in the directory of a store."""
    return TranscriptFolder(beside / "transcripts")


def ledger_key(store: str) -> LedgerKey:
    """The key that signs the ledger of a store; made when it is first asked to sign."""
    return LedgerKey(directory(store), store=store)
