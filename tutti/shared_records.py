"""Participation records that the runs of one population share: the same devices, one cap, one separation across its tasks.

Each run gets a range of the population's indices of its own, as long as the run, behind all that were given out before; so a device's
last participation means the same to every task. One run at a time plays on shared records.
"""

from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from client_sim.records import ParticipationRecords
from contract.errors import ErrorCode, TuttiError
from server.store.store import Store
from server.store.values import Run
from tutti import exclusive

_MOST_RUNS = 100_000


def next_index(database: Store, population: str, *, data_digest: str) -> int:
    """The first index of a new run of the population.

    Raises:
      TuttiError: DATA_INVALID if the records are of other devices than those of this data.
    """
    runs = _sharing(database, population)
    if any(run.settings["data_digest"] != data_digest for run in runs):
        detail = f"the shared records of population {population} are of the devices in other data than this"
        raise TuttiError(ErrorCode.DATA_INVALID, detail)
    return max((run.settings["shared_records"] + run.spec.rounds for run in runs), default=0)


def require_last(database: Store, run: Run) -> None:
    """Refuses to go on with a run after which others used the records: a fleet is put back as a whole, and their charges would be lost.

    Raises:
      TuttiError: RUN_STATE.
    """
    mine = run.settings.get("shared_records")
    if mine is not None and any(other.settings["shared_records"] > mine for other in _sharing(database, run.spec.population)):
        detail = f"run {run.id[:12]} cannot go on: later runs took part with the devices that it shares"
        raise TuttiError(ErrorCode.RUN_STATE, detail)


def records_of(run: Run, *, num_devices: int, path: Path) -> ParticipationRecords:
    """The records that a run's devices keep: the population's, or its own."""
    shared = run.settings.get("shared_records")
    if shared is None:
        return ParticipationRecords(num_devices=num_devices, path=path, scope=run.id)
    return ParticipationRecords(
        num_devices=num_devices, path=path, scope=f"population {run.spec.population}", first_index=shared
    )


@contextmanager
def held(directory: Path, population: str | None) -> Generator[None]:
    """Keeps others from playing on the shared records of a population; nothing for None.

    Raises:
      TuttiError: LEASE_HELD if another run does.
    """
    if population is None:
        yield
        return
    detail = f"another run plays on the shared device records of population {population}"
    with exclusive.held(directory / f"records-{population}.lock", otherwise=detail):
        yield


def _sharing(database: Store, population: str) -> list[Run]:
    found = database.lists.page(limit=_MOST_RUNS, populations={population})
    return [run for run in found if run.settings.get("shared_records") is not None]
