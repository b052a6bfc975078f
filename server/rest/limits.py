"""Limits on what one client may ask: how often, and how much at once."""

from collections import OrderedDict
from dataclasses import dataclass

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from contract.clock import Clock
from contract.errors import ErrorCode
from server.rest import problems

MOST_BODY_BYTES = 1 << 20
LONGEST_BODY_S = 30.0
"""Seconds that a client has to send its request: one that stops in the middle is not waited for."""
REQUESTS_PER_S = 50.0
BURST = 200.0
_MOST_KEYS = 10_000


@dataclass(frozen=True, slots=True)
class BodyLimits:
    """How much a request may send, and within how many seconds."""

    most_bytes: int = MOST_BODY_BYTES
    longest_s: float = LONGEST_BODY_S


BODY_LIMITS = BodyLimits()


class RateLimit:
    """A token bucket for each key; the keys used longest ago are forgotten first, so memory is bounded.

    >>> from contract.clock import VirtualClock
    >>> limit = RateLimit(VirtualClock(), per_s=1.0, burst=2.0)
    >>> [limit.allows("a") for _ in range(3)], limit.allows("b")
    ([True, True, False], True)
    """

    def __init__(self, clock: Clock, *, per_s: float = REQUESTS_PER_S, burst: float = BURST) -> None:
        self._clock, self._per_s, self._burst = clock, per_s, burst
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def allows(self, key: str) -> bool:
        """Whether one more request of `key` is within its limit; counts it if so."""
        now = self._clock.now_s()
        tokens, at = self._buckets.pop(key, (self._burst, now))
        tokens = min(self._burst, tokens + (now - at) * self._per_s)
        self._buckets[key] = (max(0.0, tokens - 1.0) if tokens >= 1.0 else tokens, now)
        if len(self._buckets) > _MOST_KEYS:
            self._buckets.popitem(last=False)
        return tokens >= 1.0


class LimitsMiddleware:
    """Refuses requests that come too often from one address, or that say that they are too large. It reads no body.

    A request that is answered before its body has come ends its connection: what it still sends is not waited for.
    """

    def __init__(self, app: ASGIApp, *, rate: RateLimit, most_body_bytes: int) -> None:
        self._app, self._rate, self._most = app, rate, most_body_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        client, headers = scope.get("client"), Headers(scope=scope)
        whole = headers.get("content-length", "0") == "0" and "transfer-encoding" not in headers

        async def heard() -> Message:
            nonlocal whole
            message = await receive()
            whole = whole or (message["type"] == "http.request" and not message.get("more_body", False))
            return message

        async def said(message: Message) -> None:
            if message["type"] == "http.response.start" and not whole:
                message["headers"] = [*message.get("headers", ()), (b"connection", b"close")]
            await send(message)

        app = self._refusal(headers, client[0] if client else "local") or self._app
        await app(scope, heard, said)

    def _refusal(self, headers: Headers, client: str) -> "problems.JSONResponse | None":
        if not self._rate.allows(client):
            return problems.response(
                ErrorCode.RATE_LIMITED, "too many requests from this address", headers={"Retry-After": "1"}
            )
        length = headers.get("content-length", "0")
        if not length.isdigit() or int(length) > self._most:
            return problems.response(ErrorCode.TOO_LARGE, f"a request may have {self._most} bytes")
        return None
