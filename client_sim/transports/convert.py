"""Between the contract's messages and protobuf, on the device's side. A message without a result is a fault of the server."""

from contract.ids import AggregationId, Digest, RunId, SessionId
from contract.messages import (
    AssignmentRequest,
    EligibilityRequest,
    EligibilitySpec,
    Rejected,
    RejectReason,
    Resource,
    ResourceChunk,
    ResourceRequest,
    RetryWindow,
    SubmitResult,
    TaskAssignment,
    TaskResult,
    UploadChunk,
    UploadProgress,
    UploadRequest,
    Wait,
)
from protos.tutti.v1 import aggregations_pb2 as aggregations
from protos.tutti.v1 import eligibility_eval_tasks_pb2 as eligibility
from protos.tutti.v1 import pacing_pb2 as pacing
from protos.tutti.v1 import resources_pb2 as resources
from protos.tutti.v1 import task_assignments_pb2 as assignments
from secagg import wire


class NoAnswerError(ValueError):
    """The server's message holds no result that this device knows."""


# -- what the device says ----------------------------------------------------------------------------------------------------------


def eligibility_request(request: EligibilityRequest) -> eligibility.EligibilityEvalTaskRequest:
    """A check-in."""
    return eligibility.EligibilityEvalTaskRequest(population_name=request.population, client_version=request.client_version)


def assignment_request(request: AssignmentRequest) -> assignments.StartTaskAssignmentRequest:
    """Asks for a place."""
    return assignments.StartTaskAssignmentRequest(session_id=request.session_id, eligible=request.eligible)


def resource_request(request: ResourceRequest) -> resources.ReadResourceRequest:
    """Asks for a resource from an offset on."""
    return resources.ReadResourceRequest(session_id=request.session_id, name=request.name, offset=request.offset)


def upload_request(request: UploadRequest) -> aggregations.StartAggregationDataUploadRequest:
    """Opens or resumes an upload."""
    return aggregations.StartAggregationDataUploadRequest(
        session_id=request.session_id,
        authorization_token=request.authorization_token,
        num_bytes=request.num_bytes,
        sha256=request.sha256,
    )


def upload_chunk(chunk: UploadChunk) -> aggregations.UploadChunk:
    """A piece of an upload."""
    return aggregations.UploadChunk(session_id=chunk.session_id, offset=chunk.offset, data=bytes(chunk.data))


def written_chunk(chunk: UploadChunk) -> bytes:
    """A piece of an upload as protobuf writes it, with one copy of its data instead of two."""
    head = aggregations.UploadChunk(session_id=chunk.session_id, offset=chunk.offset).SerializeToString()
    return b"".join([head, wire.opening(3, len(chunk.data)), chunk.data])


def submit_request(request: SubmitResult) -> aggregations.SubmitAggregationResultRequest:
    """All chunks are sent."""
    return aggregations.SubmitAggregationResultRequest(session_id=request.session_id)


def result_request(request: TaskResult) -> assignments.ReportTaskResultRequest:
    """How the session ended."""
    return assignments.ReportTaskResultRequest(
        session_id=request.session_id, status=assignments.ResultStatus.Value(f"RESULT_STATUS_{request.status.name}")
    )


# -- what the server answers -----------------------------------------------------------------------------------------------------


def eligibility_reply(message: eligibility.EligibilityEvalTaskResponse) -> EligibilitySpec | Rejected:
    """What there is to do.

    Raises:
      NoAnswerError: for a message without a known result.
    """
    match message.WhichOneof("result"):
        case "eligibility_spec":
            spec, separation = message.eligibility_spec, message.eligibility_spec.minimum_separation
            capped = separation.HasField("maximum_participations")
            return EligibilitySpec(
                session_id=SessionId(spec.session_id),
                task_name=spec.task_name,
                run=RunId(spec.run),
                current_index=separation.current_index,
                minimum_separation=separation.minimum_separation,
                max_participations=separation.maximum_participations if capped else None,
                trustworthiness_s=separation.minimum_trustworthiness_period_s,
                minimum_examples=spec.data_availability.minimum_examples,
            )
        case "rejection":
            return _rejected(message.rejection)
        case _:
            raise NoAnswerError("neither a spec nor a rejection")


def assignment_reply(message: assignments.StartTaskAssignmentResponse, session: SessionId) -> TaskAssignment | Wait | Rejected:
    """A place in the cohort, a wait, or a time to come back.

    Raises:
      NoAnswerError: for a message without a known result.
    """
    match message.WhichOneof("result"):
        case "task_assignment":
            assignment = message.task_assignment
            kind = assignment.WhichOneof("aggregation")
            if kind not in ("aggregation_info", "secure_aggregation_info"):
                raise NoAnswerError("an aggregation that this device does not know")
            model = assignment.checkpoint
            return TaskAssignment(
                session_id=session,
                aggregation_id=AggregationId(assignment.aggregation_id),
                authorization_token=assignment.authorization_token,
                plan=assignment.plan,
                model=Resource(model.name, model.num_bytes, Digest(model.sha256)),
                secure=kind == "secure_aggregation_info",
            )
        case "wait":
            return Wait(message.wait.after_s)
        case "rejection":
            return _rejected(message.rejection)
        case _:
            raise NoAnswerError("neither an assignment nor a wait nor a rejection")


def resource_chunk(message: resources.ResourceChunk) -> ResourceChunk:
    """A piece of a resource."""
    return ResourceChunk(message.offset, message.data)


def upload_reply(message: aggregations.StartAggregationDataUploadResponse) -> UploadProgress | Wait:
    """Where to begin, or a wait.

    Raises:
      NoAnswerError: for a message without a known result.
    """
    match message.WhichOneof("result"):
        case "progress":
            return UploadProgress(message.progress.offset)
        case "wait":
            return Wait(message.wait.after_s)
        case _:
            raise NoAnswerError("neither a progress nor a wait")


def upload_progress(message: aggregations.UploadProgress) -> UploadProgress:
    """How far the upload is."""
    return UploadProgress(message.offset)


def _rejected(message: pacing.Rejection) -> Rejected:
    known = message.reason in pacing.RejectReason.values()
    name = pacing.RejectReason.Name(message.reason).removeprefix("REJECT_REASON_") if known else ""
    reason = RejectReason[name] if name in RejectReason.__members__ else RejectReason.NOT_SELECTING
    return Rejected(reason, RetryWindow(message.retry_window.minimum_s, message.retry_window.maximum_s))
