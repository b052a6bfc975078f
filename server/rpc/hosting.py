"""The runs that a server hosts: each has a thread of its own on which its messages and deadlines are handled, one after another.

The event loop only carries messages; training sums, noise and commits happen on the runs' threads. A device that checks in while a
round commits waits those moments and is then selected for the next round.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeAlias

from contract.clock import Clock
from contract.errors import TuttiError
from contract.messages import (
    Aborted,
    AbortReason,
    Acknowledged,
    EligibilityRequest,
    Rejected,
    RejectReason,
    Reply,
    Request,
    RetryWindow,
    TaskResult,
)
from server.session_ids import TAG_CHARACTERS, tag
from server.sessions import SessionTable

RoundListener: TypeAlias = Callable[[Mapping[str, Any]], bool]
"""Hears the facts of each round, on the run's thread; says whether the run goes on."""

Observer: TypeAlias = Callable[[Request, Reply], None]

NOBODY_HOME = RetryWindow(30.0, 60.0)
"""When a device should come back whose population has no run here."""

_log = logging.getLogger(__name__)


class HostedRun:
    """One run's session table, its thread and its timer. `ended` is done when the run is over, paused, or has failed.

    Args:
      on_round: hears each round's facts.
    """

    def __init__(self, *, table: SessionTable, population: str, clock: Clock, on_round: RoundListener) -> None:
        self.population, self.run = population, table.run
        self._table, self._clock, self._on_round = table, clock, on_round
        self._origin_s = clock.now_s()
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix=f"run-{table.run[:8]}")
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._ticking: asyncio.Task[None] | None = None
        self._due_s: float | None = None
        self.ended: asyncio.Future[None] = self._loop.create_future()

    async def handle(self, request: Request) -> Reply:
        """The answer to one message.

        Raises:
          TuttiError: if the run cannot go on; `ended` has the same error. Any other error is a bug that this message met: it costs
            its sender, and a round that it left uneven abandons itself.
        """
        return await self._loop.run_in_executor(self._thread, self._on_thread, self._answer, request)

    async def close(self) -> None:
        """Sends devices away, lets a commit that has begun end, and gives the thread back."""
        self._table.close()
        if self._timer is not None:
            self._timer.cancel()
        if self._ticking is not None:
            await asyncio.gather(self._ticking, return_exceptions=True)
        await asyncio.to_thread(self._thread.shutdown, wait=True)
        if not self.ended.done():
            self.ended.set_result(None)

    def _on_thread(self, act: Callable[..., Any], *arguments: object) -> Any:
        try:
            return act(*arguments)
        except TuttiError as error:
            self._loop.call_soon_threadsafe(self._failed, error)
            raise
        finally:
            self._loop.call_soon_threadsafe(self._set_timer, self._table.due_s(), self._table.over)

    def _answer(self, request: Request) -> Reply:
        return self._table.handle(request, self._now_s())

    def _tick(self) -> None:
        facts = self._table.tick(self._now_s())
        if facts is not None and not self._on_round(facts):
            self._table.over = True

    def _now_s(self) -> float:
        return self._clock.now_s() - self._origin_s

    def _set_timer(self, due_s: float | None, over: bool) -> None:
        self._due_s = due_s
        if over and not self.ended.done():
            self.ended.set_result(None)
        self._arm()

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._due_s is not None and self._ticking is None and not self.ended.done():
            self._timer = self._loop.call_later(max(0.0, self._due_s - self._now_s()), self._begin_tick)

    def _begin_tick(self) -> None:
        self._timer = None
        self._ticking = self._loop.create_task(self._ticked())

    async def _ticked(self) -> None:
        try:
            await self._loop.run_in_executor(self._thread, self._on_thread, self._tick)
        except Exception as error:  # noqa: BLE001 - the boundary: a bug in ending a round ends the run, not the server
            _log.exception("run %s stops: its round could not be ended", self.run[:12])
            self._failed(error)
        finally:
            self._ticking = None
            self._arm()

    def _failed(self, error: BaseException) -> None:
        if not self.ended.done():
            self.ended.set_exception(error)


class Host:
    """Finds the run that a message is for.

    Args:
      observer: hears each message and its answer, for counts.
    """

    def __init__(self, observer: Observer | None = None) -> None:
        self._runs: dict[str, HostedRun] = {}
        self._observer = observer

    @property
    def runs(self) -> tuple[HostedRun, ...]:
        """All hosted runs, the oldest first."""
        return tuple(self._runs.values())

    def add(self, run: HostedRun) -> None:
        """From now on `run` gets its messages."""
        self._runs[run.run[:TAG_CHARACTERS]] = run

    async def remove(self, run: HostedRun) -> None:
        """Closes a run; its devices are sent away."""
        self._runs.pop(run.run[:TAG_CHARACTERS], None)
        await run.close()

    async def close(self) -> None:
        """Closes all runs."""
        for run in self.runs:
            await self.remove(run)

    async def handle(self, request: Request) -> Reply:
        """The answer to a device's message: from its population's first run at check-in, from its session's run afterwards."""
        reply = await self._answer(request)
        if self._observer is not None:
            self._observer(request, reply)
        return reply

    async def _answer(self, request: Request) -> Reply:
        if isinstance(request, EligibilityRequest):
            wanted = [run for run in self.runs if run.population == request.population and not run.ended.done()]
            return await wanted[0].handle(request) if wanted else Rejected(RejectReason.NO_TASK, NOBODY_HOME)
        found = self._runs.get(tag(request.session_id))
        if found is not None and not found.ended.done():
            return await found.handle(request)
        if isinstance(request, TaskResult):
            return Acknowledged()
        return Aborted(AbortReason.DEADLINE_PASSED if found else AbortReason.UNKNOWN_SESSION, NOBODY_HOME)
