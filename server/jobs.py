"""Jobs: runs and audits that wait for a runner, and the leases by which exactly one runner plays each.

A runner takes a lease, renews it while it plays, and lets go at the end. A lease that runs out (the runner was killed) is free for the
next runner, which resumes the run where its last committed round left it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum

from sqlalchemy import or_, select
from sqlalchemy.orm import Session

from contract.clock import wall_time
from contract.errors import ErrorCode, TuttiError
from server.store.engine import Transactions
from server.store.service_tables import JobRow
from server.store.tables import Base

LEASE_S = 30.0
"""Seconds for which a lease holds; a runner renews it three times in that time."""
MAX_ATTEMPTS = 5
"""Runners that may die over one job before it is given up."""


class JobKind(Enum):
    """What a runner does for a job."""

    RUN = "run"
    AUDIT = "audit"


class JobState(Enum):
    """Where a job stands. A cancelled run says so itself, and its job is done; an audit has only its job to say it."""

    AWAITING_APPROVAL = "awaiting-approval"
    QUEUED = "queued"
    LEASED = "leased"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One run or audit to play, by its id. `requested_by` is the token that asked for it; `problem` an error code if it failed."""

    id: str
    kind: JobKind
    population: str
    state: JobState
    workers: int | None
    requested_by: str
    attempts: int
    problem: str | None
    detail: str | None


def _seconds() -> float:
    return wall_time().timestamp()


