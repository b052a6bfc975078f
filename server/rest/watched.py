"""Counts, times, traces and logs every request, by its route's template and never by its path or query."""

import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from contract.clock import Clock
from contract.entropy import Entropy, system_entropy
from server.observability import Metrics, span

_LOG = structlog.get_logger("tutti.rest")


class WatchedMiddleware:
    """Outside of all other middleware, so that refusals are seen too."""

    def __init__(self, app: ASGIApp, *, metrics: Metrics, clock: Clock, entropy: Entropy = system_entropy) -> None:
        self._app, self._metrics, self._clock, self._entropy = app, metrics, clock, entropy

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request, status, began = self._entropy(8).hex(), 500, self._clock.now_s()

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [
                    *message["headers"],
                    (b"tutti-request", request.encode()),
                    (b"x-content-type-options", b"nosniff"),
                ]
            await send(message)

        try:
            with span("http request", method=scope["method"], request=request):
                await self._app(scope, receive, watched)
        finally:
            route = getattr(scope.get("route"), "path", "none")
            seconds = self._clock.now_s() - began
            self._metrics.requests.labels(scope["method"] if route != "none" else "any", route, str(status)).inc()
            self._metrics.request_seconds.labels(route).observe(seconds)
            _LOG.info("request", request=request, method=scope["method"], route=route, status=status, seconds=round(seconds, 4))
