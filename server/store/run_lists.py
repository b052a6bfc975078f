"""Lists over runs, each bounded in the database: a page of runs, tasks that have been run, counts by population."""

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from sqlalchemy import ColumnElement, and_, func, or_, select

from contract import task
from contract.task import TaskSpec
from server.store.engine import Transactions
from server.store.tables import RunRow
from server.store.values import Run, RunState

_NEWEST = (RunRow.created_at.desc(), RunRow.ordinal.desc(), RunRow.id.desc())


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskTally:
    """A task that has been run `runs` times."""

    spec: TaskSpec
    digest: str
    runs: int
    newest_run: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RunCounts:
    """Runs of a population, and how many of them go on."""

    runs: int = 0
    running: int = 0


class RunLists:
    """The lists of one store.

    Args of all: `populations` limits what is listed; None for all of them.
    """

    def __init__(self, transactions: Transactions) -> None:
        self._transactions = transactions

    def page(
        self,
        *,
        limit: int | None,
        before: str | None = None,
        populations: Collection[str] | None = None,
        state: RunState | None = None,
    ) -> list[Run]:
        """At most `limit` runs (all of them for None), the newest first, older than the run with the id `before`."""
        query = select(RunRow).where(*_within(populations)).order_by(*_NEWEST).limit(limit)
        if state is not None:
            query = query.where(RunRow.state == state.value)
        with self._transactions.read() as session:
            last = None if before is None else session.get(RunRow, before)
            if before is not None and last is None:
                return []
            if last is not None:
                same_time = and_(RunRow.created_at == last.created_at, RunRow.ordinal < last.ordinal)
                same_ordinal = and_(RunRow.created_at == last.created_at, RunRow.ordinal == last.ordinal, RunRow.id < last.id)
                query = query.where(or_(RunRow.created_at < last.created_at, same_time, same_ordinal))
            return [run_of(row) for row in session.scalars(query)]

    def named(self, name: str) -> list[Run]:
        """The newest run for `latest`, else at most two runs whose ids begin with `name`."""
        query = select(RunRow).order_by(*_NEWEST).limit(1 if name == "latest" else 2)
        if name != "latest":
            query = query.where(RunRow.id.startswith(name, autoescape=True))
        with self._transactions.read() as session:
            return [run_of(row) for row in session.scalars(query)]

    def tasks(
        self,
        *,
        limit: int | None = None,
        after: str = "",
        populations: Collection[str] | None = None,
        digest: str | None = None,
    ) -> list[TaskTally]:
        """Tasks that have been run, by digest, from after the digest `after` on."""
        counted = select(RunRow.task_digest, func.count()).where(RunRow.task_digest > after, *_within(populations))
        if digest is not None:
            counted = counted.where(RunRow.task_digest == digest)
        counted = counted.group_by(RunRow.task_digest).order_by(RunRow.task_digest).limit(limit)
        found: list[TaskTally] = []
        with self._transactions.read() as session:
            for name, runs in session.execute(counted).all():
                newest = session.scalars(
                    select(RunRow).where(RunRow.task_digest == name, *_within(populations)).order_by(*_NEWEST).limit(1)
                ).one()
                found.append(TaskTally(spec=run_of(newest).spec, digest=name, runs=runs, newest_run=newest.id))
        return found

    def counts(self, *, populations: Collection[str] | None = None) -> Mapping[str, RunCounts]:
        """By population."""
        query = select(RunRow.population, RunRow.state, func.count()).where(*_within(populations))
        found: dict[str, RunCounts] = {}
        with self._transactions.read() as session:
            for population, state, count in session.execute(query.group_by(RunRow.population, RunRow.state)):
                known = found.get(population, RunCounts())
                running = known.running + (count if state == RunState.RUNNING.value else 0)
                found[population] = RunCounts(runs=known.runs + count, running=running)
        return found


def run_of(row: RunRow) -> Run:
    """A row as a value of the domain."""
    return Run(
        id=row.id, spec=task.parse_mapping(json.loads(row.spec)), ordinal=row.ordinal, settings=json.loads(row.settings),
        state=RunState(row.state), next_round=row.next_round, next_leaf=row.next_leaf, attempts=row.attempts,
        noise_key_id=row.noise_key_id, created_at=row.created_at,
    )  # fmt: skip


def _within(populations: Collection[str] | None) -> list[ColumnElement[bool]]:
    return [] if populations is None else [RunRow.population.in_(populations)]
