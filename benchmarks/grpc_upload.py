"""An upload through the whole stack beside the same bytes through bare gRPC, in one run: what session, hash, norm and sum cost.

    python benchmarks/grpc_upload.py [--dimension 1412250] [--uploads 24] [--at-once 4]

Both servers and both clients share this process and its cores, so the ratio is what counts, not the rate.
"""

import argparse
import asyncio
import hashlib
import json
from collections.abc import AsyncIterator
from typing import Any

import grpc
import numpy as np

from client_sim.transports.grpc import GrpcTransport
from contract.clock import SystemClock
from contract.ids import Digest, RunId, SessionId
from contract.messages import (
    MAX_CHUNK_BYTES,
    Accepted,
    Reply,
    Request,
    SubmitResult,
    UploadChunk,
    UploadProgress,
    UploadRequest,
)
from privacy import grid
from server.rpc.hosting import Host, HostedRun
from server.rpc.service import LARGEST_MESSAGE_BYTES, Address, RpcServer
from server.uploads import Upload, Uploads

RUN = RunId("ab" * 32)


class SummingTable:
    """What a session table does with an upload, without the rounds around it."""

    def __init__(self, encoder: grid.Grid) -> None:
        self.run, self.over, self.stage = RUN, False, 0
        self._encoder, self._uploads = encoder, Uploads()
        self.total = np.zeros(encoder.dimension, np.int64)

    def handle(self, request: Request, now_s: float) -> Reply:
        match request:
            case UploadRequest():
                self._uploads.open(request.session_id, num_bytes=request.num_bytes, sha256=request.sha256, now_s=now_s)
                return UploadProgress(0)
            case UploadChunk():
                upload = self._open(request.session_id)
                upload.add(request.offset, request.data, now_s)
                return UploadProgress(upload.offset)
            case SubmitResult():
                whole = self._open(request.session_id).whole()
                if not isinstance(whole, bytearray):
                    raise ValueError(f"the upload was refused: {whole}")
                vector = np.frombuffer(whole, "<i4")
                if not self._encoder.accepts(vector):
                    raise ValueError("the norm was refused")
                self.total += vector
                self._uploads.finished(request.session_id, now_s)
                return Accepted()
            case _:
                raise ValueError(f"unexpected {type(request).__name__}")

    def _open(self, session: SessionId) -> Upload:
        found = self._uploads.get(session)
        if found is None:
            raise ValueError("no such upload")
        return found

    def tick(self, now_s: float) -> None:
        """Nothing is ever due."""

    def due_s(self) -> float | None:
        return None

    def close(self) -> None:
        """Nothing to close."""


async def through_the_stack(data: bytes, encoder: grid.Grid, uploads: int, at_once: int) -> float:
    host, table, clock = Host(), SummingTable(encoder), SystemClock()
    run: Any = table
    host.add(HostedRun(table=run, population="p", clock=clock, on_round=lambda _: True))
    server = RpcServer(host, Address(port=0))
    await server.start()
    transport, turn = GrpcTransport(f"127.0.0.1:{server.port}"), asyncio.Semaphore(at_once)
    digest = Digest(hashlib.sha256(data).hexdigest())

    async def upload(number: int) -> None:
        session = SessionId(f"{RUN[:16]}.0.{number}")
        chunks = [UploadChunk(session, at, data[at : at + MAX_CHUNK_BYTES]) for at in range(0, len(data), MAX_CHUNK_BYTES)]
        async with turn:
            await transport.send(UploadRequest(session, b"t", len(data), digest))
            await transport.send_chunks(chunks)
            assert await transport.send(SubmitResult(session)) == Accepted()

    await upload(-1)
    began = clock.now_s()
    await asyncio.gather(*(upload(number) for number in range(uploads)))
    seconds = clock.now_s() - began
    await transport.close()
    await server.close(grace_s=0.0)
    return seconds


async def through_bare_grpc(data: bytes, uploads: int, at_once: int) -> float:
    async def swallow(chunks: AsyncIterator[bytes], _context: Any) -> bytes:
        total = 0
        async for chunk in chunks:
            total += len(chunk)
        return str(total).encode()

    options = [("grpc.max_receive_message_length", LARGEST_MESSAGE_BYTES)]
    server, clock = grpc.aio.server(options=options), SystemClock()
    handler = grpc.method_handlers_generic_handler("bare", {"Upload": grpc.stream_unary_rpc_method_handler(swallow)})
    server.add_generic_rpc_handlers((handler,))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    turn = asyncio.Semaphore(at_once)
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=options) as channel:
        method: Any = channel.stream_unary("/bare/Upload")

        async def upload() -> None:
            async with turn:
                await method(iter([data[at : at + MAX_CHUNK_BYTES] for at in range(0, len(data), MAX_CHUNK_BYTES)]))

        await upload()
        began = clock.now_s()
        await asyncio.gather(*(upload() for _ in range(uploads)))
        seconds = clock.now_s() - began
    await server.stop(0.0)
    return seconds


async def measure(dimension: int, uploads: int, at_once: int) -> dict[str, float]:
    encoder = grid.plan(dimension=dimension, clip_norm=0.3)
    delta = np.cos(np.arange(dimension)).astype(np.float32)
    data = encoder.encode(delta, bytes).astype("<i4").tobytes()
    bare = min([await through_bare_grpc(data, uploads, at_once) for _ in range(3)])
    stack = min([await through_the_stack(data, encoder, uploads, at_once) for _ in range(3)])
    megabytes = uploads * len(data) / 1e6
    return {
        "upload_mb": round(len(data) / 1e6, 2),
        "bare_mb_s": round(megabytes / bare, 1),
        "stack_mb_s": round(megabytes / stack, 1),
        "stack_over_bare": round(stack / bare, 2),
        "stack_ms_an_upload": round(1000 * stack / uploads, 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--dimension", type=int, default=1_412_250)
    parser.add_argument("--uploads", type=int, default=24)
    parser.add_argument("--at-once", type=int, default=4)
    arguments = parser.parse_args()
    print(json.dumps(asyncio.run(measure(arguments.dimension, arguments.uploads, arguments.at_once)), indent=2))


if __name__ == "__main__":
    main()
