"""The device's session as one total function: `step(state, event) -> (state, actions)`. No sockets, clocks, files or threads.

    CheckingIn -> ReadingRecord -> Requesting -> Downloading -> Training -> Charging -> Opening -> Uploading -> Sealing
      -> Finishing -> Submitting -> Reporting -> Ended        (and Declining, Refunding on the way out)

`LEGAL` lists the events that mean something in each state. A local event elsewhere is our bug and raises `IllegalEvent`; a reply
elsewhere is the server's fault and ends the session with an `*`.

The order is the point: the participation is on disk before the upload is announced, and that the last chunk leaves is on disk before
it leaves, so that no crash and no server can make the device forget what it gave.
"""

import hashlib
from dataclasses import replace
from typing import Final, assert_never, get_args

from client_sim.egress import DevicePolicy, Refusal, check_plan
from client_sim.encoding import DistributedEncoder
from client_sim.session_states import (
    Action,
    Charge,
    Charging,
    CheckingIn,
    ConnectionLost,
    Declining,
    Downloading,
    Ended,
    Event,
    Facts,
    Fault,
    Fetch,
    Finishing,
    Interrupted,
    ModelHeld,
    Opening,
    Outcome,
    ReadingRecord,
    ReadRecord,
    RecordRead,
    Refund,
    Refunding,
    Reporting,
    Requesting,
    Seal,
    Sealing,
    Secure,
    SecureEnded,
    Securing,
    Send,
    SendChunks,
    State,
    Submitting,
    Train,
    Trained,
    Training,
    TrainingFailed,
    Upload,
    Uploading,
    Written,
)
from contract.ids import Digest
from contract.messages import (
    MAX_CHUNK_BYTES,
    Aborted,
    AbortReason,
    Accepted,
    Acknowledged,
    AssignmentRequest,
    EligibilityRequest,
    EligibilitySpec,
    Rejected,
    Reply,
    ResourceChunk,
    ResourceRequest,
    ResultStatus,
    RetryWindow,
    SubmitResult,
    TaskAssignment,
    TaskResult,
    UploadChunk,
    UploadProgress,
    UploadRequest,
    Wait,
)

MOST_RECONNECTS = 5
RECONNECT_PAUSE_S = 0.5
"""Before the first new attempt; it doubles with each."""

_ANYWHERE: Final[frozenset[type[Event]]] = frozenset({Interrupted, ConnectionLost})
LEGAL: Final[dict[type[State], frozenset[type[Event]]]] = {
    CheckingIn: frozenset({EligibilitySpec, Rejected}) | _ANYWHERE,
    ReadingRecord: frozenset({RecordRead, Interrupted}),
    Declining: frozenset({Rejected, Wait, Aborted}) | _ANYWHERE,
    Requesting: frozenset({TaskAssignment, Wait, Rejected, Aborted}) | _ANYWHERE,
    Downloading: frozenset({ResourceChunk, ModelHeld, Aborted}) | _ANYWHERE,
    Securing: frozenset({SecureEnded, Interrupted}),
    Training: frozenset({Trained, TrainingFailed, Interrupted}),
    Charging: frozenset({Written, Interrupted}),
    Opening: frozenset({UploadProgress, Wait, Aborted}) | _ANYWHERE,
    Uploading: frozenset({UploadProgress, Aborted}) | _ANYWHERE,
    Sealing: frozenset({Written, Interrupted}),
    Finishing: frozenset({UploadProgress, Aborted}) | _ANYWHERE,
    Submitting: frozenset({Accepted, Wait, Aborted}) | _ANYWHERE,
    Refunding: frozenset({Written, Interrupted}),
    Reporting: frozenset({Acknowledged, Rejected, Aborted}) | _ANYWHERE,
    Ended: frozenset(),
}

Step = tuple[State, tuple[Action, ...]]
_LATE = frozenset({AbortReason.GOAL_REACHED, AbortReason.DEADLINE_PASSED, AbortReason.ROUND_ABANDONED})


class IllegalEvent(ValueError):
    """A local event that means nothing in this state: a bug of the caller."""

    def __init__(self, state: State, event: Event) -> None:
        super().__init__(f"{type(event).__name__} means nothing in {type(state).__name__}")


