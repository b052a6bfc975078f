"""Between protobuf and the contract's messages, on the server's side. Devices' words are judged by the session table, not here."""

from typing import Any

from contract.ids import Digest, SessionId
from contract.messages import (
    Aborted,
    Accepted,
    Acknowledged,
    AssignmentRequest,
    EligibilityRequest,
    EligibilitySpec,
    Rejected,
    ResourceChunk,
    ResourceRequest,
    ResultStatus,
    SecureAnswer,
    SecureRequest,
    SecureStep,
    SubmitResult,
    TaskAssignment,
    TaskResult,
    UploadChunk,
    UploadProgress,
    UploadRequest,
    Wait,
)
from protos.tutti.secagg.v1 import secagg_pb2 as secagg
from protos.tutti.v1 import aggregations_pb2 as aggregations
from protos.tutti.v1 import eligibility_eval_tasks_pb2 as eligibility
from protos.tutti.v1 import pacing_pb2 as pacing
from protos.tutti.v1 import resources_pb2 as resources
from protos.tutti.v1 import task_assignments_pb2 as assignments


class UnexpectedReplyError(ValueError):
    """The session table gave an answer that this call cannot carry: a bug of ours."""

    def __init__(self, reply: object) -> None:
        super().__init__(f"{type(reply).__name__} is no answer to this call")


# -- what devices say ----------------------------------------------------------------------------------------------------------


def eligibility_request(message: eligibility.EligibilityEvalTaskRequest) -> EligibilityRequest:
    """A check-in."""
    return EligibilityRequest(message.population_name, message.client_version)


def assignment_request(message: assignments.StartTaskAssignmentRequest) -> AssignmentRequest:
    """A device asks for a place, or for its assignment."""
    return AssignmentRequest(SessionId(message.session_id), message.eligible)


def resource_request(message: resources.ReadResourceRequest, offset: int) -> ResourceRequest:
    """One chunk of a stream that began at the message's own offset."""
    return ResourceRequest(SessionId(message.session_id), message.name, offset)


def upload_request(message: aggregations.StartAggregationDataUploadRequest) -> UploadRequest:
    """Opens or resumes an upload."""
    return UploadRequest(SessionId(message.session_id), message.authorization_token, message.num_bytes, Digest(message.sha256))


def upload_chunk(message: aggregations.UploadChunk) -> UploadChunk:
    """A piece of an upload."""
    return UploadChunk(SessionId(message.session_id), message.offset, message.data)


def submit_result(message: aggregations.SubmitAggregationResultRequest) -> SubmitResult:
    """All chunks are sent."""
    return SubmitResult(SessionId(message.session_id))


def abort_request(message: aggregations.AbortAggregationRequest) -> TaskResult:
    """The device gives its upload up."""
    return TaskResult(SessionId(message.session_id), ResultStatus.CANCELED)


def task_result(message: assignments.ReportTaskResultRequest) -> TaskResult:
    """How a session ended; a status that this server does not know is a failure on the device."""
    name = assignments.ResultStatus.Name(message.status) if message.status in assignments.ResultStatus.values() else ""
    status = name.removeprefix("RESULT_STATUS_")
    known = ResultStatus[status] if status in ResultStatus.__members__ else ResultStatus.LOCAL_FAILED
    return TaskResult(SessionId(message.session_id), known)


# -- what the server answers -----------------------------------------------------------------------------------------------------


def eligibility_response(reply: object) -> eligibility.EligibilityEvalTaskResponse:
    """What a device needs to decide, or when to come back."""
    match reply:
        case Rejected():
            return eligibility.EligibilityEvalTaskResponse(rejection=_rejection(reply))
        case EligibilitySpec():
            separation = eligibility.MinimumSeparationPolicy(
                current_index=reply.current_index,
                minimum_separation=reply.minimum_separation,
                minimum_trustworthiness_period_s=reply.trustworthiness_s,
                maximum_participations=reply.max_participations,
            )
            spec = eligibility.EligibilitySpec(
                session_id=reply.session_id,
                task_name=reply.task_name,
                run=reply.run,
                minimum_separation=separation,
                data_availability=eligibility.DataAvailabilityPolicy(minimum_examples=reply.minimum_examples),
            )
            return eligibility.EligibilityEvalTaskResponse(eligibility_spec=spec)
        case _:
            raise UnexpectedReplyError(reply)


