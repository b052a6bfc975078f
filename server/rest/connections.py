"""HTTP connections that do not wait for ever: a request's head comes in time, or the connection is closed."""

import asyncio

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

LONGEST_HEAD_S = 15.0
"""Seconds from a connection, or from the answer before, to the end of a request's headers. Idle ones are closed sooner."""


class PromptConnection(H11Protocol):
    """Uvicorn's HTTP/1.1, which by itself waits for ever for a client that sends nothing, or a byte at a time."""

    longest_head_s = LONGEST_HEAD_S
    _head: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """The first head is awaited."""
        super().connection_made(transport)
        self._watch()

    def data_received(self, data: bytes) -> None:
        """Some bytes, which may end a head, or begin the next one."""
        super().data_received(data)
        self._watch()

    def on_response_complete(self) -> None:
        """The next head is awaited."""
        super().on_response_complete()
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing is awaited any more."""
        self._forget()
        super().connection_lost(exc)

    def _watch(self) -> None:
        if self.conn.their_state is not h11.IDLE or self.transport.is_closing():
            self._forget()
        elif self._head is None:
            self._head = self.loop.call_later(self.longest_head_s, self.transport.close)

    def _forget(self) -> None:
        if self._head is not None:
            self._head.cancel()
            self._head = None
