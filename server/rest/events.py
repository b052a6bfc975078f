"""A run's progress as server-sent events: `state` when it changes, `round` for each attempt, `end` when nothing more will come."""

import asyncio
from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Header
from sse_starlette import EventSourceResponse, ServerSentEvent

from contract.clock import SystemClock
from server.jobs import JobState
from server.rest import describing, launching
from server.rest.access import Reader, ServicesOf, find_run
from server.rest.runs import READ_ONE, RunName
from server.rest.services import Services
from server.store.values import Round, RunState

router = APIRouter(prefix="/v1", tags=["runs"])
POLL_S = 0.4
_LAST_FACT = "epsilon"
"""What whoever plays a simulated run adds to a round last, a moment after its outcome."""
LAST_LOOKS = 5
"""How often the newest round of a run that is over is looked at again for that: its player may have died in that moment."""
STREAM = {200: {"description": "Server-sent events.", "content": {"text/event-stream": {"schema": {"type": "string"}}}}}


@router.get("/runs/{run}/events", response_class=EventSourceResponse, responses={**STREAM, **READ_ONE})
def events(
    services: ServicesOf,
    principal: Reader,
    run: RunName,
    last_event_id: Annotated[str | None, Header(pattern="^[0-9]{1,18}$", max_length=18)] = None,
) -> EventSourceResponse:
    """A run as it goes on, for an hour at most. `Last-Event-ID` goes on where a connection ended."""
    found = find_run(services, principal, run)
    return EventSourceResponse(_events(services, found.id, int(last_event_id or 0)), headers={"Cache-Control": "no-store"})


async def _events(services: Services, run: str, cursor: int) -> AsyncIterator[ServerSentEvent]:
    told, clock, looks = "", SystemClock(), LAST_LOOKS
    until_s = clock.now_s() + services.longest_stream_s
    while clock.now_s() <= until_s:
        state, over, rounds, whole = await asyncio.to_thread(_news, services, run, cursor)
        if not whole and looks:
            rounds.pop()
            over, looks = False, looks - int(over)
        if state != told:
            told = state
            yield ServerSentEvent(event="state", data=state)
        for row in rounds:
            cursor = row.index + 1
            yield ServerSentEvent(event="round", id=str(cursor), data=describing.round_body(row).model_dump_json())
        if over:
            yield ServerSentEvent(event="end", data=state)
            return
        await asyncio.sleep(POLL_S)


def _news(services: Services, name: str, cursor: int) -> tuple[str, bool, list[Round], bool]:
    """The run's state, whether nothing more will come, rounds from `cursor` on that have an outcome, and whether the newest is whole.

    The state is read first: what had ended before it was read has left all its rounds by the time they are read.
    """
    run, job = services.store.run(name), services.jobs.of(name)
    played = job is not None and job.state is JobState.LEASED
    waits = job is not None and job.state in (JobState.QUEUED, JobState.AWAITING_APPROVAL) and run.state is RunState.RUNNING
    elsewhere = job is None and run.state is RunState.RUNNING  # `tutti run` plays it, or devices do
    over = not (played or waits or elsewhere)
    rounds = [row for row in services.store.rounds(name, start=cursor) if row.outcome_entry is not None]
    whole = not rounds or launching.waits_for_devices(run) or _LAST_FACT in rounds[-1].facts
    return describing.run_body(run, job).model_dump_json(), over, rounds, whole
