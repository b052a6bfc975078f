"""Who waits for others is answered when they have come, and told to ask again otherwise."""

import asyncio
import threading
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import pytest

from contract.clock import SystemClock
from contract.ids import Digest, RunId, SessionId
from contract.messages import (
    Accepted,
    Acknowledged,
    AssignmentRequest,
    Reply,
    Request,
    ResultStatus,
    SecureRequest,
    SecureStep,
    SubmitResult,
    TaskResult,
    UploadRequest,
    Wait,
)
from server.rpc import hosting
from server.rpc.hosting import HostedRun

RUN = RunId("ab" * 32)
SESSION = SessionId(f"{RUN[:16]}.0.x")
LONG = Wait(10.0)


class Gate:
    """A table that lets nobody through before it is opened."""

    def __init__(self) -> None:
        self.run, self.over, self.stage = RUN, False, "shut"
        self.seen: list[Request] = []

    def handle(self, request: Request, now_s: float) -> Reply:
        self.seen.append(request)
        if isinstance(request, SubmitResult):
            self.stage = "open"
        return Accepted() if self.stage == "open" else LONG

    def tick(self, now_s: float) -> Mapping[str, Any] | None:
        return None

    def due_s(self) -> float | None:
        return None

    def close(self) -> None:
        pass


@asynccontextmanager
async def hosted() -> AsyncGenerator[tuple[Gate, HostedRun]]:
    gate = Gate()
    run = HostedRun(table=gate, population="phones", clock=SystemClock(), on_round=lambda facts: True)  # type: ignore[arg-type]
    try:
        yield gate, run
    finally:
        await run.close()


def asking(step: SecureStep, message: bytes | None) -> SecureRequest:
    return SecureRequest(SESSION, b"token", step, message)


async def settled(tasks: list[asyncio.Task[Reply]]) -> None:
    await asyncio.sleep(0.05)
    assert not any(task.done() for task in tasks)


async def test_the_last_who_comes_lets_everybody_in() -> None:
    async with hosted() as (gate, run):
        asked = [AssignmentRequest(SESSION, eligible=True), asking(SecureStep.ADVERTISE_KEYS, b"keys")]
        waiting = [asyncio.create_task(run.handle(request)) for request in asked]
        await settled(waiting)
        assert await run.handle(SubmitResult(SESSION, secure=True)) == Accepted()
        assert await asyncio.wait_for(asyncio.gather(*waiting), 1.0) == [Accepted(), Accepted()]
    assert gate.seen[3:] == [asked[0], asking(SecureStep.ADVERTISE_KEYS, None)]


async def test_a_wait_that_lasts_is_told_with_what_is_left_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hosting, "HOLD_S", 0.25)
    async with hosted() as (gate, run):
        assert await run.handle(AssignmentRequest(SESSION, eligible=True)) == Wait(LONG.after_s - 0.25)
    assert len(gate.seen) == 1


@pytest.mark.parametrize(
    "request_",
    [asking(SecureStep.SHARE_KEYS, b"shares"), UploadRequest(SESSION, b"token", 8, Digest("ef" * 32))],
    ids=["a device that can train meanwhile", "a turn that another upload's end brings"],
)
async def test_some_waits_are_told_at_once(request_: Request) -> None:
    async with hosted() as (_, run):
        assert await asyncio.wait_for(run.handle(request_), 1.0) == LONG


async def test_beyond_the_limit_devices_are_told_to_ask_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hosting, "MOST_HELD", 2)
    async with hosted() as (_, run):
        waiting = [asyncio.create_task(run.handle(AssignmentRequest(SESSION, eligible=True))) for _ in range(2)]
        await settled(waiting)
        assert await run.handle(AssignmentRequest(SESSION, eligible=True)) == LONG


async def test_a_run_that_closes_keeps_nobody() -> None:
    async with hosted() as (_, run):
        waiting = asyncio.create_task(run.handle(AssignmentRequest(SESSION, eligible=True)))
        await settled([waiting])
        await run.close()
        assert isinstance(await asyncio.wait_for(waiting, 1.0), Wait)


class Busy(Gate):
    """A table that works on uploads until it is let go on."""

    def __init__(self) -> None:
        super().__init__()
        self.go_on = threading.Event()

    def handle(self, request: Request, now_s: float) -> Reply:
        if isinstance(request, UploadRequest):
            self.go_on.wait(5.0)
        return super().handle(request, now_s)


async def test_who_is_done_is_answered_while_the_run_is_busy_and_noted_after_it(caplog: pytest.LogCaptureFixture) -> None:
    gate, end = Busy(), TaskResult(SESSION, ResultStatus.UPLOAD_COMPLETED)
    run = HostedRun(table=gate, population="phones", clock=SystemClock(), on_round=lambda facts: True)  # type: ignore[arg-type]
    busy = asyncio.create_task(run.handle(UploadRequest(SESSION, b"token", 1, Digest(""))))
    await settled([busy])
    assert await asyncio.wait_for(run.handle(end), 1.0) == Acknowledged()
    assert gate.seen == []
    gate.go_on.set()
    await busy
    assert gate.seen[1:] == [end]
    gate.handle = None  # type: ignore[assignment, method-assign]
    assert await run.handle(end) == Acknowledged()
    await run.close()
    assert "could not be noted" in caplog.text
