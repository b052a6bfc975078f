"""Routes that take a body: who asks, and whether they may, is decided from the headers; only then is the body read."""

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

from fastapi import Request
from fastapi.concurrency import run_in_threadpool
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import Message, Receive

from contract.errors import ErrorCode, TuttiError
from server.rest import access
from server.rest.limits import BodyLimits
from server.rest.services import services_of
from server.tokens import Scope


class HeadersFirst(APIRoute):
    """A route that reads its body for those only who may use it.

    Guarantee:
      Of a request without a valid token, without the scope, or for a population outside the token's limits, where the address names one,
      no byte of the body is asked for: nothing of it is kept, and nobody waits for it.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The route's own handler behind the decision; the framework's reads the body before it asks who is there."""
        handle, scopes = super().get_route_handler(), tuple(scopes_of(self.dependant))
        if self.body_field is None:
            return handle

        async def decided(request: Request) -> Response:
            credentials = await access.BEARER(request)
            await run_in_threadpool(access.admit, request, services_of(request), credentials, scopes)
            body = await whole_body(request.receive, services_of(request).body_limits)
            return await handle(Request(request.scope, _replaying(body, request.receive)))

        return decided


def scopes_of(dependant: Dependant) -> Iterator[tuple[Scope, ...]]:
    """The scopes of each `requires` that a route depends on, in any depth."""
    scopes = getattr(dependant.call, "scopes", None)
    if scopes is not None:
        yield scopes
    for inner in dependant.dependencies:
        yield from scopes_of(inner)


async def whole_body(receive: Receive, limits: BodyLimits) -> bytes:
    """The body of a request.

    Raises:
      TuttiError: TOO_LARGE as soon as it is; ARGUMENT_INVALID if it does not come in time, or the client leaves.
    """
    try:
        return await asyncio.wait_for(_read(receive, limits.most_bytes), limits.longest_s)
    except TimeoutError:
        raise TuttiError(ErrorCode.ARGUMENT_INVALID, f"the request's body did not come within {limits.longest_s:g} s") from None
    except ClientDisconnect:
        raise TuttiError(ErrorCode.ARGUMENT_INVALID, "the client left before its request was whole") from None


async def _read(receive: Receive, most: int) -> bytes:
    parts, size, more = list[bytes](), 0, True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        part = message.get("body", b"")
        size += len(part)
        if size > most:
            raise TuttiError(ErrorCode.TOO_LARGE, f"a request may have {most} bytes")
        parts.append(part)
        more = message.get("more_body", False)
    return b"".join(parts)


def _replaying(body: bytes, receive: Receive) -> Receive:
    sent = False

    async def replay() -> Message:
        nonlocal sent
        if sent:
            return await receive()
        sent = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replay