def assignment_response(reply: object) -> assignments.StartTaskAssignmentResponse:
    """A place, a wait, or a time to come back."""
    match reply:
        case TaskAssignment():
            model = reply.model
            info: dict[str, Any] = {"aggregation_info": assignments.AggregationInfo(upload_bytes=model.num_bytes)}
            if reply.secure:
                info = {"secure_aggregation_info": assignments.SecureAggregationInfo()}
            assignment = assignments.TaskAssignment(
                aggregation_id=reply.aggregation_id,
                authorization_token=reply.authorization_token,
                plan=reply.plan,
                checkpoint=resources.Resource(name=model.name, num_bytes=model.num_bytes, sha256=model.sha256),
                **info,
            )
            return assignments.StartTaskAssignmentResponse(task_assignment=assignment)
        case Wait():
            return assignments.StartTaskAssignmentResponse(wait=pacing.Wait(after_s=reply.after_s))
        case Rejected():
            return assignments.StartTaskAssignmentResponse(rejection=_rejection(reply))
        case _:
            raise UnexpectedReplyError(reply)


def resource_chunk(reply: object) -> resources.ResourceChunk:
    """A piece of the model."""
    if not isinstance(reply, ResourceChunk):
        raise UnexpectedReplyError(reply)
    return resources.ResourceChunk(offset=reply.offset, data=reply.data)


def upload_response(reply: object) -> aggregations.StartAggregationDataUploadResponse:
    """Where to begin, or a wait."""
    match reply:
        case UploadProgress():
            progress = aggregations.UploadProgress(offset=reply.offset)
            return aggregations.StartAggregationDataUploadResponse(progress=progress)
        case Wait():
            return aggregations.StartAggregationDataUploadResponse(wait=pacing.Wait(after_s=reply.after_s))
        case _:
            raise UnexpectedReplyError(reply)


def upload_progress(reply: object) -> aggregations.UploadProgress:
    """How far the upload is."""
    if not isinstance(reply, UploadProgress):
        raise UnexpectedReplyError(reply)
    return aggregations.UploadProgress(offset=reply.offset)


def submit_response(reply: object) -> aggregations.SubmitAggregationResultResponse:
    """The contribution is in the sum."""
    if not isinstance(reply, Accepted):
        raise UnexpectedReplyError(reply)
    return aggregations.SubmitAggregationResultResponse()


def heard(reply: object) -> None:
    """The one answer to a result.

    Raises:
      UnexpectedReplyError: for any other.
    """
    if not isinstance(reply, Acknowledged | Aborted):
        raise UnexpectedReplyError(reply)


def _rejection(reply: Rejected) -> pacing.Rejection:
    return pacing.Rejection(
        reason=pacing.RejectReason.Value(f"REJECT_REASON_{reply.reason.name}"),
        retry_window=pacing.RetryWindow(minimum_s=reply.retry.minimum_s, maximum_s=reply.retry.maximum_s),
    )


# -- secure aggregation ----------------------------------------------------------------------------------------------------------


def secure_request(session_id: str, token: bytes, step: SecureStep, message: secagg.DeviceMessage | None) -> SecureRequest:
    """A device's message of a phase, or its question for the answer."""
    raw = None if message is None else message.SerializeToString()
    return SecureRequest(SessionId(session_id), token, step, raw)


def secure_answer(reply: object) -> secagg.ServerMessage | pacing.Wait:
    """What the next phase begins with, or a wait."""
    match reply:
        case SecureAnswer():
            return secagg.ServerMessage.FromString(reply.message)
        case Wait():
            return pacing.Wait(after_s=reply.after_s)
        case _:
            raise UnexpectedReplyError(reply)