def begin(population: str, *, client_version: str, policy: DevicePolicy) -> Step:
    """A check-in."""
    request = EligibilityRequest(population, client_version)
    return CheckingIn(Facts(policy=policy, shape="-"), request), (Send(request),)


def step(state: State, event: Event) -> Step:
    """The state after `event`, and what is to be done now, in order.

    Raises:
      IllegalEvent: for a local event that `LEGAL` does not list.
    """
    if type(event) not in LEGAL[type(state)]:
        if isinstance(
            state, Ended | ReadingRecord | Securing | Training | Charging | Sealing | Refunding | Reporting
        ) or not _is_reply(event):
            raise IllegalEvent(state, event)
        return _give_up(state, "*", ResultStatus.REMOTE_FAILED, fault=Fault.UNEXPECTED_REPLY)
    if isinstance(event, Interrupted):
        return _interrupted(state)
    if isinstance(event, ConnectionLost):
        return _reconnect(state)
    match state:
        case CheckingIn() | ReadingRecord() | Declining() | Requesting():
            return _before_assignment(state, event)
        case Downloading() | Training() | Charging():
            return _before_upload(state, event)
        case Securing():
            return _secured(state, event)
        case Opening() | Uploading() | Sealing() | Finishing() | Submitting():
            return _during_upload(state, event)
        case Refunding(outcome, spec):
            return Reporting(outcome), (Send(TaskResult(spec.session_id, outcome.status or ResultStatus.REMOTE_FAILED)),)
        case Reporting(outcome):
            return Ended(outcome), ()
        case Ended():
            raise IllegalEvent(state, event)
        case _:
            assert_never(state)


def _before_assignment(state: CheckingIn | ReadingRecord | Declining | Requesting, event: Event) -> Step:
    match state, event:
        case CheckingIn(facts), EligibilitySpec() as spec:
            separation = max(spec.minimum_separation, facts.policy.minimum_separation)
            trust_s = max(spec.trustworthiness_s, facts.policy.trustworthiness_s)
            caps = [cap for cap in (spec.max_participations, facts.policy.most_participations) if cap is not None]
            return ReadingRecord(facts, spec), (ReadRecord(spec, separation, trust_s, min(caps, default=None)),)
        case ReadingRecord(facts, spec), RecordRead(eligible):
            request = AssignmentRequest(spec.session_id, eligible)
            return (Requesting(facts, spec, request) if eligible else Declining(facts, request)), (Send(request),)
        case ((Declining() | Requesting()), Wait(after_s)):
            return _put_off(state, after_s)
        case CheckingIn(facts) | Requesting(facts), Rejected(_, retry):
            return Ended(Outcome(shape=facts.shape + "#", status=None, retry=retry)), ()
        case Declining(facts), Rejected(_, retry):
            return Ended(Outcome(shape=facts.shape, status=ResultStatus.LOCAL_NOT_ELIGIBLE, retry=retry)), ()
        case ((Requesting() | Declining()), Aborted()):
            return _aborted(state, event)
        case Requesting(facts, spec), TaskAssignment() as assignment:
            return _assigned(facts, spec, assignment)
        case _:
            raise IllegalEvent(state, event)


def _assigned(facts: Facts, spec: EligibilitySpec, assignment: TaskAssignment) -> Step:
    checked = check_plan(assignment, run=spec.run, leaf=spec.current_index, policy=facts.policy)
    if isinstance(checked, Refusal) or assignment.session_id != spec.session_id:
        refusal = checked if isinstance(checked, Refusal) else Refusal.WRONG_RUN
        outcome = Outcome(shape=facts.shape + "*", status=ResultStatus.LOCAL_FAILED, refusal=refusal)
        return Reporting(outcome), (Send(TaskResult(spec.session_id, ResultStatus.LOCAL_FAILED)),)
    following = Downloading(facts, spec, assignment, checked, ())
    return following, (_fetch(following),)


