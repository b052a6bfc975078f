"""Who asks, and whether they may: bearer tokens, scopes, populations."""

from collections.abc import Callable, Iterable
from typing import Annotated

from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from contract.errors import ErrorCode, TuttiError
from server.rest.services import Services, services_of
from server.store.values import Run
from server.tokens import Principal, Scope

LOCAL = Principal(id="local", name="whoever is at this machine", scopes=frozenset({Scope.ADMIN}))
"""Who asks where no token is needed: a server on a loopback address whose store has none."""
LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "[::1]"})

BEARER = HTTPBearer(auto_error=False, description="A token made by `tutti token create`.")
ServicesOf = Annotated[Services, Depends(services_of)]


def principal_of(
    request: Request, services: ServicesOf, credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(BEARER)]
) -> Principal:
    """Whose request this is.

    Raises:
      TuttiError: UNAUTHENTICATED without a valid token, unless the server is open and no token was ever made; RATE_LIMITED;
        FORBIDDEN if another site speaks to an open server through the browser of whoever sits here.
    """
    admitted = getattr(request.state, "principal", None)
    if isinstance(admitted, Principal):
        return admitted  # before the body was read
    if credentials is None:
        if services.open_access and not services.tokens.exist():
            _check_site(request)
            return LOCAL
        raise TuttiError(ErrorCode.UNAUTHENTICATED, "this server asks for a bearer token")
    principal = services.tokens.principal(credentials.credentials)
    if not services.rate.allows(f"token {principal.id}"):
        raise TuttiError(ErrorCode.RATE_LIMITED, "too many requests with this token")
    return principal


def _check_site(request: Request) -> None:
    """Without a login, a page elsewhere could speak through the browser, or have its own name lead to this machine."""
    host, origin = request.headers.get("host", ""), request.headers.get("origin")
    name, _, port = host.rpartition(":")
    local = (name if name and port.isdigit() else host) in LOOPBACK_NAMES
    if not local or origin not in {None, f"http://{host}", f"https://{host}"}:
        raise TuttiError(ErrorCode.FORBIDDEN, "this server is open to this machine only; make a token to reach it otherwise")


def admit(
    request: Request, services: Services, credentials: HTTPAuthorizationCredentials | None, needed: Iterable[tuple[Scope, ...]]
) -> None:
    """Decides by the headers and the address alone whether this request may go on, and remembers whose it is.

    Args:
      needed: for each of the route's checks, the scopes of which one must be held.

    Raises:
      TuttiError: as `principal_of`; FORBIDDEN without the scopes, or for a population in the address outside the token's limits.
    """
    principal = principal_of(request, services, credentials)
    for scopes in needed:
        _check_scopes(principal, scopes)
    population = request.path_params.get("population")
    if population is not None:
        check_population(principal, population)
    request.state.principal = principal


def requires(*scopes: Scope) -> Callable[..., Principal]:
    """A dependency that lets those through who hold one of `scopes`."""

    def check(principal: Annotated[Principal, Depends(principal_of)]) -> Principal:
        _check_scopes(principal, scopes)
        return principal

    check.scopes = scopes  # pyright: ignore[reportFunctionMemberAccess] - routes with a body ask before they read it
    return check


def _check_scopes(principal: Principal, scopes: tuple[Scope, ...]) -> None:
    if not principal.may(*scopes):
        needed = " or ".join(scope.value for scope in scopes)
        raise TuttiError(ErrorCode.FORBIDDEN, f"this needs the scope {needed}")


READERS = (Scope.VIEWER, Scope.OPERATOR, Scope.PRIVACY_OFFICER)
Reader = Annotated[Principal, Depends(requires(*READERS))]
Operator = Annotated[Principal, Depends(requires(Scope.OPERATOR))]
Officer = Annotated[Principal, Depends(requires(Scope.PRIVACY_OFFICER))]


def check_population(principal: Principal, population: str) -> None:
    """Refuses a population outside the token's limits.

    Raises:
      TuttiError: FORBIDDEN.
    """
    if not principal.sees(population):
        raise TuttiError(ErrorCode.FORBIDDEN, f"this token is limited to other populations than {population!r}")


def within_limits(principal: Principal, population: str | None = None) -> frozenset[str] | None:
    """The populations that a list may show: the one that is asked for, else all within the token's limits; None for no limit.

    Raises:
      TuttiError: FORBIDDEN for one outside of them.
    """
    if population is not None:
        check_population(principal, population)
        return frozenset({population})
    return principal.populations


def find_run(services: Services, principal: Principal, name: str) -> Run:
    """The run named by id, prefix or `latest`; one of a population outside the token's limits is not found.

    Raises:
      TuttiError: NOT_FOUND.
    """
    run = services.store.run(name)
    if not principal.sees(run.spec.population):
        raise TuttiError(ErrorCode.NOT_FOUND, f"no run starts with {name!r}")
    return run
