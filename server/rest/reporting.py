"""Reports over REST: JSON by their published schema, or Markdown for whoever asks for it. Numbers are recomputed from entries."""

from typing import Annotated, Any

from fastapi import APIRouter, Header, Path, Response
from fastapi.responses import JSONResponse

from contract.errors import ErrorCode
from privacy import report as reports
from server import releases
from server.rest.access import Reader, ServicesOf, find_run
from server.rest.problems import describes
from server.rest.runs import READ, READ_ONE, RunName
from server.rest.services import Services

router = APIRouter(prefix="/v1", tags=["reports"])
Accept = Annotated[str | None, Header(max_length=500, description="`application/json` or `text/markdown`.")]
FORMATS: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The report, its numbers recomputed from the ledger's entries.",
        "content": {"application/json": {"schema": {"type": "object"}}, "text/markdown": {"schema": {"type": "string"}}},
    }
}
_RESPONSES = READ_ONE | FORMATS | describes(ErrorCode.LEDGER_BROKEN)


@router.get("/runs/{run}/report", response_class=Response, responses=_RESPONSES)
def run_report(services: ServicesOf, principal: Reader, run: RunName, accept: Accept = None) -> Response:
    """The whole report of a run, in the order of the checklist; what voids or narrows the guarantee comes first."""
    found = find_run(services, principal, run)
    return answer(reports.run_report(_bodies(services, run=found.id), checkpoint=_checkpoint(services)), accept)


@router.get(
    "/runs/{run}/models/{round}/report",
    response_class=Response,
    responses={**_RESPONSES, **describes(ErrorCode.ENTRY_NOT_COMMITTED)},
)
def model_report(
    services: ServicesOf,
    principal: Reader,
    run: RunName,
    count: Annotated[int, Path(alias="round", ge=1, le=10_000_000, description="Rounds behind the model.")],
    accept: Accept = None,
) -> Response:
    """The report of one model: what the run had spent when it was made."""
    found = find_run(services, principal, run)
    model = releases.committed(services.store, found, count)
    made = reports.model_report(_bodies(services, run=found.id), model.digest, checkpoint=_checkpoint(services))
    return answer(made, accept)


@router.get("/reports/schema", responses=READ)
def report_schema(_principal: Reader) -> dict[str, Any]:
    """The JSON Schema of reports."""
    return reports.json_schema()


def population_report(services: Services, population: str, accept: str | None) -> Response:
    """The report of a population: all its runs and accesses together, with its budget."""
    bodies = _bodies(services, population=population)
    return answer(reports.population_report(bodies, population, checkpoint=_checkpoint(services)), accept)


def answer(report: dict[str, Any], accept: str | None) -> Response:
    """The report in the form that was asked for."""
    if accept is not None and "markdown" in accept:
        return Response(reports.to_markdown(report), media_type="text/markdown", headers={"Vary": "Accept"})
    return JSONResponse(report, headers={"Vary": "Accept"})


def _bodies(services: Services, *, run: str | None = None, population: str | None = None) -> list[bytes]:
    return [entry.body for entry in services.store.ledger.entries(run=run, population=population)]


def _checkpoint(services: Services) -> str:
    return services.store.ledger.sign(services.signer)
