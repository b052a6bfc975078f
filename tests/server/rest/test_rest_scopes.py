"""Every scope on every route: who may do what is written down here once, and the API is held to it."""

from typing import Any

import pytest

from server.tokens import Scope

READERS = {Scope.VIEWER, Scope.OPERATOR, Scope.PRIVACY_OFFICER, Scope.ADMIN}
OPERATORS = {Scope.OPERATOR, Scope.ADMIN}
OFFICERS = {Scope.PRIVACY_OFFICER, Scope.ADMIN}
EVERYBODY = None
ALLOWED: dict[tuple[str, str], set[Scope] | None] = {
    ("GET", "/healthz"): EVERYBODY,
    ("GET", "/errors"): EVERYBODY,
    ("GET", "/metrics"): READERS,
    ("GET", "/v1/runs"): READERS,
    ("POST", "/v1/runs"): OPERATORS,
    ("GET", "/v1/runs/{run}"): READERS,
    ("POST", "/v1/runs/{run}:pause"): OPERATORS,
    ("POST", "/v1/runs/{run}:resume"): OPERATORS,
    ("POST", "/v1/runs/{run}:cancel"): OPERATORS,
    ("POST", "/v1/runs/{run}:approve"): OFFICERS,
    ("GET", "/v1/runs/{run}/rounds"): READERS,
    ("GET", "/v1/runs/{run}/sessions"): READERS,
    ("GET", "/v1/runs/{run}/events"): READERS,
    ("GET", "/v1/runs/{run}/models/{round}"): READERS,
    ("GET", "/v1/runs/{run}/report"): READERS,
    ("GET", "/v1/runs/{run}/models/{round}/report"): READERS,
    ("GET", "/v1/reports/schema"): READERS,
    ("GET", "/v1/populations"): READERS,
    ("GET", "/v1/populations/{population}/budget"): READERS,
    ("PUT", "/v1/populations/{population}/budget"): OFFICERS,
    ("PUT", "/v1/populations/{population}/approval"): OFFICERS,
    ("GET", "/v1/populations/{population}/report"): READERS,
    ("GET", "/v1/ledger/entries"): READERS,
    ("GET", "/v1/ledger/entries/{index}"): READERS,
    ("GET", "/v1/ledger/checkpoint"): READERS,
    ("GET", "/v1/ledger/proofs/inclusion"): READERS,
    ("GET", "/v1/ledger/proofs/consistency"): READERS,
    ("GET", "/v1/audits"): READERS,
    ("POST", "/v1/audits"): OPERATORS,
    ("GET", "/v1/audits/jobs"): READERS,
    ("GET", "/v1/audits/{audit}"): READERS,
    ("GET", "/v1/audits/{audit}/events"): READERS,
    ("POST", "/v1/audits/{audit}:approve"): OFFICERS,
    ("POST", "/v1/audits/{audit}:resume"): OPERATORS,
    ("POST", "/v1/audits/{audit}:cancel"): OPERATORS,
    ("GET", "/v1/tasks"): READERS,
    ("GET", "/v1/tasks/schema"): READERS,
    ("GET", "/v1/tasks/{digest}"): READERS,
    ("POST", "/v1/tasks:check"): READERS,
    ("POST", "/v1/cost"): READERS,
}


def test_every_route_is_in_the_table(guarded: Any) -> None:
    document = guarded.client.get("/openapi.json").json()
    found = {(method.upper(), path) for path, item in document["paths"].items() for method in item}
    assert found == set(ALLOWED)


@pytest.mark.parametrize("scope", [None, *Scope])
def test_scope_reaches_its_routes_and_no_others(guarded: Any, scope: Scope | None) -> None:
    headers = {} if scope is None else guarded.headers(scope)
    wrong = []
    for (method, path), allowed in ALLOWED.items():
        address = path.format(run="latest", round=0, population="people", index=0, digest="0" * 64, audit="0" * 64)
        status = guarded.client.request(method, address, headers=headers, json={} if method != "GET" else None).status_code
        refused = allowed is not EVERYBODY and (401 if scope is None else 403 if scope not in allowed else None)
        if (status != refused) if refused else status in (401, 403):
            wrong.append((method, path, status))
    assert not wrong