class Jobs:
    """The jobs of one store. Times are wall seconds, because runners on several machines compare them."""

    def __init__(self, transactions: Transactions, *, now_s: Callable[[], float] = _seconds) -> None:
        self._transactions, self._now_s = transactions, now_s

    def add(
        self,
        *,
        job: str,
        kind: JobKind = JobKind.RUN,
        population: str,
        requested_by: str,
        workers: int | None,
        approved: bool,
        also: Sequence[Base] = (),
    ) -> Job:
        """A job for a registered run or an audit; it waits for an approval first unless `approved`.

        Args:
          also: rows that are written in the same transaction.

        Raises:
          TuttiError: CONFLICT if there is one.
        """
        state = JobState.QUEUED if approved else JobState.AWAITING_APPROVAL
        row = JobRow(
            id=job, kind=kind.value, population=population, state=state.value, workers=workers, requested_by=requested_by, holder=None,
            lease_until=0.0, attempts=0, problem=None, detail=None, created_at=wall_time().isoformat(timespec="microseconds"),
        )  # fmt: skip
        with self._transactions.begin() as session:
            if session.get(JobRow, job) is not None:
                raise TuttiError(ErrorCode.CONFLICT, f"{kind.value} {job[:12]} has a job")
            session.add_all([row, *also])
        return _job(row)

    def of(self, job: str) -> Job | None:
        """The job of a run or an audit; None for one that was started on the command line."""
        with self._transactions.read() as session:
            row = session.get(JobRow, job)
            return None if row is None else _job(row)

    def of_all(self, ids: Sequence[str]) -> dict[str, Job]:
        """The jobs of several runs or audits, by id."""
        with self._transactions.read() as session:
            return {row.id: _job(row) for row in session.scalars(select(JobRow).where(JobRow.id.in_(ids)))}

    def counts(self) -> dict[str, int]:
        """Jobs by state, every state named."""
        with self._transactions.read() as session:
            states = list(session.scalars(select(JobRow.state)))
        return {state.value: states.count(state.value) for state in JobState}

    def approve(self, job: str, also: Callable[[Session], object] | None = None) -> None:
        """Lets a job go to the runners.

        Args:
          also: what puts the approval on the record, in the same transaction: of two officers at once, one approves.

        Raises:
          TuttiError: RUN_STATE if it does not wait for an approval; nothing is on the record then.
        """
        self._move(job, JobState.QUEUED, (JobState.AWAITING_APPROVAL,), also)

    def requeue(self, job: str) -> None:
        """Lets a paused or failed job be played again.

        Raises:
          TuttiError: RUN_STATE if it waits, is queued, is being played or was cancelled.
        """
        self._move(job, JobState.QUEUED, (JobState.DONE, JobState.FAILED))

    def cancel(self, job: str) -> None:
        """Ends a job for good; whoever plays it stops at its next step, since it holds it no more.

        Raises:
          TuttiError: RUN_STATE if it is over.
        """
        self._move(job, JobState.CANCELLED, (JobState.AWAITING_APPROVAL, JobState.QUEUED, JobState.LEASED, JobState.FAILED))

    def withdraw(self, job: str) -> None:
        """Takes a job that nobody plays from the queue; nothing happens to one that is being played or over."""
        with self._transactions.begin() as session:
            row = session.get(JobRow, job, with_for_update=True)
            if row is not None and row.state in (JobState.QUEUED.value, JobState.AWAITING_APPROVAL.value):
                row.state = JobState.DONE.value

    def take(self, holder: str) -> Job | None:
        """Leases the oldest job that is free, or None. Two runners never get the same one."""
        now = self._now_s()
        free = or_(JobRow.state == JobState.QUEUED.value, (JobRow.state == JobState.LEASED.value) & (JobRow.lease_until < now))
        oldest = select(JobRow).where(free).order_by(JobRow.created_at, JobRow.id).limit(1).with_for_update(skip_locked=True)
        with self._transactions.begin() as session:
            row = session.scalar(oldest)
            if row is None:
                return None
            row.state, row.holder, row.lease_until = JobState.LEASED.value, holder, now + LEASE_S
            row.attempts += 1
            if row.attempts > MAX_ATTEMPTS:
                row.state, row.problem = JobState.FAILED.value, ErrorCode.INTERNAL.slug
                row.detail = f"{MAX_ATTEMPTS} runners died over it"
                return None
        return _job(row)

    def holds(self, job: str, holder: str) -> bool:
        """Whether this runner still has the job: it was neither cancelled nor taken over."""
        with self._transactions.read() as session:
            row = session.get(JobRow, job)
            return row is not None and row.holder == holder and row.state == JobState.LEASED.value

    def player(self, job: str) -> str | None:
        """The runner whose lease of the job has not run out; None if nobody plays it."""
        with self._transactions.read() as session:
            row = session.get(JobRow, job)
            leased = row is not None and row.state == JobState.LEASED.value and row.lease_until >= self._now_s()
            return row.holder if leased and row is not None else None

    def renew(self, job: str, holder: str) -> bool:
        """Holds on to a lease; False if another runner has it by now, and then the job is not ours to play."""
        with self._transactions.begin() as session:
            row = self._held(session, job, holder)
            if row is None:
                return False
            row.lease_until = self._now_s() + LEASE_S
        return True

    def finish(self, job: str, holder: str, *, problem: ErrorCode | None = None, detail: str | None = None) -> None:
        """Lets go of a job that was played to an end, a pause or a problem; nothing happens if the lease was lost."""
        with self._transactions.begin() as session:
            row = self._held(session, job, holder)
            if row is not None:
                row.state = JobState.DONE.value if problem is None else JobState.FAILED.value
                row.problem, row.detail, row.holder, row.attempts = (None if problem is None else problem.slug), detail, None, 0

    def hold_back(self, job: str, holder: str) -> None:
        """Puts a leased job before the privacy officer: its population asks for an approval since it was queued."""
        with self._transactions.begin() as session:
            row = self._held(session, job, holder)
            if row is not None:
                row.state, row.holder, row.lease_until, row.attempts = JobState.AWAITING_APPROVAL.value, None, 0.0, 0

    def release(self, job: str, holder: str) -> None:
        """Gives a job back to the queue, for a runner that shuts down."""
        with self._transactions.begin() as session:
            row = self._held(session, job, holder)
            if row is not None:
                row.state, row.holder, row.lease_until = JobState.QUEUED.value, None, 0.0
                row.attempts -= 1

    def _move(
        self, job: str, to: JobState, allowed: Sequence[JobState], also: Callable[[Session], object] | None = None
    ) -> None:
        with self._transactions.begin() as session:
            row = session.get(JobRow, job, with_for_update=True)
            if row is None:
                raise TuttiError(ErrorCode.RUN_STATE, f"{job[:12]} was not started over REST, so no runner plays it")
            if JobState(row.state) not in allowed:
                raise TuttiError(ErrorCode.RUN_STATE, f"the job of {row.kind} {job[:12]} is {row.state}")
            row.state, row.problem, row.detail, row.attempts = to.value, None, None, 0
            if also is not None:
                also(session)

    @staticmethod
    def _held(session: Session, job: str, holder: str) -> JobRow | None:
        row = session.get(JobRow, job, with_for_update=True)
        return row if row is not None and row.holder == holder and row.state == JobState.LEASED.value else None


def _job(row: JobRow) -> Job:
    return Job(
        id=row.id, kind=JobKind(row.kind), population=row.population, state=JobState(row.state), workers=row.workers,
        requested_by=row.requested_by, attempts=row.attempts, problem=row.problem, detail=row.detail,
    )  # fmt: skip
