"""Audits that were asked for over REST: what they are, how far they are, what they found. Their jobs say who plays them."""

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import select

from contract.clock import wall_time
from contract.errors import ErrorCode, TuttiError
from server.store.engine import Transactions
from server.store.service_tables import AuditRow
from server.store.store import Store
from server.store.values import RunState


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedAudit:
    """An audit that passed its checks.

    Args:
      id: the digest of its specification and data: the same audit has the same id wherever it is run.
      spec: the audit file as JSON, its task spelled out.
      data_digests: of what its runs train on, canaries and all: they name its runs.
    """

    id: str
    name: str
    task: str
    population: str
    spec: Mapping[str, Any] = field(repr=False)
    data_digests: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Audit(PlannedAudit):
    """An audit on file. `progress` is empty until a runner has it; `result` is the audit's object once it ended."""

    progress: Mapping[str, Any]
    result: Mapping[str, Any] | None = field(repr=False)
    created_at: str


class Audits:
    """The audits of one store."""

    def __init__(self, transactions: Transactions) -> None:
        self._transactions = transactions

    def row(self, planned: PlannedAudit) -> AuditRow:
        """The row of a new audit, to be written together with its job."""
        return AuditRow(
            id=planned.id, name=planned.name, task=planned.task, population=planned.population, spec=json.dumps(dict(planned.spec)),
            data_digests=json.dumps(planned.data_digests), progress="{}", result=None,
            created_at=wall_time().isoformat(timespec="microseconds"),
        )  # fmt: skip

    def audit(self, name: str) -> Audit:
        """The audit whose id begins with `name`.

        Raises:
          TuttiError: NOT_FOUND if there is none, or more than one.
        """
        query = select(AuditRow).where(AuditRow.id.startswith(name, autoescape=True)).order_by(AuditRow.id).limit(2)
        with self._transactions.read() as session:
            found = [_audit(row) for row in session.scalars(query)]
        if len(found) != 1:
            raise TuttiError(ErrorCode.NOT_FOUND, f"{'several audits start' if found else 'no audit starts'} with {name!r}")
        return found[0]

    def page(self, *, limit: int, before: str | None = None, populations: Collection[str] | None = None) -> list[Audit]:
        """At most `limit` audits, the newest first, older than the one with the id `before`, of `populations` only if there are any."""
        query = select(AuditRow).order_by(AuditRow.created_at.desc(), AuditRow.id.desc()).limit(limit)
        if populations is not None:
            query = query.where(AuditRow.population.in_(populations))
        with self._transactions.read() as session:
            last = None if before is None else session.get(AuditRow, before)
            if last is not None:
                older = (AuditRow.created_at == last.created_at) & (AuditRow.id < last.id)
                query = query.where((AuditRow.created_at < last.created_at) | older)
            return [_audit(row) for row in session.scalars(query)]

    def report(self, audit: str, progress: Mapping[str, Any]) -> None:
        """Puts down how far a runner is."""
        with self._transactions.begin() as session:
            session.get_one(AuditRow, audit).progress = json.dumps(dict(progress))

    def end(self, audit: str, result: Mapping[str, Any]) -> None:
        """Puts down what the audit found."""
        with self._transactions.begin() as session:
            session.get_one(AuditRow, audit).result = json.dumps(dict(result))


def abandon_runs(store: Store, audit: Audit) -> list[str]:
    """Cancels the runs that a cancelled audit leaves unfinished; their ids."""
    left = [
        run.id
        for run in store.lists.page(limit=1000, populations={audit.population}, state=RunState.RUNNING)
        if run.settings["data_digest"] in audit.data_digests
    ]
    for run in left:
        store.set_run_state(run, RunState.CANCELLED)
    return left


def _audit(row: AuditRow) -> Audit:
    return Audit(
        id=row.id, name=row.name, task=row.task, population=row.population, spec=json.loads(row.spec),
        data_digests=tuple(json.loads(row.data_digests)), progress=json.loads(row.progress),
        result=None if row.result is None else json.loads(row.result), created_at=row.created_at,
    )  # fmt: skip
