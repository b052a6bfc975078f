"""Routes of populations: what may be spent, what is spent, and whether a second person must agree."""

from typing import Annotated

from fastapi import APIRouter, Path, Response

from contract.errors import ErrorCode, TuttiError
from server.rest import bodies, budgeting, reporting
from server.rest.access import Officer, Reader, ServicesOf, check_population
from server.rest.headers_first import HeadersFirst
from server.rest.problems import describes
from server.rest.runs import READ, READ_ONE
from server.rest.services import Services
from server.store.run_lists import RunCounts
from server.tokens import Principal

router = APIRouter(prefix="/v1", tags=["populations"], route_class=HeadersFirst)
PopulationName = Annotated[str, Path(max_length=63, pattern="^[a-z0-9][a-z0-9._-]{0,62}$", examples=["demo-mlp"])]


@router.get("/populations", responses=READ)
def list_populations(services: ServicesOf, principal: Reader) -> bodies.Page[bodies.PopulationBody]:
    """Every population that has runs, a budget or a policy."""
    counts = services.store.lists.counts()
    names = set(counts) | services.policies.populations() | budgeting.populations(services)
    visible = [name for name in sorted(names) if principal.sees(name)]
    return bodies.Page(items=[_population(services, name, counts.get(name, RunCounts())) for name in visible], next=None)


@router.get("/populations/{population}/budget", responses=READ_ONE)
def show_budget(services: ServicesOf, principal: Reader, population: PopulationName) -> bodies.BudgetBody:
    """The budget of a population and what all its runs together have spent of it."""
    _known(services, principal, population)
    return budgeting.budget(services, population)


@router.put("/populations/{population}/budget", responses=READ)
def set_budget(
    services: ServicesOf, principal: Officer, population: PopulationName, body: bodies.BudgetChange
) -> bodies.BudgetBody:
    """Sets the budget of a population. The change and its reason are a ledger entry."""
    check_population(principal, population)
    budgeting.change(services, principal, population, body)
    return budgeting.budget(services, population)


@router.put("/populations/{population}/approval", responses=READ)
def set_approval(
    services: ServicesOf, principal: Officer, population: PopulationName, body: bodies.PolicyChange
) -> bodies.PopulationBody:
    """Whether runs of this population start, and their models leave, only after another person's approval; the rule is an entry."""
    check_population(principal, population)
    services.policies.set_approval(population, required=body.required, reason=body.reason or "", by=f"token {principal.id}")
    return _population(services, population, _counts(services, population))


@router.get(
    "/populations/{population}/report",
    response_class=Response,
    responses=READ_ONE | reporting.FORMATS | describes(ErrorCode.LEDGER_BROKEN),
)
def population_report(
    services: ServicesOf, principal: Reader, population: PopulationName, accept: reporting.Accept = None
) -> Response:
    """The report of a population: all its runs and accesses together, with its budget."""
    _known(services, principal, population)
    return reporting.population_report(services, population, accept)


def _known(services: Services, principal: Principal, population: str) -> None:
    runs = _counts(services, population).runs
    known = bool(runs) or population in services.policies.populations() or population in budgeting.populations(services)
    if not known or not principal.sees(population):
        raise TuttiError(ErrorCode.NOT_FOUND, f"there is no population {population!r}")


def _counts(services: Services, population: str) -> RunCounts:
    return services.store.lists.counts(populations={population}).get(population, RunCounts())


def _population(services: Services, name: str, counts: RunCounts) -> bodies.PopulationBody:
    return bodies.PopulationBody(
        population=name,
        runs=counts.runs,
        running=counts.running,
        approval_required=services.policies.approval_required(name),
    )
