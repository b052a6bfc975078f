"""What a device's session needs of a transport."""

from collections.abc import AsyncGenerator, Sequence
from typing import Protocol

from contract.messages import Aborted, Reply, Request, ResourceChunk, ResourceRequest, UploadChunk


class LinkLostError(Exception):
    """No answer came: the server cannot be reached, took too long, or broke the stream off."""


class Transport(Protocol):
    """Carries the messages of any number of devices. Every call may raise `LinkLostError`."""

    async def send(self, request: Request) -> Reply:
        """The answer to one message."""
        ...

    def fetch(self, request: ResourceRequest) -> AsyncGenerator[ResourceChunk | Aborted, None]:
        """The chunks of a resource from the request's offset to its end."""
        ...

    async def send_chunks(self, chunks: Sequence[UploadChunk]) -> Reply:
        """Sends chunks in order; the answer to the last of them."""
        ...
