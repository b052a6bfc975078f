"""The store: every change is one transaction, and every change that has a privacy cost carries its ledger entry in the same one."""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from numpy.typing import NDArray
from sqlalchemy import Connection, func, select

from contract import canonical, task
from contract.clock import wall_time
from contract.errors import ErrorCode, TuttiError
from contract.task import TaskSpec
from privacy.ledger import merkle
from server.store import blobs, round_rows, schema
from server.store.engine import Transactions, database_url, open_engine
from server.store.leases import PopulationLeases
from server.store.ledger import Ledger
from server.store.run_lists import RunLists, run_of
from server.store.tables import ModelRow, RoundRow, RunRow
from server.store.values import Entry, Round, Run, RunState, StoredModel


class Store:
    """All that a server remembers between rounds. Nothing of a round is here before it is fully aggregated."""

    def __init__(self, transactions: Transactions) -> None:
        self._transactions = transactions
        self.leases = PopulationLeases(transactions)
        self.lists = RunLists(transactions)
        self.ledger = Ledger(transactions, allowed=self.leases.check)

    @classmethod
    def open(cls, store: str) -> "Store":
        """The store at a directory or database URL, made if there is none.

        Raises:
          TuttiError: SCHEMA_MISMATCH if it was written with another schema; `tutti db upgrade` mends an older one.
        """
        engine = open_engine(database_url(store))
        try:
            schema.require(engine, store=store)
        except TuttiError:
            engine.dispose()
            raise
        return cls(Transactions(engine))

    def close(self) -> None:
        """Gives the connections back."""
        self._transactions.close()

    @property
    def transactions(self) -> Transactions:
        """For the tables beside the runs and the ledger: jobs, tokens, requests."""
        return self._transactions

    # -- runs ------------------------------------------------------------------------------------------------------------------

    def next_run_id(self, spec: TaskSpec) -> tuple[str, int]:
        """The id and ordinal that the next run of this task gets."""
        with self._transactions.begin() as session:
            ordinal = session.scalar(select(func.count()).select_from(RunRow).where(RunRow.task_digest == spec.digest)) or 0
        return run_id(spec, ordinal), ordinal

    def register_run(
        self,
        *,
        spec: TaskSpec,
        ordinal: int,
        settings: Mapping[str, Any],
        entry: bytes | Callable[[merkle.Frontier], bytes],
        start: StoredModel,
        noise_key_id: str | None,
    ) -> Run:
        """Writes the run, its start and its ledger entry.

        Args:
          entry: its body, or what makes it from the ledger's head right before it.
        """
        row = RunRow(
            id=run_id(spec, ordinal),
            task_name=spec.name,
            task_digest=spec.digest,
            ordinal=ordinal,
            population=spec.population,
            spec=json.dumps(task.to_mapping(spec)),
            settings=json.dumps(dict(settings)),
            state=RunState.RUNNING.value,
            next_round=0,
            next_leaf=0,
            attempts=0,
            noise_key_id=noise_key_id,
            created_at=wall_time().isoformat(timespec="microseconds"),
        )
        with self._transactions.begin() as session:
            session.add(row)
            session.flush()
            body = entry if isinstance(entry, bytes) else entry(self.ledger.head_in(session))
            appended = self.ledger.append_in(session, [body])
            round_rows.add_model(session.connection(), start, entry=None)
        self.ledger.committed(appended)
        return run_of(row)

    def runs(self) -> list[Run]:
        """All runs, the oldest first."""
        with self._transactions.begin() as session:
            return [
                run_of(row) for row in session.scalars(select(RunRow).order_by(RunRow.created_at, RunRow.ordinal, RunRow.id))
            ]

    def run(self, name: str) -> Run:
        """The run named by id, prefix or `latest`.

        Raises:
          TuttiError: NOT_FOUND if there is none or the prefix is not unique.
        """
        with self._transactions.read() as session:
            whole = session.get(RunRow, name)
        if whole is not None:
            return run_of(whole)
        found = self.lists.named(name)
        if len(found) != 1 or not name:
            many = "several runs start with" if found else "no run starts with"
            none = "there is no run yet" if name == "latest" else f"{many} {name!r}"
            raise TuttiError(ErrorCode.NOT_FOUND, none)
        return found[0]

    def run_state(self, run: str) -> RunState:
        """Whether a run goes on; asked for after every round, so without its task.

        Raises:
          TuttiError: NOT_FOUND if there is no run of this id.
        """
        with self._transactions.looking() as connection:
            state = round_rows.run_state(connection, run)
        if state is None:
            raise TuttiError(ErrorCode.NOT_FOUND, f"there is no run {run!r}")
        return state

    def set_run_state(self, run: str, state: RunState) -> None:
        """Pauses, resumes, ends a run."""
        with self._transactions.writing() as connection:
            round_rows.set_run_state(connection, run, state)

    # -- rounds ----------------------------------------------------------------------------------------------------------------

    def charge(
        self,
        *,
        run: str,
        round_index: int,
        leaf: int,
        entry: bytes,
        sum_seal: str | None,
        admitted: Callable[[Connection], None] | None = None,
    ) -> int:
        """Commits the worst case of a round; returns the entry's index. Nothing may be revealed before this returns.

        Args:
          admitted: raises if there is no room for it; nobody else appends between its look and the charge.
        """
        with self._transactions.writing() as connection:
            appended = self.ledger.append_in(connection, [entry], admitted=admitted)
            round_rows.charge(
                connection, run=run, round_index=round_index, leaf=leaf, charge_entry=appended[0], sum_seal=sum_seal
            )
        self.ledger.committed(appended)
        return appended[0]

    def commit_round(
        self,
        *,
        run: str,
        round_index: int,
        entry: bytes,
        model: StoredModel,
        reported: int,
        facts: Mapping[str, Any],
        final: bool,
        beside: Sequence[bytes] = (),
    ) -> int:
        """Entry, model and the run's position in one transaction; returns the entry's index.

        `beside` are entries that come with it: of parameters that follow the round's release, of its secure aggregation.
        """
        with self._transactions.writing() as connection:
            appended = self.ledger.append_in(connection, [entry, *beside])
            round_rows.commit(
                connection, run=run, round_index=round_index, outcome_entry=appended[0], model=model, reported=reported,
                facts=facts, final=final,
            )  # fmt: skip
        self.ledger.committed(appended)
        self._transactions.write_back(model.parameters.nbytes + sum(array.nbytes for array in model.optimizer.values()))
        return appended[0]

    def abandon_round(
        self,
        *,
        run: str,
        round_index: int,
        leaf: int,
        entry: bytes,
        reason: str,
        leaf_used: bool,
        facts: Mapping[str, Any],
        final: bool = False,
    ) -> int:
        """Records a round without a model; a leaf that was charged is used up, and with the `final` one the run is over."""
        with self._transactions.writing() as connection:
            appended = self.ledger.append_in(connection, [entry])
            round_rows.abandon(
                connection, run=run, round_index=round_index, leaf=leaf, outcome_entry=appended[0], reason=reason,
                leaf_used=leaf_used, facts=facts, final=final,
            )  # fmt: skip
        self.ledger.committed(appended)
        return appended[0]

    def add_facts(self, run: str, round_index: int, facts: Mapping[str, Any]) -> None:
        """Adds facts for progress and plots to a round that is on the record; nothing of them is hashed.

        They are there for everybody when this returns, and on the disk with the next charge or commit: a power cut may take those of
        the last round, a kill does not.
        """
        with self._transactions.noting() as connection:
            round_rows.add_facts(connection, run=run, round_index=round_index, facts=facts)

    def rounds(self, run: str, *, start: int = 0, limit: int | None = None) -> list[Round]:
        """The rounds of a run that are on the record, in order, from index `start`."""
        query = select(RoundRow).where(RoundRow.run == run, RoundRow.index >= start).order_by(RoundRow.index).limit(limit)
        with self._transactions.read() as session:
            return [_round(row) for row in session.scalars(query)]

    # -- models ----------------------------------------------------------------------------------------------------------------

    def model(self, run: str, round_count: int | None = None) -> StoredModel:
        """The parameters after `round_count` rounds, or the newest.

        Raises:
          TuttiError: NOT_FOUND if this one was not kept; LEDGER_BROKEN if its bytes are not those of its digest.
        """
        query = select(ModelRow).where(ModelRow.run == run).order_by(ModelRow.round.desc()).limit(1)
        if round_count is not None:
            query = query.where(ModelRow.round == round_count)
        with self._transactions.begin() as session:
            row = session.scalar(query)
        if row is None:
            raise TuttiError(ErrorCode.NOT_FOUND, f"run {run[:12]} has kept no model of round {round_count}")
        return _stored_model(row)

    # -- ledger ----------------------------------------------------------------------------------------------------------------

    def entries(self, *, run: str | None = None, start: int = 0, limit: int | None = None) -> Iterator[Entry]:
        """Entries from index `start`, in order; `ledger.entries` filters by more."""
        return self.ledger.entries(run=run, start=start, limit=limit)

    def append_entry(self, body: bytes) -> int:
        """Appends an entry that changes nothing else in the store; returns its index."""
        return self.ledger.append(body)[0]

    def tree_head(self) -> merkle.Frontier:
        """The tree over all entries."""
        return self.ledger.head()


