"""Who asks is decided from the headers: a stranger's body is not read, and nobody waits for a client that stops."""

import asyncio
import contextlib
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import uvicorn
from fastapi.routing import APIRoute

from contract.errors import ErrorCode, TuttiError
from server.rest import audits, costs, events, health, ledger, models, populations, reporting, runs
from server.rest.connections import PromptConnection
from server.rest.headers_first import HeadersFirst, scopes_of, whole_body
from server.rest.limits import BodyLimits
from server.tokens import Scope

ROUTERS = (audits, costs, events, health, ledger, models, populations, reporting, runs)


def _ask(api: Any, method: str, address: str, headers: dict[str, str], *, declared: int = 10_000) -> tuple[int, list[Any], int]:
    """Status, headers, and how often the application asked for the body of a request that never sends one."""
    said: list[Any] = []
    asked = 0

    async def receive() -> Any:
        nonlocal asked
        asked += 1
        await asyncio.sleep(30)

    async def send(message: Any) -> None:
        said.append(message)

    told = {"host": "localhost", "content-type": "application/json", "content-length": str(declared), **headers}
    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": method, "scheme": "http", "path": address,
        "raw_path": address.encode(), "query_string": b"", "root_path": "", "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 2),
        "headers": [(name.lower().encode(), value.encode()) for name, value in told.items()],
    }  # fmt: skip
    asyncio.run(asyncio.wait_for(api.app(scope, receive, send), 20))
    return said[0]["status"], said[0]["headers"], asked


def test_every_route_with_a_body_decides_before_it_reads_it() -> None:
    routes = [route for module in ROUTERS for route in module.router.routes if isinstance(route, APIRoute)]
    with_body = [route for route in routes if route.body_field is not None]
    assert len(with_body) >= 7
    for route in with_body:
        assert isinstance(route, HeadersFirst), route.path
        assert list(scopes_of(route.dependant)), route.path


@pytest.mark.parametrize(
    ("method", "address"),
    [
        ("POST", "/v1/runs"),
        ("POST", "/v1/audits"),
        ("POST", "/v1/cost"),
        ("POST", "/v1/tasks:check"),
        ("POST", "/v1/runs/latest:approve"),
        ("PUT", "/v1/populations/people/budget"),
        ("PUT", "/v1/populations/people/approval"),
    ],
)
def test_of_a_stranger_no_byte_of_the_body_is_asked_for(guarded: Any, method: str, address: str) -> None:
    for headers in ({}, {"authorization": "Bearer tutti_aaaaaaaa_" + "A" * 43}, {"authorization": "Basic eDp5"}):
        status, answered, asked = _ask(guarded, method, address, headers)
        assert (status, asked) == (401, 0)
        assert (b"connection", b"close") in answered  # what the body still brings is not waited for


def test_of_whoever_may_not_use_a_route_no_byte_of_the_body_is_asked_for(guarded: Any) -> None:
    viewer = guarded.headers(Scope.VIEWER)
    for method, address in (("POST", "/v1/runs"), ("PUT", "/v1/populations/people/budget")):
        status, _, asked = _ask(guarded, method, address, viewer)
        assert (status, asked) == (403, 0)
    elsewhere = guarded.headers(Scope.PRIVACY_OFFICER, populations=("others",))
    assert _ask(guarded, "PUT", "/v1/populations/people/approval", elsewhere)[::2] == (403, 0)


def test_a_token_counts_once_a_request(api_of: Any, guarded: Any) -> None:
    api = api_of(guarded.location, burst=4, requests_per_s=1e-9)
    headers = {**api.headers(Scope.VIEWER)}
    answers = [api.client.post("/v1/tasks:check", headers=headers, json={"task": {}}).status_code for _ in range(5)]
    assert answers == [200, 200, 200, 200, 429]
    api.close()


def test_no_route_without_a_body_reads_one(guarded: Any) -> None:
    viewer = guarded.headers(Scope.VIEWER)
    assert _ask(guarded, "GET", "/v1/runs", viewer)[::2] == (200, 0)
    assert _ask(guarded, "POST", "/v1/nothing", {})[::2] == (404, 0)


def test_a_body_is_read_up_to_its_limit_and_no_further() -> None:
    asked = 0

    async def endless() -> Any:
        nonlocal asked
        asked += 1
        return {"type": "http.request", "body": b"x" * 1000, "more_body": True}

    with pytest.raises(TuttiError) as refused:
        asyncio.run(whole_body(endless, BodyLimits(most_bytes=10_000)))
    assert (refused.value.code, asked) == (ErrorCode.TOO_LARGE, 11)


def test_half_a_body_is_no_body() -> None:
    parts = iter([{"type": "http.request", "body": b"{", "more_body": True}, {"type": "http.disconnect"}])

    async def leaves() -> Any:
        return next(parts)

    with pytest.raises(TuttiError, match="left"):
        asyncio.run(whole_body(leaves, BodyLimits()))


@contextlib.contextmanager
def _served(api: Any, **patience: float) -> Iterator[int]:
    """The port of a real server on the loopback device, which is gone afterwards."""

    class Connection(PromptConnection):
        longest_head_s = patience.get("head_s", 60.0)

    server = uvicorn.Server(uvicorn.Config(api.app, http=Connection, log_config=None, access_log=False, lifespan="off"))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=server.run, args=([listener],), daemon=True)
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            server.should_exit = True
            thread.join(20)


def _until_closed(connection: socket.socket) -> bytes:
    connection.settimeout(20)
    parts = list[bytes]()
    while part := connection.recv(65536):
        parts.append(part)
    return b"".join(parts)


@pytest.mark.slow
def test_over_a_socket_a_stranger_with_an_endless_body_is_answered_and_left(guarded: Any) -> None:
    with _served(guarded) as port, socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(
            b"POST /v1/cost HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
            b"1\r\n{\r\n"
        )
        answer = _until_closed(connection)
    assert answer.startswith(b"HTTP/1.1 401 ")
    assert answer.count(b"HTTP/1.1") == 1


@pytest.mark.slow
def test_over_a_socket_a_known_client_that_stops_is_told_so_and_left(api_of: Any, guarded: Any) -> None:
    api = api_of(guarded.location, body_limits=BodyLimits(longest_s=0.2))
    token = api.headers(Scope.VIEWER)["Authorization"].encode()
    with _served(api) as port, socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(
            b"POST /v1/cost HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 100\r\n"
            b"Authorization: " + token + b"\r\n\r\n{"
        )
        answer = _until_closed(connection)
    api.close()
    assert answer.startswith(b"HTTP/1.1 422 ")
    assert b"did not come within" in answer


@pytest.mark.slow
def test_over_a_socket_a_head_that_never_ends_is_not_waited_for(guarded: Any) -> None:
    with _served(guarded, head_s=0.5) as port:
        for begun in (b"", b"GET /healthz HTTP/1.1\r\nHost: loc"):
            with socket.create_connection(("127.0.0.1", port)) as connection:
                connection.sendall(begun)
                assert b"HTTP/" not in _until_closed(connection)
        with socket.create_connection(("127.0.0.1", port)) as connection:
            connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
            connection.settimeout(20)
            assert connection.recv(65536).startswith(b"HTTP/1.1 200 ")
            connection.sendall(b"GET /healthz HTT")  # the next head on a connection that is kept has as long
            assert b"HTTP/" not in _until_closed(connection)
