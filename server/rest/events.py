"""A run's progress as server-sent events: `state` when it changes, `round` for each attempt, `end` when nothing more will come."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Header
from sse_starlette import EventSourceResponse, ServerSentEvent

from server.jobs import JobState
from server.rest import cursors, describing
from server.rest.access import Reader, ServicesOf, find_run
from server.rest.runs import READ_ONE, RunName
from server.rest.services import Services
from server.store.values import RunState

router = APIRouter(prefix="/v1", tags=["runs"])
POLL_S = 0.4
_STREAM = {200: {"description": "Server-sent events.", "content": {"text/event-stream": {"schema": {"type": "string"}}}}}


@router.get("/runs/{run}/events", response_class=EventSourceResponse, responses={**_STREAM, **READ_ONE})
def events(
    services: ServicesOf,
    principal: Reader,
    run: RunName,
    last_event_id: Annotated[str | None, Header(pattern="^[0-9]{1,18}$", max_length=18)] = None,
) -> EventSourceResponse:
    """A run as it goes on. `Last-Event-ID` goes on where a connection broke."""
    found = find_run(services, principal, run)
    return EventSourceResponse(_events(services, found.id, int(last_event_id or 0)), headers={"Cache-Control": "no-store"})


async def _events(services: Services, run: str, cursor: int) -> AsyncIterator[ServerSentEvent]:
    told = ""
    while True:
        # The state is read first: what ended before it was read has left all its rounds by the time they are read.
        state, over = await asyncio.to_thread(_state, services, run)
        if state != told:
            told = state
            yield ServerSentEvent(event="state", data=state)
        rounds = await asyncio.to_thread(services.traces.after, run, cursor, cursors.MOST_ITEMS)
        for cursor, facts in rounds:
            yield ServerSentEvent(event="round", id=str(cursor), data=json.dumps(describing.without_infinities(facts)))
        if over and len(rounds) < cursors.MOST_ITEMS:
            yield ServerSentEvent(event="end", data=state)
            return
        await asyncio.sleep(POLL_S)


def _state(services: Services, name: str) -> tuple[str, bool]:
    run, job = services.store.run(name), services.jobs.of(name)
    body = describing.run_body(run, job)
    waits = job is not None and job.state in (JobState.QUEUED, JobState.LEASED, JobState.AWAITING_APPROVAL)
    over = run.state in (RunState.COMPLETED, RunState.CANCELLED, RunState.FAILED) or not waits
    return body.model_dump_json(), over and not (job is not None and job.state is JobState.LEASED)
