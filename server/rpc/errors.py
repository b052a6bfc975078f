"""The gRPC boundary's errors: a status from the catalogue, with google.rpc.ErrorInfo in its details."""

from typing import NoReturn

import grpc
from google.protobuf import any_pb2
from google.rpc import error_details_pb2, status_pb2

from contract.errors import ErrorCode, TuttiError
from contract.messages import Aborted

DOMAIN = "tutti"
DETAILS_KEY = "grpc-status-details-bin"
"""The metadata key under which gRPC carries google.rpc.Status."""


async def refuse(context: "grpc.aio.ServicerContext[object, object]", error: TuttiError) -> NoReturn:
    """Ends the call with the status of `error`."""
    await _abort(context, error.code, error.detail, {})


async def refuse_contribution(context: "grpc.aio.ServicerContext[object, object]", reply: Aborted) -> NoReturn:
    """Ends the call with ABORTED, the reason and the time to come back."""
    metadata = {
        "abort_reason": reply.reason.value,
        "retry_minimum_s": repr(reply.retry.minimum_s),
        "retry_maximum_s": repr(reply.retry.maximum_s),
    }
    await _abort(context, ErrorCode.ABORTED, reply.reason.value, metadata)


async def _abort(
    context: "grpc.aio.ServicerContext[object, object]", code: ErrorCode, detail: str, metadata: dict[str, str]
) -> NoReturn:
    status = grpc.StatusCode[code.value.grpc_status]
    packed = any_pb2.Any()
    packed.Pack(error_details_pb2.ErrorInfo(reason=code.name, domain=DOMAIN, metadata=metadata))
    whole = status_pb2.Status(code=status.value[0], message=detail, details=[packed])
    await context.abort(status, detail, ((DETAILS_KEY, whole.SerializeToString()),))
    raise AssertionError("abort raises")
