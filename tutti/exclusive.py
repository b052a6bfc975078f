"""What one process at a time may do, by locks on files: the system lets go of a lock when its holder ends, however it ends."""

import fcntl
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from contract.errors import ErrorCode, TuttiError
from server.jobs import Jobs
from server.store.store import Store
from server.store.values import Run, RunState


@contextmanager
def held(path: Path, *, otherwise: str) -> Generator[None]:
    """Keeps others from what the file at `path` stands for.

    Raises:
      TuttiError: LEASE_HELD, saying `otherwise`, if another process (or another part of this one) holds it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise TuttiError(ErrorCode.LEASE_HELD, otherwise) from None
        yield


@contextmanager
def playing(database: Store, directory: Path, run: Run, *, holder: str | None = None) -> Generator[None]:
    """Keeps every other process from playing `run`, which would train its round twice and find the fleet's journal ahead of the store.

    Args:
      directory: of the store; it is what processes of one machine share.
      holder: the runner that plays it, which has the lease of its job.

    Raises:
      TuttiError: LEASE_HELD if another process of this machine plays it, or a runner, wherever that is.
    """
    wait = f"wait until it ends, or let it stop after its round: `tutti runs pause {run.id[:12]}`"
    runner = Jobs(database.transactions).player(run.id)
    if runner not in (None, holder):
        raise TuttiError(
            ErrorCode.LEASE_HELD, f"run {run.id[:12]} is played by {runner}, which holds the lease of its job: {wait}"
        )
    lock = directory / "playing" / run.id
    with held(lock, otherwise=f"run {run.id[:12]} is being played by another process: {wait}"):
        yield
        if database.run(run.id).state in (RunState.COMPLETED, RunState.CANCELLED):
            lock.unlink(missing_ok=True)  # nobody plays it again, whoever may hold a lock on it
