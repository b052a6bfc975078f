"""Messages by direct call to a handler in the same process."""

from collections.abc import AsyncGenerator, Callable, Sequence

from contract.messages import Aborted, Reply, Request, ResourceChunk, ResourceRequest, UploadChunk, UploadProgress

Handler = Callable[[Request], Reply]


class MemoryTransport:
    """Hands each message to `handler`, as the gRPC server hands it to its session table.

    >>> import asyncio
    >>> from contract.ids import SessionId
    >>> from contract.messages import Accepted, SubmitResult
    >>> asyncio.run(MemoryTransport(lambda request: Accepted()).send(SubmitResult(SessionId("s"))))
    Accepted()
    """

    def __init__(self, handler: Handler) -> None:
        self._handler = handler

    async def send(self, request: Request) -> Reply:
        """The answer to one message."""
        return self._handler(request)

    async def fetch(self, request: ResourceRequest) -> AsyncGenerator[ResourceChunk | Aborted, None]:
        """The chunks of a resource."""
        offset = request.offset
        while True:
            reply = self._handler(ResourceRequest(request.session_id, request.name, offset))
            if not isinstance(reply, ResourceChunk | Aborted):
                raise ValueError(f"a resource was answered with {type(reply).__name__}")
            yield reply
            if isinstance(reply, Aborted) or reply.last:
                return
            offset += len(reply.data)

    async def send_chunks(self, chunks: Sequence[UploadChunk]) -> Reply:
        """Sends chunks in order, and no more after one that was not taken."""
        reply: Reply = UploadProgress(0)
        for chunk in chunks:
            reply = self._handler(chunk)
            if isinstance(reply, Aborted):
                break
        return reply