def run_id(spec: TaskSpec, ordinal: int) -> str:
    """The hash of the task's digest and the run's ordinal for that task, hex."""
    return canonical.digest({"task": spec.digest, "ordinal": ordinal})


def parameters_digest(parameters: bytes | memoryview) -> str:
    """Hex SHA-256 of a model's little-endian float32 bytes."""
    return hashlib.sha256(parameters).hexdigest()


def _stored_model(row: ModelRow) -> StoredModel:
    fault = None if parameters_digest(row.parameters) == row.digest else "its parameters are not those of its digest"
    optimizer: dict[str, NDArray[Any]] = {}
    try:
        optimizer = blobs.unpack_state(row.optimizer)
    except ValueError as error:
        fault = str(error)
    if fault is not None:
        detail = f"the model after {row.round} rounds of run {row.run[:12]} was changed in the store: {fault}"
        raise TuttiError(ErrorCode.LEDGER_BROKEN, detail)
    return StoredModel(
        run=row.run, round=row.round, digest=row.digest, parameters=blobs.unpack_parameters(row.parameters), optimizer=optimizer,
        entry=row.entry,
    )  # fmt: skip


def _round(row: RoundRow) -> Round:
    return Round(
        run=row.run, index=row.index, leaf=row.leaf, state=row.state, reason=row.reason, reported=row.reported, sum_seal=row.sum_seal,
        charge_entry=row.charge_entry, outcome_entry=row.outcome_entry, model_digest=row.model_digest, facts=json.loads(row.facts),
    )  # fmt: skip
