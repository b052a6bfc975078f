"""The runs that a server hosts: each has a thread of its own on which its messages and deadlines are handled, one after another.

The event loop only carries messages; training sums, noise and commits happen on the runs' threads. A device that checks in while a
round commits waits those moments and is then selected for the next round.

Messages that arrive while the thread is busy are handled together next. Who would have to wait for others is answered when they have
come, or after `HOLD_S` with the wait: on a small scale nobody polls, and beyond `MOST_HELD` everybody does.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Hashable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any, TypeAlias

from contract.clock import Clock
from contract.errors import TuttiError
from contract.messages import (
    Aborted,
    AbortReason,
    Acknowledged,
    AssignmentRequest,
    EligibilityRequest,
    Rejected,
    RejectReason,
    Reply,
    Request,
    RetryWindow,
    SecureRequest,
    SecureStep,
    SubmitResult,
    TaskResult,
    Wait,
)
from server.session_ids import TAG_CHARACTERS, tag
from server.sessions import SessionTable

RoundListener: TypeAlias = Callable[[Mapping[str, Any]], bool]
"""Hears the facts of each round, on the run's thread; says whether the run goes on."""

Observer: TypeAlias = Callable[[Request, Reply], None]

NOBODY_HOME = RetryWindow(30.0, 60.0)
"""When a device should come back whose population has no run here."""

HOLD_S = 2.0
"""How long a device is kept waiting for its answer before it is told to ask again."""
MOST_HELD = 256
"""Devices of a run that are kept waiting at once; each is a call in memory."""

_Answered: TypeAlias = tuple[Reply, Hashable]
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
        self._inbox: deque[tuple[Request, asyncio.Future[_Answered]]] = deque()
        self._handling = self._closing = False
        self._stage, self._moved, self._held = table.stage, asyncio.Event(), 0
        self.ended: asyncio.Future[None] = self._loop.create_future()

    async def handle(self, request: Request) -> Reply:
        """The answer to one message.

        Raises:
          TuttiError: if the run cannot go on; `ended` has the same error. Any other error is a bug that this message met: it costs
            its sender, and a round that it left uneven abandons itself.
        """
        if isinstance(
            request, TaskResult
        ):  # whatever comes of it, the answer is the same: who is done need not wait for a commit
            self._ask(request).add_done_callback(_log_error)
            return Acknowledged()
        reply, stage = await self._ask(request)
        if not isinstance(reply, Wait) or not _may_be_held(request) or self._held >= MOST_HELD:
            return reply
        self._held += 1
        try:
            return await self._hold(request, reply, stage)
        finally:
            self._held -= 1

    async def close(self) -> None:
        """Sends devices away, lets a commit that has begun end, and gives the thread back."""
        self._table.close()
        self._closing = True
        self._moved.set()
        if self._timer is not None:
            self._timer.cancel()
        if self._ticking is not None:
            await asyncio.gather(self._ticking, return_exceptions=True)
        await asyncio.to_thread(self._thread.shutdown, wait=True)
        if not self.ended.done():
            self.ended.set_result(None)

    async def _hold(self, request: Request, wait: Wait, stage: Hashable) -> Reply:
        """The answer when the run has moved on; the wait, less what was waited here, if it does not."""
        try:
            async with asyncio.timeout(HOLD_S):
                while not self._closing:
                    if self._stage == stage:
                        await self._moved.wait()
                        continue
                    reply, stage = await self._ask(_asked_again(request))
                    if not isinstance(reply, Wait):
                        return reply
        except TimeoutError:
            pass
        return Wait(max(0.0, wait.after_s - HOLD_S))

    def _ask(self, request: Request) -> "asyncio.Future[_Answered]":
        future: asyncio.Future[_Answered] = self._loop.create_future()
        self._inbox.append((request, future))
        if not self._handling:
            self._handling = True
            self._thread.submit(self._handle_all)
        return future

    def _handle_all(self) -> None:
        """On the thread: answers all that is there, and hands the answers over together."""
        answered: list[tuple[asyncio.Future[_Answered], _Answered | Exception]] = []
        while self._inbox:
            request, future = self._inbox.popleft()
            try:
                answered.append((future, (self._table.handle(request, self._now_s()), self._table.stage)))
            except Exception as error:  # noqa: BLE001 - the boundary: the error is its sender's, who waits on the event loop
                answered.append((future, error))
        self._loop.call_soon_threadsafe(self._hand_over, answered, *self._standing())

    def _hand_over(
        self,
        answered: "list[tuple[asyncio.Future[_Answered], _Answered | Exception]]",
        *standing: Any,
    ) -> None:
        self._handling = False
        for future, answer in answered:
            if isinstance(answer, TuttiError):
                self._failed(answer)
            if future.done():
                continue
            if isinstance(answer, Exception):
                future.set_exception(answer)
            else:
                future.set_result(answer)
        self._stands(*standing)
        if self._inbox:
            self._handling = True
            self._thread.submit(self._handle_all)

    def _standing(self) -> tuple[float | None, bool, Hashable]:
        return self._table.due_s(), self._table.over, self._table.stage

    def _tick(self) -> None:
        try:
            facts = self._table.tick(self._now_s())
            if facts is not None and not self._on_round(facts):
                self._table.over = True
        finally:
            self._loop.call_soon_threadsafe(self._stands, *self._standing())

    def _now_s(self) -> float:
        return self._clock.now_s() - self._origin_s

    def _stands(self, due_s: float | None, over: bool, stage: Hashable) -> None:
        self._due_s = due_s
        if stage != self._stage:
            self._stage = stage
            self._moved.set()
            self._moved = asyncio.Event()
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
            await self._loop.run_in_executor(self._thread, self._tick)
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


def _may_be_held(request: Request) -> bool:
    """Whether the device has nothing better to do than to wait: once it has dealt its shares, it trains."""
    if isinstance(request, SecureRequest):
        return request.step is not SecureStep.SHARE_KEYS or request.message is None
    return isinstance(request, AssignmentRequest | SubmitResult)


def _log_error(answer: "asyncio.Future[_Answered]") -> None:
    error = None if answer.cancelled() else answer.exception()
    if error is not None:
        _log.error("the end of a session could not be noted", exc_info=error)


def _asked_again(request: Request) -> Request:
    return replace(request, message=None) if isinstance(request, SecureRequest) else request
