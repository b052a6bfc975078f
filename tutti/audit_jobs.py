"""An audit that was asked for over REST, played by a runner: its progress goes into the store, and it stops when it is no longer held."""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import structlog

from contract.clock import SystemClock
from contract.task import TaskSpec
from server.audits import Audits
from tutti import audit
from tutti.audit.scores import Watch
from tutti.playing import Progress

REPORT_S = 0.5
"""Between two reports of the references that are scored."""
_LOG = structlog.get_logger("tutti.runner")
_LOCAL = ("files", "seconds", "cost")
"""Keys of an audit's object that mean something on the machine only that it ran on."""


class Stopped(Exception):
    """The job is not to be played any further here."""


def play(audits: Audits, name: str, *, store: str, workers: int | None, held: Callable[[], bool]) -> None:
    """Runs an audit on file, or goes on with it.

    Args:
      held: whether the runner still may; asked after every round and now and then while references are scored.

    Raises:
      Stopped: as soon as it may not.
      TuttiError: with whatever stops an audit. A verdict that is bad is a result.
    """
    found, clock = audits.audit(name), SystemClock()
    last_s = [clock.now_s()]

    def report(progress: Mapping[str, Any]) -> None:
        if not held():
            raise Stopped
        audits.report(name, progress)

    def rounds(spec: TaskSpec) -> AbstractContextManager[Progress]:
        return nullcontext(_Rounds(spec, report))

    def scoring(arm: str) -> Watch:
        def scored(done: int, total: int) -> None:
            if done >= total or clock.now_s() - last_s[0] >= REPORT_S:
                last_s[0] = clock.now_s()
                report({"stage": "scoring", "arm": arm, "done": done, "total": total})

        return scored

    watchers = audit.Watchers(rounds=rounds, scoring=scoring)
    result = audit.run(audit.parse_mapping(found.spec), store=store, workers=workers, watchers=watchers, approved=True)
    audits.end(name, {key: value for key, value in result.items() if key not in _LOCAL})


class _Rounds:
    """Reports the rounds of one arm."""

    def __init__(self, spec: TaskSpec, report: Callable[[Mapping[str, Any]], None]) -> None:
        self._spec, self._report = spec, report

    def started(self, *, committed: int, note: str) -> None:
        """The arm begins or goes on; logs what it will cost."""
        _LOG.info("started", committed=committed, note=note)
        self._tell(committed)

    def round_ended(self, facts: Mapping[str, Any]) -> None:
        """One more round."""
        self._tell(int(facts["leaf"]) + int(facts["state"] == "committed"))

    def _tell(self, done: int) -> None:
        self._report({"stage": "training", "arm": self._spec.name, "done": done, "total": self._spec.rounds})
