"""The gRPC services: each call is converted, handed to the host, and its answer converted back. Nothing is decided here."""

# ruff: noqa: N802 - the methods have the names of the wire
# pyright: reportIncompatibleMethodOverride=false
# (the stubs know only the synchronous form)

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, TypeVar

import grpc
from grpc.aio import ServicerContext

from contract.errors import ErrorCode, TuttiError
from contract.messages import Aborted, Reply, Request, ResourceChunk, UploadProgress
from protos.tutti.v1 import aggregations_pb2 as aggregations
from protos.tutti.v1 import aggregations_pb2_grpc as aggregations_grpc
from protos.tutti.v1 import eligibility_eval_tasks_pb2 as eligibility
from protos.tutti.v1 import eligibility_eval_tasks_pb2_grpc as eligibility_grpc
from protos.tutti.v1 import resources_pb2 as resources
from protos.tutti.v1 import resources_pb2_grpc as resources_grpc
from protos.tutti.v1 import task_assignments_pb2 as assignments
from protos.tutti.v1 import task_assignments_pb2_grpc as assignments_grpc
from server.rpc import convert, errors
from server.rpc.hosting import Host

Context = ServicerContext[Any, Any]
Answer = TypeVar("Answer")
SILENCE_S = 15.0
"""A stream that brings no chunk for so long is ended; the upload can resume."""
MOST_STREAMS = 256
"""Upload streams at once. Each holds a chunk in memory at most; more than eight of them are late, lost or lying."""

_log = logging.getLogger(__name__)


class Front:
    """What all services do with a request: hand it on, and turn faults into statuses."""

    def __init__(self, host: Host) -> None:
        self._host = host

    async def ask(self, request: Request, context: Context) -> Reply:
        """The host's answer; a contribution that is not taken, or an error, ends the call."""
        try:
            reply = await self._host.handle(request)
        except asyncio.CancelledError:
            raise
        except TuttiError as error:
            await errors.refuse(context, error)
        except Exception:  # noqa: BLE001 - the boundary: a device learns that there was a bug of ours, and nothing else
            _log.exception("%s could not be answered", type(request).__name__)
            await errors.refuse(context, TuttiError(ErrorCode.INTERNAL, "the server could not answer this message"))
        if isinstance(reply, Aborted):
            await errors.refuse_contribution(context, reply)
        return reply


class EligibilityEvalTasks(eligibility_grpc.EligibilityEvalTasksServicer):
    """The check-in."""

    def __init__(self, front: Front) -> None:
        self._front = front

    async def RequestEligibilityEvalTask(
        self, request: eligibility.EligibilityEvalTaskRequest, context: Context
    ) -> eligibility.EligibilityEvalTaskResponse:
        """See protos/tutti/v1/eligibility_eval_tasks.proto."""
        return convert.eligibility_response(await self._front.ask(convert.eligibility_request(request), context))


class TaskAssignments(assignments_grpc.TaskAssignmentsServicer):
    """Places in the cohort."""

    def __init__(self, front: Front) -> None:
        self._front = front

    async def StartTaskAssignment(
        self, request: assignments.StartTaskAssignmentRequest, context: Context
    ) -> assignments.StartTaskAssignmentResponse:
        """See protos/tutti/v1/task_assignments.proto."""
        return convert.assignment_response(await self._front.ask(convert.assignment_request(request), context))

    async def ReportTaskResult(
        self, request: assignments.ReportTaskResultRequest, context: Context
    ) -> assignments.ReportTaskResultResponse:
        """See protos/tutti/v1/task_assignments.proto."""
        convert.heard(await self._front.ask(convert.task_result(request), context))
        return assignments.ReportTaskResultResponse()


class Resources(resources_grpc.ResourcesServicer):
    """Models, in chunks."""

    def __init__(self, front: Front) -> None:
        self._front = front

    async def ReadResource(
        self, request: resources.ReadResourceRequest, context: Context
    ) -> AsyncIterator[resources.ResourceChunk]:
        """See protos/tutti/v1/resources.proto."""
        offset = request.offset
        while True:
            reply = await self._front.ask(convert.resource_request(request, offset), context)
            yield convert.resource_chunk(reply)
            if not isinstance(reply, ResourceChunk) or reply.last:
                return
            offset += len(reply.data)


class Streams:
    """Upload streams of a server, in the clear or masked, `MOST_STREAMS` at once."""

    def __init__(self) -> None:
        self._open = 0

    async def receive(
        self,
        chunks: AsyncIterator[aggregations.UploadChunk],
        take: Callable[[aggregations.UploadChunk], Awaitable[Reply]],
        context: Context,
    ) -> Reply:
        """Hands each chunk to `take`; the answer to the last of them."""
        if self._open >= MOST_STREAMS:
            await errors.refuse(context, TuttiError(ErrorCode.RATE_LIMITED, f"{MOST_STREAMS} uploads are on their way"))
        self._open += 1
        try:
            return await self._receive(chunks, take, context)
        finally:
            self._open -= 1

    async def _receive(
        self,
        chunks: AsyncIterator[aggregations.UploadChunk],
        take: Callable[[aggregations.UploadChunk], Awaitable[Reply]],
        context: Context,
    ) -> Reply:
        session: str | None = None
        reply: Reply = UploadProgress(0)
        while (message := await _next_chunk(chunks, context)) is not None:
            if session not in (None, message.session_id):
                await errors.refuse(context, TuttiError(ErrorCode.ARGUMENT_INVALID, "a stream carries one session's chunks"))
            session = message.session_id
            reply = await take(message)
        return reply


class Aggregations(aggregations_grpc.AggregationsServicer):
    """Uploads in the clear."""

    def __init__(self, front: Front, streams: Streams) -> None:
        self._front, self._streams = front, streams

    async def StartAggregationDataUpload(
        self, request: aggregations.StartAggregationDataUploadRequest, context: Context
    ) -> aggregations.StartAggregationDataUploadResponse:
        """See protos/tutti/v1/aggregations.proto."""
        return convert.upload_response(await self._front.ask(convert.upload_request(request), context))

    async def UploadAggregationData(
        self, request_iterator: AsyncIterator[aggregations.UploadChunk], context: Context
    ) -> aggregations.UploadProgress:
        """See protos/tutti/v1/aggregations.proto."""

        async def take(chunk: aggregations.UploadChunk) -> Reply:
            return await self._front.ask(convert.upload_chunk(chunk), context)

        return convert.upload_progress(await self._streams.receive(request_iterator, take, context))

    async def SubmitAggregationResult(
        self, request: aggregations.SubmitAggregationResultRequest, context: Context
    ) -> aggregations.SubmitAggregationResultResponse:
        """See protos/tutti/v1/aggregations.proto."""
        return convert.submit_response(await self._front.ask(convert.submit_result(request), context))

    async def AbortAggregation(
        self, request: aggregations.AbortAggregationRequest, context: Context
    ) -> aggregations.AbortAggregationResponse:
        """See protos/tutti/v1/aggregations.proto."""
        convert.heard(await self._front.ask(convert.abort_request(request), context))
        return aggregations.AbortAggregationResponse()


async def _next_chunk(chunks: AsyncIterator[aggregations.UploadChunk], context: Context) -> aggregations.UploadChunk | None:
    """The next chunk of a stream; None at its end. A stream that falls silent is ended."""
    try:
        async with asyncio.timeout(SILENCE_S):
            return await anext(chunks, None)
    except TimeoutError:
        await context.abort(grpc.StatusCode.DEADLINE_EXCEEDED, f"no chunk for {SILENCE_S:g} s")
        raise
