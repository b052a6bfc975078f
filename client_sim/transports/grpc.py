"""Messages over gRPC: one channel carries all devices of a process."""

import asyncio
import math
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from pathlib import Path
from typing import assert_never

import grpc
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2

from client_sim.transports import convert
from client_sim.transports.secure_calls import SecureCalls
from client_sim.transports.transport import LinkLostError
from contract.errors import ErrorCode, TuttiError
from contract.messages import (
    MAX_CHUNK_BYTES,
    Aborted,
    AbortReason,
    Accepted,
    Acknowledged,
    AssignmentRequest,
    EligibilityRequest,
    Reply,
    Request,
    ResourceChunk,
    ResourceRequest,
    RetryWindow,
    SecureRequest,
    SubmitResult,
    TaskResult,
    UploadChunk,
    UploadRequest,
)
from protos.tutti.v1 import aggregations_pb2 as aggregations
from protos.tutti.v1 import aggregations_pb2_grpc as aggregations_grpc
from protos.tutti.v1 import eligibility_eval_tasks_pb2_grpc as eligibility_grpc
from protos.tutti.v1 import resources_pb2_grpc as resources_grpc
from protos.tutti.v1 import task_assignments_pb2_grpc as assignments_grpc

CALL_S = 60.0
"""How long one message may take, a round's commit on the server included."""
STREAM_S = 600.0
MOST_DOWNLOADS = 8
"""Models on their way to this process at once: a cohort's worth would not fit its memory."""
LARGEST_MESSAGE_BYTES = MAX_CHUNK_BYTES + (64 << 10)
LARGEST_RETRY_S = 7 * 86_400.0
_DETAILS_KEY = "grpc-status-details-bin"


class GrpcTransport:
    """A connection to `server` (HOST:PORT). It is made when it is first used, and made again when it breaks.

    Args:
      root_certificate: PEM file of the authority that signed the server's certificate; None speaks without TLS.

    Raises:
      TuttiError: ARGUMENT_INVALID if the certificate cannot be read.
    """

    def __init__(self, server: str, *, root_certificate: Path | None = None) -> None:
        options = [
            ("grpc.max_receive_message_length", LARGEST_MESSAGE_BYTES),
            ("grpc.max_reconnect_backoff_ms", 5_000),
        ]
        if root_certificate is None:
            self._channel = grpc.aio.insecure_channel(server, options=options)
        else:
            self._channel = grpc.aio.secure_channel(server, _trust(root_certificate), options=options)
        self._downloads = asyncio.Semaphore(MOST_DOWNLOADS)
        self._eligibility = eligibility_grpc.EligibilityEvalTasksStub(self._channel)
        self._assignments = assignments_grpc.TaskAssignmentsStub(self._channel)
        self._resources = resources_grpc.ResourcesStub(self._channel)
        self._aggregations = aggregations_grpc.AggregationsStub(self._channel)
        self._secure = SecureCalls(self._channel)

    async def close(self) -> None:
        """Ends the connection and every call on it."""
        await self._channel.close()

    async def send(self, request: Request) -> Reply:
        """The answer to one message."""
        try:
            return await self._call(request)
        except grpc.aio.AioRpcError as error:
            return _aborted(error)
        except convert.NoAnswerError as error:
            raise LinkLostError(str(error)) from None

    async def fetch(self, request: ResourceRequest) -> AsyncGenerator[ResourceChunk | Aborted, None]:
        """The chunks of a resource."""
        async with self._downloads:
            call = self._resources.ReadResource(convert.resource_request(request), timeout=STREAM_S)
            try:
                async for message in call:
                    yield convert.resource_chunk(message)
            except grpc.aio.AioRpcError as error:
                yield _aborted(error)
            finally:
                call.cancel()

    async def send_chunks(self, chunks: Sequence[UploadChunk]) -> Reply:
        """Sends chunks in order."""
        try:
            return await self._upload(chunks)
        except grpc.aio.AioRpcError as error:
            return _aborted(error)

    async def _upload(self, chunks: Sequence[UploadChunk]) -> Reply:
        async def messages() -> AsyncIterator[aggregations.UploadChunk]:
            for chunk in chunks:
                yield convert.upload_chunk(chunk)

        if chunks and chunks[0].secure:
            return convert.upload_progress(await self._secure.upload(chunks))
        return convert.upload_progress(await self._aggregations.UploadAggregationData(messages(), timeout=STREAM_S))

    async def _call(self, request: Request) -> Reply:
        match request:
            case SecureRequest():
                return await self._secure.phase(request)
            case UploadRequest(secure=True):
                return await self._secure.open_upload(request)
            case SubmitResult(secure=True):
                return await self._secure.submit(request)
            case EligibilityRequest():
                answer = await self._eligibility.RequestEligibilityEvalTask(
                    convert.eligibility_request(request), timeout=CALL_S
                )
                return convert.eligibility_reply(answer)
            case AssignmentRequest():
                place = await self._assignments.StartTaskAssignment(convert.assignment_request(request), timeout=CALL_S)
                return convert.assignment_reply(place, request.session_id)
            case UploadRequest():
                opened = await self._aggregations.StartAggregationDataUpload(convert.upload_request(request), timeout=CALL_S)
                return convert.upload_reply(opened)
            case SubmitResult():
                await self._aggregations.SubmitAggregationResult(convert.submit_request(request), timeout=CALL_S)
                return Accepted()
            case TaskResult():
                await self._assignments.ReportTaskResult(convert.result_request(request), timeout=CALL_S)
                return Acknowledged()
            case UploadChunk():
                return await self._upload([request])
            case ResourceRequest():
                raise ValueError("a resource is fetched, not sent for")
            case _:
                assert_never(request)


def _trust(root_certificate: Path) -> grpc.ChannelCredentials:
    try:
        return grpc.ssl_channel_credentials(root_certificate.read_bytes())
    except OSError as error:
        raise TuttiError(ErrorCode.ARGUMENT_INVALID, f"{root_certificate}: cannot be read: {error}") from None


def _aborted(error: grpc.aio.AioRpcError) -> Aborted:
    """Why the server does not take the contribution; anything else that went wrong is a lost link."""
    if error.code() is grpc.StatusCode.ABORTED:
        for key, value in error.trailing_metadata() or ():
            if key == _DETAILS_KEY and isinstance(value, bytes) and (found := _read_details(value)) is not None:
                return found
    raise LinkLostError(f"{error.code().name}: {error.details()}")


def _read_details(details: bytes) -> Aborted | None:
    try:
        status = status_pb2.Status.FromString(details)
        info = error_details_pb2.ErrorInfo()
        if not status.details or not status.details[0].Unpack(info):
            return None
        window = RetryWindow(_seconds(info.metadata["retry_minimum_s"]), _seconds(info.metadata["retry_maximum_s"]))
        return Aborted(AbortReason(info.metadata["abort_reason"]), window)
    except (DecodeError, ValueError):
        return None


def _seconds(text: str) -> float:
    value = float(text)
    return min(LARGEST_RETRY_S, max(0.0, value)) if math.isfinite(value) else LARGEST_RETRY_S
