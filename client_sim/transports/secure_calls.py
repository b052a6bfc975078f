"""The calls of a secure aggregation over gRPC, on the device's side: one a phase, asked again while it is answered with a wait."""

from collections.abc import AsyncIterator, Sequence
from typing import assert_never

import grpc

from client_sim.transports.convert import NoAnswerError, written_chunk
from contract.messages import (
    Accepted,
    Reply,
    SecureAnswer,
    SecureRequest,
    SecureStep,
    SubmitResult,
    UploadChunk,
    UploadProgress,
    UploadRequest,
    Wait,
)
from protos.tutti.secagg.v1 import secagg_pb2 as secagg
from protos.tutti.v1 import aggregations_pb2 as aggregations
from protos.tutti.v1 import secure_aggregations_pb2 as secure
from protos.tutti.v1 import secure_aggregations_pb2_grpc as secure_grpc

CALL_S = 60.0
STREAM_S = 600.0


class SecureCalls:
    """The service of secure aggregations on `channel`."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._stub = secure_grpc.SecureAggregationsStub(channel)
        self._upload: grpc.aio.StreamUnaryMultiCallable[UploadChunk, aggregations.UploadProgress] = channel.stream_unary(
            "/tutti.v1.SecureAggregations/UploadSecureAggregationData",
            request_serializer=written_chunk,
            response_deserializer=aggregations.UploadProgress.FromString,
        )

    async def phase(self, request: SecureRequest) -> Reply:
        """A phase's message, or the question for its answer."""
        said = None if request.message is None else secagg.DeviceMessage.FromString(request.message)
        session, token = request.session_id, request.authorization_token
        match request.step:
            case SecureStep.ADVERTISE_KEYS:
                keys = secure.AdvertiseKeysRequest(
                    session_id=session, authorization_token=token, advertise_keys=None if said is None else said.advertise_keys
                )
                roster = await self._stub.AdvertiseKeys(keys, timeout=CALL_S)
                return _found(roster.WhichOneof("result"), roster, secagg.ServerMessage(roster=roster.roster))
            case SecureStep.SHARE_KEYS:
                dealt = secure.ShareKeysRequest(
                    session_id=session, authorization_token=token, share_keys=None if said is None else said.share_keys
                )
                shares = await self._stub.ShareKeys(dealt, timeout=CALL_S)
                forwarded = secagg.ServerMessage(forwarded_shares=shares.forwarded_shares)
                return _found(shares.WhichOneof("result"), shares, forwarded)
            case SecureStep.CONSISTENCY_CHECK:
                check = secure.ConsistencyCheckRequest(
                    session_id=session,
                    authorization_token=token,
                    consistency_check=None if said is None else said.consistency_check,
                )
                asked = await self._stub.ConsistencyCheck(check, timeout=CALL_S)
                return _found(asked.WhichOneof("result"), asked, secagg.ServerMessage(unmask_request=asked.unmask_request))
            case SecureStep.UNMASKING:
                shares_released = secure.UnmaskRequest(
                    session_id=session, authorization_token=token, unmasking=None if said is None else said.unmasking
                )
                await self._stub.Unmask(shares_released, timeout=CALL_S)
                return Accepted()
            case SecureStep.MASKED_INPUT:
                raise ValueError("a masked input is uploaded in chunks")
            case _:
                assert_never(request.step)

    async def open_upload(self, request: UploadRequest) -> Reply:
        """Where to begin, or a wait."""
        message = secure.StartSecureAggregationDataUploadRequest(
            session_id=request.session_id,
            authorization_token=request.authorization_token,
            num_bytes=request.num_bytes,
            sha256=request.sha256,
        )
        opened = await self._stub.StartSecureAggregationDataUpload(message, timeout=CALL_S)
        match opened.WhichOneof("result"):
            case "progress":
                return UploadProgress(opened.progress.offset)
            case "wait":
                return Wait(opened.wait.after_s)
            case _:
                raise NoAnswerError("neither progress nor a wait")

    async def upload(self, chunks: Sequence[UploadChunk]) -> aggregations.UploadProgress:
        """Chunks in order; how far the upload is."""

        async def messages() -> AsyncIterator[UploadChunk]:
            for chunk in chunks:
                yield chunk

        return await self._upload(messages(), timeout=STREAM_S)

    async def submit(self, request: SubmitResult) -> Reply:
        """All chunks are sent; who survived, or a wait."""
        message = secure.SubmitSecureAggregationResultRequest(session_id=request.session_id)
        found = await self._stub.SubmitSecureAggregationResult(message, timeout=CALL_S)
        announced = secagg.ServerMessage(survivors_announcement=found.survivors)
        return _found(found.WhichOneof("result"), found, announced)


def _found(
    which: str | None,
    answer: secure.AdvertiseKeysResponse
    | secure.ShareKeysResponse
    | secure.ConsistencyCheckResponse
    | secure.SubmitSecureAggregationResultResponse,
    message: secagg.ServerMessage,
) -> Wait | SecureAnswer:
    match which:
        case "wait":
            return Wait(answer.wait.after_s)
        case None:
            raise NoAnswerError("a phase was answered with nothing")
        case _:
            return SecureAnswer(message.SerializeToString())
