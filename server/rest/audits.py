"""Routes of audits: ask for one, watch it, read what it put on the record."""

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Path, Response
from sse_starlette import EventSourceResponse, ServerSentEvent

from contract.clock import SystemClock
from contract.errors import ErrorCode
from privacy.ledger.entries import EntryKind
from server.rest import auditing, bodies, cursors
from server.rest.access import Officer, Operator, Reader, ServicesOf, within_limits
from server.rest.answered import Answer
from server.rest.cursors import Cursor, Limit
from server.rest.events import POLL_S, STREAM
from server.rest.headers_first import HeadersFirst
from server.rest.ledger import visible
from server.rest.problems import describes
from server.rest.runs import CHANGE, LAUNCHED, READ, READ_ONE, REFUSALS, IdempotencyKey, PopulationFilter
from server.rest.services import Services

router = APIRouter(prefix="/v1", tags=["audits"], route_class=HeadersFirst)
AuditName = Annotated[
    str, Path(min_length=8, max_length=64, pattern="^[a-f0-9]+$", description="An audit's id or a prefix of it.")
]


@router.get("/audits", responses=READ)
def list_audits(
    services: ServicesOf, principal: Reader, limit: Limit = 50, cursor: Cursor = None
) -> bodies.Page[bodies.AuditBody]:
    """Audits on the record, the oldest first: what was measured beside what is proven."""
    start = cursors.number(cursor, default=-1) + 1
    found: list[bodies.AuditBody] = []
    for entry in services.store.ledger.entries(kind=EntryKind.AUDIT_RECORDED.value, start=start):
        if visible(principal, entry):
            found.append(auditing.entry_body(entry))
        if len(found) > limit:
            break
    page, following = cursors.cut(found, limit, lambda body: str(body.index))
    return bodies.Page(items=list(page), next=following)


@router.post("/audits", status_code=201, responses=READ | REFUSALS | LAUNCHED)
def launch_audit(
    services: ServicesOf,
    principal: Operator,
    body: bodies.AuditLaunchBody,
    response: Response,
    idempotency_key: IdempotencyKey = None,
) -> bodies.AuditJobBody:
    """Asks for an audit: canaries in simulated devices, a control and treatments, and what leaked beside what is proven.

    Its id is a digest of its specification and data, so that the same audit twice is a conflict; with an `Idempotency-Key` it is told
    again.
    """

    def act() -> Answer:
        told = auditing.launch(services, principal, body)
        return Answer(201, told.model_dump_json(), f"/v1/audits/{told.audit}")

    digest = hashlib.sha256(json.dumps(body.model_dump(mode="json"), sort_keys=True).encode()).hexdigest()
    answer = services.answered.once(principal=principal.id, key=idempotency_key, digest=digest, act=act)
    response.headers["Location"] = answer.location or ""
    return bodies.AuditJobBody.model_validate_json(answer.body)


@router.get("/audits/jobs", responses=READ)
def list_audit_jobs(
    services: ServicesOf, principal: Reader, limit: Limit = 50, cursor: Cursor = None, population: PopulationFilter = None
) -> bodies.Page[bodies.AuditJobBody]:
    """Audits that were asked for, the newest first."""
    within = within_limits(principal, population)
    found = services.audits.page(limit=limit + 1, before=None if cursor is None else cursors.decode(cursor), populations=within)
    page, following = cursors.cut(found, limit, lambda audit: audit.id)
    jobs = services.jobs.of_all([audit.id for audit in page])
    return bodies.Page(items=[auditing.job_body(audit, jobs[audit.id]) for audit in page], next=following)


@router.get("/audits/{audit}", responses=READ_ONE)
def show_audit(services: ServicesOf, principal: Reader, audit: AuditName) -> bodies.AuditDetail:
    """One audit: an entry for each model that it attacked, the control's first; its job and whole result if it was asked for here."""
    return auditing.detail(services, principal, audit)


@router.get("/audits/{audit}/events", response_class=EventSourceResponse, responses={**STREAM, **READ_ONE})
def audit_events(services: ServicesOf, principal: Reader, audit: AuditName) -> EventSourceResponse:
    """An audit as it goes on, for an hour at most: `job` whenever anything changes, `end` when nothing more will come."""
    found = auditing.find(services, principal, audit)
    return EventSourceResponse(_events(services, found.id), headers={"Cache-Control": "no-store"})


@router.post("/audits/{audit}:approve", responses=CHANGE)
def approve_audit(services: ServicesOf, principal: Officer, audit: AuditName) -> bodies.AuditJobBody:
    """Approves an audit's start; never by the token that asked for it. The approval is a ledger entry."""
    return auditing.approve(services, principal, auditing.find(services, principal, audit))


@router.post("/audits/{audit}:resume", responses=CHANGE | describes(ErrorCode.RUN_STATE, ErrorCode.CONFLICT))
def resume_audit(services: ServicesOf, principal: Operator, audit: AuditName) -> bodies.AuditJobBody:
    """Lets a failed audit go on where it stopped."""
    return auditing.resume(services, auditing.find(services, principal, audit))


@router.post("/audits/{audit}:cancel", responses=CHANGE)
def cancel_audit(services: ServicesOf, principal: Operator, audit: AuditName) -> bodies.AuditJobBody:
    """Ends an audit for good, and the runs that it leaves unfinished. What they have charged stays charged."""
    return auditing.cancel(services, auditing.find(services, principal, audit))


async def _events(services: Services, audit: str) -> AsyncIterator[ServerSentEvent]:
    said, clock = "", SystemClock()
    until_s = clock.now_s() + services.longest_stream_s
    while clock.now_s() <= until_s:
        body = await asyncio.to_thread(auditing.told, services, audit)
        text = body.model_dump_json()
        if text != said:
            said = text
            yield ServerSentEvent(event="job", data=text)
        if body.state in auditing.OVER:
            yield ServerSentEvent(event="end", data=text)
            return
        await asyncio.sleep(POLL_S)