def _before_upload(state: Downloading | Training | Charging, event: Event) -> Step:
    match state, event:
        case Downloading(), ResourceChunk(offset, data):
            return _chunk_received(state, offset, data)
        case Downloading(), ModelHeld(parameters):
            return _model_received(state, parameters)
        case Downloading(), Aborted():
            return _aborted(state, event)
        case Training(facts, spec, assignment), Trained(data):
            upload = Upload(spec, assignment, bytes(data), Digest(hashlib.sha256(data).hexdigest()))
            facts = replace(facts, shape=facts.shape + "]")
            return Charging(facts, upload), (Charge(spec.run, spec.current_index),)
        case Training(), TrainingFailed():
            return _give_up(state, "*", ResultStatus.LOCAL_FAILED, fault=Fault.TRAINING_FAILED)
        case Charging(facts, upload), Written():
            return _open(replace(facts, shape=facts.shape + "+"), upload, after_s=0.0)
        case _:
            raise IllegalEvent(state, event)


def _chunk_received(state: Downloading, offset: int, data: bytes) -> Step:
    model = state.assignment.model
    end = offset + len(data)
    if offset != state.offset or not data or end > model.num_bytes:
        return _give_up(state, "*", ResultStatus.REMOTE_FAILED, fault=Fault.MODEL_DIFFERS)
    received = (*state.received, data)
    if end < model.num_bytes:
        return replace(state, received=received, offset=end), ()
    parameters = b"".join(received)
    if hashlib.sha256(parameters).hexdigest() != model.sha256:
        return _give_up(state, "*", ResultStatus.REMOTE_FAILED, fault=Fault.MODEL_DIFFERS)
    return _model_received(state, parameters)


def _model_received(state: Downloading, parameters: bytes) -> Step:
    facts = replace(state.facts, shape=state.facts.shape + "v[")
    if isinstance(state.checked.encoder, DistributedEncoder):
        secure = Secure(state.spec, state.assignment, state.checked, parameters, facts.shape)
        return Securing(facts, state.spec), (secure,)
    following = Training(facts, state.spec, state.assignment, state.checked)
    return following, (Train(state.assignment, state.checked, parameters),)


def _secured(state: Securing, event: Event) -> Step:
    match event:
        case SecureEnded(outcome):
            status = outcome.status or ResultStatus.REMOTE_FAILED
            return Reporting(outcome), (Send(TaskResult(state.spec.session_id, status)),)
        case _:
            raise IllegalEvent(state, event)


def _during_upload(state: Opening | Uploading | Sealing | Finishing | Submitting, event: Event) -> Step:
    facts, upload = state.facts, state.upload
    size, last = len(upload.data), _last_chunk(upload)
    match state, event:
        case ((Opening() | Submitting()), Wait(after_s)):
            return _put_off(state, after_s)
        case Opening(), UploadProgress(offset) if offset == size and facts.sealed:
            return _submit(facts, upload)
        case ((Opening() | Uploading()), UploadProgress(offset)) if last <= offset < size:
            return Sealing(facts, upload, offset), (Seal(upload.spec.run, upload.spec.current_index),)
        case Opening(), UploadProgress(offset) if 0 <= offset < last:
            return Uploading(facts, upload), (_chunks(upload, offset, last),)
        case Sealing(_, _, offset), Written():
            return Finishing(replace(facts, sealed=True), upload), (_chunks(upload, offset, size),)
        case Finishing(), UploadProgress(offset) if offset == size:
            return _submit(facts, upload)
        case ((Opening() | Uploading() | Finishing()), UploadProgress()):
            return _give_up(state, "*", ResultStatus.REMOTE_FAILED, fault=Fault.UNEXPECTED_REPLY)
        case Submitting(), Accepted():
            return _report(state, Outcome(shape=facts.shape + "^", status=ResultStatus.UPLOAD_COMPLETED))
        case Submitting(), Aborted(AbortReason.ALREADY_SUBMITTED, retry) if facts.reconnects:
            # The answer to the first attempt was lost on the way.
            return _report(state, Outcome(shape=facts.shape + "^", status=ResultStatus.UPLOAD_COMPLETED, retry=retry))
        case ((Uploading() | Finishing() | Submitting()), Aborted(AbortReason.WRONG_OFFSET)):
            return _reconnect(state, reopen=True)  # the upload stalled and lost its place: ask where to begin again
        case _, Aborted():
            return _aborted(state, event)
        case _:
            raise IllegalEvent(state, event)


def _open(facts: Facts, upload: Upload, *, after_s: float) -> Step:
    spec = upload.spec
    request = UploadRequest(spec.session_id, upload.assignment.authorization_token, len(upload.data), upload.sha256)
    return Opening(facts, upload, request), (Send(request, after_s),)


