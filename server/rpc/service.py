"""The gRPC server: its port, TLS, health, reflection, and a shutdown that lets a commit end."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from contract.errors import ErrorCode, TuttiError
from contract.messages import MAX_CHUNK_BYTES
from server.rpc import registry
from server.rpc.hosting import Host

DEFAULT_PORT = 7310
LARGEST_MESSAGE_BYTES = MAX_CHUNK_BYTES + (64 << 10)
"""A chunk and its envelope; a plan fits as well."""
MOST_CALLS = 20_000
GRACE_S = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """Where to listen; port 0 takes a free one. Without `certificate` and `key` (PEM files) the server speaks plain HTTP/2."""

    host: str = "127.0.0.1"
    port: int = DEFAULT_PORT
    certificate: Path | None = None
    key: Path | None = None

    def credentials(self) -> grpc.ServerCredentials | None:
        """The server's identity, if it has one.

        Raises:
          TuttiError: ARGUMENT_INVALID if only one file is named, or one cannot be read.
        """
        if self.certificate is None or self.key is None:
            if self.certificate is not self.key:
                raise TuttiError(ErrorCode.ARGUMENT_INVALID, "TLS needs both a certificate and its key")
            return None
        try:
            return grpc.ssl_server_credentials([(self.key.read_bytes(), self.certificate.read_bytes())])
        except OSError as error:
            raise TuttiError(ErrorCode.ARGUMENT_INVALID, f"the TLS files cannot be read: {error}") from None


class RpcServer:
    """Serves `host` until it is closed. Needs a running event loop, which other servers may share.

    >>> import asyncio
    >>> async def port_of() -> bool:
    ...     server = RpcServer(Host(), Address(port=0))
    ...     await server.start()
    ...     await server.close(grace_s=0.0)
    ...     return server.port > 0
    >>> asyncio.run(port_of())
    True
    """

    def __init__(self, host: Host, address: Address) -> None:
        self._host, self._address = host, address
        options = [
            ("grpc.max_receive_message_length", LARGEST_MESSAGE_BYTES),
            ("grpc.max_send_message_length", LARGEST_MESSAGE_BYTES),
            ("grpc.so_reuseport", 0),
        ]
        self._server = grpc.aio.server(options=options, maximum_concurrent_rpcs=MOST_CALLS)
        self._health: Any = health.aio.HealthServicer()  # pyright: ignore[reportAttributeAccessIssue] - it is there
        self._names = registry.register(self._server, host)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        reflection.enable_server_reflection((*self._names, health.SERVICE_NAME, reflection.SERVICE_NAME), self._server)
        self.port = 0

    async def start(self) -> None:
        """Begins to listen.

        Raises:
          TuttiError: UNAVAILABLE if the address cannot be had; ARGUMENT_INVALID for unusable TLS files.
        """
        credentials, where = self._address.credentials(), f"{self._address.host}:{self._address.port}"
        try:
            if credentials is None:
                self.port = self._server.add_insecure_port(where)
            else:
                self.port = self._server.add_secure_port(where, credentials)
        except RuntimeError:
            self.port = 0
        if self.port == 0:
            raise TuttiError(ErrorCode.UNAVAILABLE, f"{where} cannot be listened on: another server may be there")
        await self._server.start()
        for name in ("", *self._names):
            await self._health.set(name, health_pb2.HealthCheckResponse.SERVING)

    async def close(self, *, grace_s: float = GRACE_S) -> None:
        """Says that it is going, sends devices away, ends the runs' threads and, after `grace_s`, every call."""
        await self._health.enter_graceful_shutdown()
        await self._host.close()
        await self._server.stop(grace_s)
