"""Routes of runs: lists, one run, its rounds and sessions, and what may be done to it."""

import hashlib
import json
from typing import Annotated, Any

from fastapi import APIRouter, Header, Path, Query, Response

from contract.errors import ErrorCode
from server.rest import bodies, cursors, describing, launching
from server.rest.access import Officer, Operator, Reader, ServicesOf, find_run, within_limits
from server.rest.answered import Answer
from server.rest.cursors import Cursor, Limit
from server.rest.headers_first import HeadersFirst
from server.rest.problems import describes
from server.store.values import RunState

router = APIRouter(prefix="/v1", tags=["runs"], route_class=HeadersFirst)
RunName = Annotated[
    str, Path(min_length=1, max_length=64, pattern="^[a-z0-9]+$", description="A run's id, a prefix of it, or `latest`.")
]
READ = describes(
    ErrorCode.UNAUTHENTICATED, ErrorCode.FORBIDDEN, ErrorCode.RATE_LIMITED, ErrorCode.ARGUMENT_INVALID, ErrorCode.TOO_LARGE
)
READ_ONE = READ | describes(ErrorCode.NOT_FOUND)
CHANGE = READ_ONE | describes(ErrorCode.RUN_STATE)
PopulationFilter = Annotated[str | None, Query(pattern="^[a-z0-9][a-z0-9._-]{0,62}$", description="Of this population only.")]
IdempotencyKey = Annotated[str | None, Header(min_length=1, max_length=200, pattern="^[!-~]+$")]

REFUSALS = describes(
    ErrorCode.TASK_INVALID,
    ErrorCode.DATA_INVALID,
    ErrorCode.MECHANISM_UNSUPPORTED,
    ErrorCode.BUDGET_EXCEEDED,
    ErrorCode.CONFLICT,
    ErrorCode.LEASE_HELD,
    ErrorCode.UNAVAILABLE,
)
LAUNCHED: dict[int | str, dict[str, Any]] = {
    201: {
        "description": "It is registered and waits for a runner (or for an approval).",
        "headers": {"Location": {"schema": {"type": "string"}}},
    }
}


@router.get("/runs", responses=READ)
def list_runs(
    services: ServicesOf,
    principal: Reader,
    limit: Limit = 50,
    cursor: Cursor = None,
    population: PopulationFilter = None,
    state: Annotated[RunState | None, Query()] = None,
) -> bodies.Page[bodies.RunBody]:
    """Runs, the newest first."""
    within = within_limits(principal, population)
    before = None if cursor is None else cursors.decode(cursor)
    found = services.store.lists.page(limit=limit + 1, before=before, populations=within, state=state)
    page, following = cursors.cut(found, limit, lambda run: run.id)
    jobs = services.jobs.of_all([run.id for run in page])
    return bodies.Page(items=[describing.run_body(run, jobs.get(run.id)) for run in page], next=following)


@router.post(
    "/runs",
    status_code=201,
    responses=READ | REFUSALS | LAUNCHED,
)
def launch(
    services: ServicesOf,
    principal: Operator,
    body: bodies.LaunchBody,
    response: Response,
    idempotency_key: IdempotencyKey = None,
) -> bodies.RunBody:
    """Launches a simulated run. With an `Idempotency-Key` the same request launches one run, however often it is sent."""

    def act() -> Answer:
        run, job = launching.launch(services, principal, body)
        return Answer(201, describing.run_body(run, job).model_dump_json(), f"/v1/runs/{run.id}")

    digest = hashlib.sha256(json.dumps(body.model_dump(mode="json"), sort_keys=True).encode()).hexdigest()
    answer = services.answered.once(principal=principal.id, key=idempotency_key, digest=digest, act=act)
    response.headers["Location"] = answer.location or ""
    return bodies.RunBody.model_validate_json(answer.body)


@router.get("/runs/{run}", responses=READ_ONE)
def show_run(services: ServicesOf, principal: Reader, run: RunName) -> bodies.RunDetail:
    """One run with its task, its newest metrics and what it has spent."""
    return describing.run_detail(services, find_run(services, principal, run))


@router.post("/runs/{run}:pause", responses=CHANGE)
def pause(services: ServicesOf, principal: Operator, run: RunName) -> bodies.RunBody:
    """Asks a run to stop after the round it is in."""
    return _body(services, launching.pause(services, find_run(services, principal, run)).id)


@router.post("/runs/{run}:resume", responses=CHANGE)
def resume(services: ServicesOf, principal: Operator, run: RunName) -> bodies.RunBody:
    """Lets a paused or failed run go on."""
    return _body(services, launching.resume(services, find_run(services, principal, run)).id)


@router.post("/runs/{run}:cancel", responses=CHANGE)
def cancel(services: ServicesOf, principal: Operator, run: RunName) -> bodies.RunBody:
    """Ends a run for good. What it has charged stays charged, its models stay."""
    return _body(services, launching.cancel(services, find_run(services, principal, run)).id)


@router.post("/runs/{run}:approve", responses=CHANGE)
def approve(services: ServicesOf, principal: Officer, run: RunName, body: bodies.ApprovalBody) -> bodies.RunBody:
    """Approves a run's start or a model's release; never by the token that launched it. The approval is a ledger entry."""
    found = find_run(services, principal, run)
    launching.approve(services, principal, found, body)
    return _body(services, found.id)


@router.get("/runs/{run}/rounds", responses=READ_ONE)
def list_rounds(
    services: ServicesOf, principal: Reader, run: RunName, limit: Limit = 100, cursor: Cursor = None
) -> bodies.Page[bodies.RoundBody]:
    """The attempts at rounds, the oldest first, as they are on the record."""
    found, after = find_run(services, principal, run), cursors.number(cursor, default=-1)
    rows = services.store.rounds(found.id, start=after + 1, limit=limit + 1)
    page, following = cursors.cut(rows, limit, lambda row: str(row.index))
    return bodies.Page(items=[describing.round_body(row) for row in page], next=following)


@router.get("/runs/{run}/sessions", responses=READ_ONE)
def sessions(services: ServicesOf, principal: Reader, run: RunName) -> bodies.SessionsBody:
    """How many device sessions had each shape, the most frequent first."""
    return describing.sessions_body(services.store.rounds(find_run(services, principal, run).id))


def _body(services: ServicesOf, run: str) -> bodies.RunBody:
    return describing.run_body(services.store.run(run), services.jobs.of(run))