def _submit(facts: Facts, upload: Upload) -> Step:
    request = SubmitResult(upload.spec.session_id)
    return Submitting(facts, upload, request), (Send(request),)


def _last_chunk(upload: Upload) -> int:
    return max(0, len(upload.data) - 1) // MAX_CHUNK_BYTES * MAX_CHUNK_BYTES


def _chunks(upload: Upload, start: int, end: int) -> SendChunks:
    return SendChunks(
        tuple(
            UploadChunk(upload.spec.session_id, offset, upload.data[offset : min(offset + MAX_CHUNK_BYTES, end)])
            for offset in range(start, end, MAX_CHUNK_BYTES)
        )
    )


def _fetch(state: Downloading, after_s: float = 0.0) -> Fetch:
    return Fetch(ResourceRequest(state.spec.session_id, state.assignment.model.name, state.offset), after_s)


def _put_off(state: Declining | Requesting | Opening | Submitting, said_s: float) -> Step:
    pause_s = state.facts.patience.pause_s(said_s)
    facts = replace(state.facts, patience=state.facts.patience.after(pause_s))
    if facts.patience.over:
        return _give_up(state, "!", ResultStatus.UPLOAD_TIMEOUT)
    return replace(state, facts=facts), (Send(state.request, pause_s),)


def _aborted(state: State, event: Event) -> Step:
    if not isinstance(event, Aborted):
        raise IllegalEvent(state, event)
    late = event.reason in _LATE
    sign, status = ("#", ResultStatus.CANCELED) if late else ("*", ResultStatus.REMOTE_FAILED)
    return _give_up(state, sign, status, retry=event.retry, aborted=event.reason)


def _give_up(
    state: State,
    sign: str,
    status: ResultStatus,
    *,
    retry: RetryWindow | None = None,
    aborted: AbortReason | None = None,
    fault: Fault | None = None,
) -> Step:
    """Ends the session; the charge is taken back only if the server aborted an upload whose last chunk was never sent."""
    if isinstance(state, Ended | Reporting | Refunding):
        return state, ()
    outcome = Outcome(shape=state.facts.shape + sign, status=status, retry=retry, aborted=aborted, fault=fault)
    if aborted is not None and isinstance(state, Opening | Uploading) and not state.facts.sealed:
        spec = state.upload.spec
        return Refunding(outcome, spec), (Refund(spec.run, spec.current_index),)
    return _report(state, outcome)


def _report(state: State, outcome: Outcome) -> Step:
    match state:
        case Requesting(_, spec) | ReadingRecord(_, spec) | Downloading(_, spec) | Securing(_, spec) | Training(_, spec):
            session = spec.session_id
        case Charging() | Opening() | Uploading() | Sealing() | Finishing() | Submitting():
            session = state.upload.spec.session_id
        case _:
            return Ended(outcome), ()
    return Reporting(outcome), (Send(TaskResult(session, outcome.status or ResultStatus.REMOTE_FAILED)),)


def _interrupted(state: State) -> Step:
    if isinstance(state, Refunding | Reporting):
        return Ended(state.outcome), ()
    return _give_up(state, "!", ResultStatus.CANCELED)


def _reconnect(state: State, *, reopen: bool = False) -> Step:
    if isinstance(state, Reporting):
        return Ended(state.outcome), ()
    if isinstance(state, Ended | Refunding | ReadingRecord | Securing | Training | Charging | Sealing):
        raise IllegalEvent(state, ConnectionLost())
    facts = replace(state.facts, reconnects=state.facts.reconnects + 1)
    if facts.reconnects > MOST_RECONNECTS:
        return _give_up(state, "!", ResultStatus.UPLOAD_TIMEOUT)
    pause_s = RECONNECT_PAUSE_S * 2.0 ** (facts.reconnects - 1)
    match state:
        case Downloading():
            following = replace(state, facts=facts)
            return following, (_fetch(following, pause_s),)
        case Uploading(_, upload) | Finishing(_, upload):
            return _open(facts, upload, after_s=pause_s)
        case Submitting(_, upload) if reopen:
            return _open(facts, upload, after_s=pause_s)
        case _:
            return replace(state, facts=facts), (Send(state.request, pause_s),)


def _is_reply(event: Event) -> bool:
    return type(event) in get_args(Reply)
