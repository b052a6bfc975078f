"""Routes that cost nothing: what a task would cost, whether it would be refused, which tasks there are."""

from collections.abc import Generator
from contextlib import contextmanager
from typing import Annotated, Any

from fastapi import APIRouter, Path

from contract import task
from contract.errors import ErrorCode, TuttiError
from contract.task import TaskFormError
from server import tasks
from server.rest import bodies, cursors, describing, launching
from server.rest.access import Reader, ServicesOf, check_population, find_run, within_limits
from server.rest.cursors import Cursor, Limit
from server.rest.headers_first import HeadersFirst
from server.rest.problems import describes
from server.rest.runs import READ, READ_ONE
from server.rest.services import Services
from server.store.run_lists import TaskTally

router = APIRouter(prefix="/v1", tags=["tasks"], route_class=HeadersFirst)
MOST_ROUNDS = {"blt": 2_000}
"""Its buffers are fitted to the number of rounds: a second or two for so many."""
MOST_ROUNDS_OTHERWISE = 10_000


@router.post("/cost", responses=READ_ONE | describes(ErrorCode.TASK_INVALID, ErrorCode.MECHANISM_UNSUPPORTED))
def cost(services: ServicesOf, principal: Reader, body: bodies.CostQuestion) -> bodies.CostAnswer:
    """What a task would cost, or a run if it went on for `rounds` more rounds."""
    if (body.task is None) == (body.run is None):
        raise TuttiError(ErrorCode.ARGUMENT_INVALID, "give either a task or a run")
    if body.task is not None:
        run, spec = None, launching.parse(services, body.task)
        check_population(principal, spec.population)
        rounds = body.rounds if body.rounds is not None else spec.rounds
    else:
        run = find_run(services, principal, body.run or "")
        spec, rounds = run.spec, run.next_leaf + (body.rounds or 0) if body.rounds else run.spec.rounds
    most = MOST_ROUNDS.get(spec.privacy.mechanism, MOST_ROUNDS_OTHERWISE)
    if rounds > most:
        detail = (
            f"over REST at most {most} rounds of {spec.privacy.mechanism} are priced, not {rounds}; `tutti cost` prices more"
        )
        raise TuttiError(ErrorCode.ARGUMENT_INVALID, detail)
    with one_pricing(services):
        prepared = tasks.prepare(task.replace(spec, rounds=rounds))
        return describing.cost_answer(services, prepared, run=None if run is None else run.id)


@contextmanager
def one_pricing(services: Services) -> Generator[None]:
    """Room for one more calculation.

    Raises:
      TuttiError: RATE_LIMITED while there is none.
    """
    if not services.pricing.acquire(blocking=False):
        raise TuttiError(ErrorCode.RATE_LIMITED, "other tasks are being priced; ask again")
    try:
        yield
    finally:
        services.pricing.release()


@router.post("/tasks:check", responses=READ)
def check(services: ServicesOf, _principal: Reader, body: bodies.TaskOnly) -> bodies.CheckBody:
    """Everything about a task that a run would refuse, with the key and the cure of each."""
    try:
        with one_pricing(services):
            found = tasks.problems(launching.parse(services, body.task))
    except TaskFormError as error:
        found = list(error.problems)
    told = [{"path": fault.path, "message": fault.message, "cure": fault.cure} for fault in found]
    return bodies.CheckBody(ok=not told, problems=told)


@router.get("/tasks/schema", responses=READ)
def schema(_principal: Reader) -> dict[str, Any]:
    """The JSON Schema of a task."""
    return task.json_schema()


@router.get("/tasks", responses=READ)
def list_tasks(
    services: ServicesOf, principal: Reader, limit: Limit = 50, cursor: Cursor = None
) -> bodies.Page[bodies.TaskBody]:
    """Tasks that have been run, by digest."""
    after = "" if cursor is None else cursors.decode(cursor)
    found = services.store.lists.tasks(limit=limit + 1, after=after, populations=within_limits(principal))
    page, following = cursors.cut(found, limit, lambda tally: tally.digest)
    return bodies.Page(items=[_task(tally) for tally in page], next=following)


@router.get("/tasks/{digest}", responses=READ_ONE)
def show_task(
    services: ServicesOf, principal: Reader, digest: Annotated[str, Path(pattern="^[0-9a-f]{64}$")]
) -> bodies.TaskBody:
    """One task."""
    found = services.store.lists.tasks(digest=digest, populations=within_limits(principal))
    if not found:
        raise TuttiError(ErrorCode.NOT_FOUND, f"no task has the digest {digest}")
    return _task(found[0])


def _task(tally: TaskTally) -> bodies.TaskBody:
    return bodies.TaskBody(
        digest=tally.digest,
        name=tally.spec.name,
        population=tally.spec.population,
        runs=tally.runs,
        newest_run=tally.newest_run,
        spec=task.to_mapping(tally.spec),
    )
