"""The gRPC service of secure aggregations: each call is converted, handed to the host, and its answer converted back."""

# ruff: noqa: N802 - the methods have the names of the wire
# pyright: reportIncompatibleMethodOverride=false
# (the stubs know only the synchronous form)

from collections.abc import AsyncIterator

from contract.ids import Digest, SessionId
from contract.messages import Accepted, Reply, ResultStatus, SecureStep, SubmitResult, TaskResult, UploadChunk, UploadRequest
from protos.tutti.secagg.v1 import secagg_pb2 as secagg
from protos.tutti.v1 import aggregations_pb2 as aggregations
from protos.tutti.v1 import pacing_pb2 as pacing
from protos.tutti.v1 import secure_aggregations_pb2 as secure
from protos.tutti.v1 import secure_aggregations_pb2_grpc as secure_grpc
from server.rpc import convert
from server.rpc.servicers import Context, Front, Streams


class SecureAggregations(secure_grpc.SecureAggregationsServicer):
    """The phases of secure rounds."""

    def __init__(self, front: Front, streams: Streams) -> None:
        self._front, self._streams = front, streams

    async def AdvertiseKeys(self, request: secure.AdvertiseKeysRequest, context: Context) -> secure.AdvertiseKeysResponse:
        """See protos/tutti/v1/secure_aggregations.proto."""
        said = secagg.DeviceMessage(advertise_keys=request.advertise_keys) if request.HasField("advertise_keys") else None
        found = await self._phase(request.session_id, request.authorization_token, SecureStep.ADVERTISE_KEYS, said, context)
        if isinstance(found, pacing.Wait):
            return secure.AdvertiseKeysResponse(wait=found)
        return secure.AdvertiseKeysResponse(roster=found.roster)

    async def ShareKeys(self, request: secure.ShareKeysRequest, context: Context) -> secure.ShareKeysResponse:
        """See protos/tutti/v1/secure_aggregations.proto."""
        said = secagg.DeviceMessage(share_keys=request.share_keys) if request.HasField("share_keys") else None
        found = await self._phase(request.session_id, request.authorization_token, SecureStep.SHARE_KEYS, said, context)
        if isinstance(found, pacing.Wait):
            return secure.ShareKeysResponse(wait=found)
        return secure.ShareKeysResponse(forwarded_shares=found.forwarded_shares)

    async def StartSecureAggregationDataUpload(
        self, request: secure.StartSecureAggregationDataUploadRequest, context: Context
    ) -> secure.StartSecureAggregationDataUploadResponse:
        """See protos/tutti/v1/secure_aggregations.proto."""
        asked = UploadRequest(
            SessionId(request.session_id), request.authorization_token, request.num_bytes, Digest(request.sha256), secure=True
        )
        found = convert.upload_response(await self._front.ask(asked, context))
        if found.HasField("wait"):
            return secure.StartSecureAggregationDataUploadResponse(wait=found.wait)
        return secure.StartSecureAggregationDataUploadResponse(progress=found.progress)

    async def UploadSecureAggregationData(
        self, request_iterator: AsyncIterator[aggregations.UploadChunk], context: Context
    ) -> aggregations.UploadProgress:
        """See protos/tutti/v1/secure_aggregations.proto."""

        async def take(chunk: aggregations.UploadChunk) -> Reply:
            return await self._front.ask(
                UploadChunk(SessionId(chunk.session_id), chunk.offset, chunk.data, secure=True), context
            )

        return convert.upload_progress(await self._streams.receive(request_iterator, take, context))

    async def SubmitSecureAggregationResult(
        self, request: secure.SubmitSecureAggregationResultRequest, context: Context
    ) -> secure.SubmitSecureAggregationResultResponse:
        """See protos/tutti/v1/secure_aggregations.proto."""
        reply = await self._front.ask(SubmitResult(SessionId(request.session_id), secure=True), context)
        found = convert.secure_answer(reply)
        if isinstance(found, pacing.Wait):
            return secure.SubmitSecureAggregationResultResponse(wait=found)
        return secure.SubmitSecureAggregationResultResponse(survivors=found.survivors_announcement)

    async def ConsistencyCheck(
        self, request: secure.ConsistencyCheckRequest, context: Context
    ) -> secure.ConsistencyCheckResponse:
        """See protos/tutti/v1/secure_aggregations.proto."""
        signed = request.HasField("consistency_check")
        said = secagg.DeviceMessage(consistency_check=request.consistency_check) if signed else None
        found = await self._phase(request.session_id, request.authorization_token, SecureStep.CONSISTENCY_CHECK, said, context)
        if isinstance(found, pacing.Wait):
            return secure.ConsistencyCheckResponse(wait=found)
        return secure.ConsistencyCheckResponse(unmask_request=found.unmask_request)

    async def Unmask(self, request: secure.UnmaskRequest, context: Context) -> secure.UnmaskResponse:
        """See protos/tutti/v1/secure_aggregations.proto."""
        said = secagg.DeviceMessage(unmasking=request.unmasking)
        asked = convert.secure_request(request.session_id, request.authorization_token, SecureStep.UNMASKING, said)
        reply = await self._front.ask(asked, context)
        if not isinstance(reply, Accepted):
            raise convert.UnexpectedReplyError(reply)
        return secure.UnmaskResponse()

    async def AbortSecureAggregation(
        self, request: secure.AbortSecureAggregationRequest, context: Context
    ) -> secure.AbortSecureAggregationResponse:
        """See protos/tutti/v1/secure_aggregations.proto."""
        left = TaskResult(SessionId(request.session_id), ResultStatus.LOCAL_FAILED)
        convert.heard(await self._front.ask(left, context))
        return secure.AbortSecureAggregationResponse()

    async def _phase(
        self, session: str, token: bytes, step: SecureStep, said: secagg.DeviceMessage | None, context: Context
    ) -> secagg.ServerMessage | pacing.Wait:
        return convert.secure_answer(await self._front.ask(convert.secure_request(session, token, step, said), context))
