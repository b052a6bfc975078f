"""Reports over REST: JSON, or Markdown for whoever asks for it."""

from typing import Annotated, Any

from fastapi import APIRouter, Header, Response
from fastapi.responses import JSONResponse

from contract.errors import ErrorCode
from server.rest import describing
from server.rest.access import Reader, ServicesOf, find_run
from server.rest.problems import describes
from server.rest.runs import READ_ONE, RunName
from server.rest.services import Services
from server.store.values import Run

router = APIRouter(prefix="/v1", tags=["reports"])
Accept = Annotated[str | None, Header(max_length=500, description="`application/json` or `text/markdown`.")]
ReportResponse = Response
FORMATS: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The report, its numbers recomputed from the ledger's entries.",
        "content": {"application/json": {"schema": {"type": "object"}}, "text/markdown": {"schema": {"type": "string"}}},
    }
}
_RESPONSES = READ_ONE | FORMATS | describes(ErrorCode.LEDGER_BROKEN)


@router.get("/runs/{run}/report", response_class=Response, responses=_RESPONSES)
def run_report(services: ServicesOf, principal: Reader, run: RunName, accept: Accept = None) -> Response:
    """The whole report of a run."""
    found = find_run(services, principal, run)
    return _answer(describing.spent(services, found).to_json(), accept)


def population_report(services: Services, population: str, runs: list[Run], accept: str | None) -> Response:
    """The report of a population: all its runs together."""
    return _answer({"population": population, "runs": [describing.spent(services, run).to_json() for run in runs]}, accept)


def _answer(report: dict[str, Any], accept: str | None) -> Response:
    return JSONResponse(report)
