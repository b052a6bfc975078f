"""The runner: a process that leases jobs and plays their runs and audits (`python -m tutti.runner --store STORE`).

Any number of runners may share a store. One that is told to stop (SIGTERM) gives its job back after the round it is in; one that is
killed loses its lease, and the next runner resumes its run.
"""

import argparse
import os
import signal
import threading
from collections.abc import Mapping
from types import FrameType
from typing import Any

import structlog
from prometheus_client import start_http_server

from contract.entropy import system_entropy
from contract.errors import ErrorCode, TuttiError
from server.audits import Audits, abandon_runs
from server.jobs import LEASE_S, Job, JobKind, Jobs, JobState
from server.keys import KeyDirectory
from server.observability import configure_logs, configure_spans, of_process
from server.policies import Policies
from server.store.store import Store
from server.store.values import RunState
from tutti import audit_jobs, runs, stores
from tutti.audit_jobs import Stopped

POLL_S = 0.5
_LOG = structlog.get_logger("tutti.runner")


class _Watch:
    """Watches a run that is played: between two rounds it may be stopped."""

    def __init__(self, stop: threading.Event, lost: threading.Event) -> None:
        self._stop, self._lost = stop, lost

    def started(self, *, committed: int, note: str) -> None:
        """Logs what the run will cost."""
        _LOG.info("started", committed=committed, note=note)

    def round_ended(self, facts: Mapping[str, Any]) -> None:
        """Logs the round; stops the run between rounds if the runner must."""
        _LOG.info("round", **{key: facts[key] for key in ("round", "state", "reported", "epsilon") if key in facts})
        if self._stop.is_set() or self._lost.is_set():
            raise Stopped


class Runner:
    """Plays jobs of one store until told to stop."""

    def __init__(self, store: str, *, workers: int | None = None, holder: str | None = None) -> None:
        self._location, self._workers = store, workers
        self._holder = holder or f"runner-{system_entropy(6).hex()}"
        self._stop = threading.Event()

    def stop(self) -> None:
        """Ends `run` after the round that is being played."""
        self._stop.set()

    def run(self, *, until_idle: bool = False) -> None:
        """Takes jobs, one after another; `until_idle` ends when there is none."""
        store = Store.open(self._location)
        jobs = Jobs(store.transactions)
        try:
            while not self._stop.is_set():
                job = jobs.take(self._holder)
                if job is not None and not _may_start(store, job):
                    _LOG.info("held back", id=job.id[:12], kind=job.kind.value)
                    jobs.hold_back(job.id, self._holder)
                elif job is not None:
                    self._play(store, jobs, job)
                elif until_idle:
                    return
                else:
                    self._stop.wait(POLL_S)
        finally:
            store.close()

    def _play(self, store: Store, jobs: Jobs, job: Job) -> None:
        ended, lost = threading.Event(), threading.Event()
        renewal = threading.Thread(target=self._renew, args=(jobs, job.id, ended, lost), daemon=True)
        renewal.start()
        log = _LOG.bind(holder=self._holder, **{job.kind.value: job.id[:12]})
        try:
            self._do(store, jobs, job, lost)
        except Stopped:
            log.info("given back")
            jobs.release(job.id, self._holder)
            self._abandon(store, jobs, job)
        except TuttiError as error:
            log.warning("failed", code=error.code.slug, detail=error.detail)
            self._failed(store, job)
            jobs.finish(job.id, self._holder, problem=error.code, detail=error.detail)
        except BaseException:
            # Our own fault: said to whoever asked for the job, and raised for whoever runs this process.
            self._failed(store, job)
            jobs.finish(job.id, self._holder, problem=ErrorCode.INTERNAL, detail="the runner met a fault of ours; see its log")
            raise
        else:
            log.info("played")
            jobs.finish(job.id, self._holder)
        finally:
            ended.set()
            renewal.join()

    def _do(self, store: Store, jobs: Jobs, job: Job, lost: threading.Event) -> None:
        workers = job.workers if job.workers is not None else self._workers
        if job.kind is JobKind.AUDIT:

            def held() -> bool:
                return not (self._stop.is_set() or lost.is_set()) and jobs.holds(job.id, self._holder)

            audit_jobs.play(Audits(store.transactions), job.id, store=self._location, workers=workers, held=held)
        elif store.run(job.id).state is RunState.RUNNING:
            watch = _Watch(self._stop, lost)
            runs.resume(job.id, workers=workers, store=self._location, progress=watch, approved=True, holder=self._holder)

    def _abandon(self, store: Store, jobs: Jobs, job: Job) -> None:
        """A cancelled audit may have begun one more run between the wish and the stop."""
        now = jobs.of(job.id)
        if job.kind is JobKind.AUDIT and now is not None and now.state is JobState.CANCELLED:
            keys = KeyDirectory(stores.directory(self._location) / "keys")
            for run in abandon_runs(store, Audits(store.transactions).audit(job.id)):
                keys.destroy(run)

    def _renew(self, jobs: Jobs, job: str, ended: threading.Event, lost: threading.Event) -> None:
        while not ended.wait(LEASE_S / 3):
            if not jobs.renew(job, self._holder):
                lost.set()
                return

    @staticmethod
    def _failed(store: Store, job: Job) -> None:
        if job.kind is JobKind.RUN and store.run(job.id).state is RunState.RUNNING:
            store.set_run_state(job.id, RunState.FAILED)


def _may_start(store: Store, job: Job) -> bool:
    """Whether nobody has asked for an approval since the job was queued, or it has one."""
    policies = Policies(store.transactions, store.ledger)
    return policies.may_start(job.population, **{job.kind.value: job.id})


def main() -> None:
    """Runs a runner until it is told to stop. A URL with a password is best given as `TUTTI_STORE`: arguments can be seen by others."""
    parser = argparse.ArgumentParser(
        prog="tutti.runner", description="Plays the runs and audits that were asked for over REST."
    )
    parser.add_argument("--store", default=os.environ.get("TUTTI_STORE", ".tutti"), help="directory or database URL")
    parser.add_argument("--workers", type=int, default=None, help="worker processes; one a core unless given")
    parser.add_argument("--until-idle", action="store_true", help="end when no job is left")
    parser.add_argument(
        "--metrics-port", type=int, default=None, help="serve this process's metrics on this port, loopback only"
    )
    arguments = parser.parse_args()
    configure_logs()
    configure_spans("tutti-runner")
    if arguments.metrics_port is not None:
        start_http_server(arguments.metrics_port, addr="127.0.0.1", registry=of_process().registry)
    runner = Runner(arguments.store, workers=arguments.workers)

    def stop(_number: int, _frame: FrameType | None) -> None:
        runner.stop()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    runner.run(until_idle=arguments.until_idle)


if __name__ == "__main__":
    main()
