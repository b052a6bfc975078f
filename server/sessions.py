"""The devices of one run, one message at a time: check-in, assignment, resources, upload, result. Sans-IO.

`handle` answers one message, `tick` performs what is due; time comes in as an argument and nothing here waits. A device costs
memory only while it holds a place in a cohort (a few dozen bytes) or an upload (one of eight buffers). A slow, silent, crashing or
lying device loses its own contribution: every fault is answered with an enumerated reason and counted.
"""

import hmac
from collections import Counter
from collections.abc import Callable, Hashable, Mapping
from typing import Any, assert_never

import numpy as np
from numpy.typing import NDArray

from contract.entropy import Entropy, system_entropy
from contract.ids import AggregationId, Digest, RunId, SessionId, aggregation_id
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
    RejectReason,
    Reply,
    Request,
    Resource,
    ResourceChunk,
    ResourceRequest,
    ResultStatus,
    SecureRequest,
    SubmitResult,
    TaskAssignment,
    TaskResult,
    UploadChunk,
    UploadProgress,
    UploadRequest,
    Wait,
)
from contract.simulation import Contribution, RoundPosition
from contract.task import TaskSpec
from server.orchestrator import Orchestrator
from server.session_ids import SessionKey
from server.session_pace import ROUND_GUESS_S, SessionPace, turn_s
from server.session_places import Place, Session, Work, cannot_open, without_upload
from server.store import blobs
from server.store.store import parameters_digest
from server.uploads import Uploads

MODEL = "model"
"""Name of the one resource of a round."""
KEY_BYTES = 32


class SessionTable:
    """The sessions of one run, on top of its orchestrator. Call it from one thread at a time.

    Args:
      spec: the run's task.
      dimension: d, the length of an update: an upload is d little-endian int32.
      accepts: whether a vector, int32 of shape (d,), may enter the sum (the mechanism's grid).
      round_guess_s: how long a round is taken to last before one was seen; it paces the first devices that are turned away.
    """

    def __init__(
        self,
        *,
        rounds: Orchestrator,
        run: RunId,
        spec: TaskSpec,
        dimension: int,
        accepts: Callable[[NDArray[np.int32]], bool],
        entropy: Entropy = system_entropy,
        round_guess_s: float = ROUND_GUESS_S,
    ) -> None:
        self._rounds, self._spec, self._dimension, self._accepts = rounds, spec, dimension, accepts
        self._entropy, self._key = entropy, SessionKey(run, entropy(KEY_BYTES))
        target = round(spec.cohort.report_goal * spec.cohort.over_selection)
        self._pace = SessionPace(cohort=target, round_s=min(round_guess_s, spec.deadlines.selection_s))
        self._sessions: dict[SessionId, Session] = {}
        self._uploads = Uploads()
        self._position: RoundPosition | None = None
        self._work: Work | None = None
        self._last_outcome = (-1, AbortReason.DEADLINE_PASSED)
        self._held, self._refused = 0, Counter[str]()
        self._closing = self.over = False
        self.most_devices: Callable[[int], int] | None = None
        """How many devices can come for a release at most, where somebody knows: selection does not wait for more."""

    @property
    def run(self) -> RunId:
        """Id of the run."""
        return self._key.run

    @property
    def places(self) -> int:
        """Devices that are remembered now."""
        return len(self._sessions)

    @property
    def uploads(self) -> int:
        """Uploads in memory now."""
        return len(self._uploads)

    @property
    def stage(self) -> Hashable:
        """While this is the same, nothing has come that devices wait for."""
        return None if self._position is None else (self._position.round_index, self._work is not None)

    def close(self) -> None:
        """From here on devices are sent away; what a round holds stays in memory only and is lost."""
        self._closing = True

    def due_s(self) -> float | None:
        """When `tick` has something to do; None if only a device can bring it."""
        if self._position is None:
            return None
        if self._work is None:
            full = self.most_devices is not None and self._held >= self.most_devices(self._position.leaf)
            return -np.inf if full else self._position.deadline_s
        return self._rounds.reporting_deadline_s() if self._rounds.collecting else -np.inf

    def tick(self, now_s: float) -> Mapping[str, Any] | None:
        """Performs what is due at `now_s`: deadlines, and the end of a round (charge, noise, commit), whose facts it returns."""
        due_s = self.due_s()
        if due_s is None or self._position is None or now_s < due_s:
            return None
        if self._work is None:
            self._begin_work(now_s)
            if self._work is not None:
                return None
        return self._finish(self._position, now_s)

    def handle(self, request: Request, now_s: float) -> Reply:
        """The answer to one message of a device."""
        if (
            isinstance(request, UploadRequest | UploadChunk | SubmitResult)
            and request.secure is not self._spec.aggregation.secure
        ):
            return self._aborted(AbortReason.FOREIGN_MESSAGE, now_s)
        match request:
            case EligibilityRequest():
                return self._check_in(request, now_s)
            case AssignmentRequest():
                return self._assign(request, now_s)
            case ResourceRequest():
                return self._resource(request, now_s)
            case UploadRequest():
                return self._open_upload(request, now_s)
            case UploadChunk():
                return self._chunk(request, now_s)
            case SubmitResult():
                return self._submit(request, now_s)
            case SecureRequest():
                return self._secure(request, now_s)
            case TaskResult():
                return self._result(request, now_s)
            case _:
                assert_never(request)

    # -- selection ---------------------------------------------------------------------------------------------------------------

    def _check_in(self, request: EligibilityRequest, now_s: float) -> Reply:
        if request.population != self._spec.population or self.over:
            return self._rejected(RejectReason.NO_TASK, now_s)
        if self._closing:
            return self._rejected(RejectReason.SHUTTING_DOWN, now_s)
        self._pace.check_ins += 1
        position = self._open_round(now_s)
        if position is None:
            return self._rejected(RejectReason.NO_TASK, now_s)
        if self._work is not None:
            return self._rejected(RejectReason.NOT_SELECTING, now_s)
        return EligibilitySpec(
            session_id=self._key.make(position.round_index, self._entropy),
            task_name=self._spec.name,
            run=self._key.run,
            current_index=position.leaf,
            minimum_separation=position.minimum_separation,
            max_participations=position.max_participations,
            trustworthiness_s=0.0,
            minimum_examples=1,
        )

    def _assign(self, request: AssignmentRequest, now_s: float) -> Reply:
        position, session = self._position, self._sessions.get(request.session_id)
        if session is not None:
            return self._assign_again(request, session, now_s)
        if not request.eligible:
            return self._rejected(RejectReason.NOT_ELIGIBLE, now_s)
        if self._closing:
            return self._rejected(RejectReason.SHUTTING_DOWN, now_s)
        if position is None or self._work is not None or self._key.round_of(request.session_id) != position.round_index:
            return self._rejected(RejectReason.NOT_SELECTING, now_s)
        if not self._rounds.check_in(np.array([now_s]))[0]:
            return self._rejected(RejectReason.COHORT_FULL, now_s)
        self._sessions[request.session_id] = Session(Place.HELD)
        self._held += 1
        if self._held >= position.cohort_target:
            self._begin_work(now_s)
        return self._assignment(request.session_id, now_s)

    def _assign_again(self, request: AssignmentRequest, session: Session, now_s: float) -> Reply:
        if not request.eligible:
            self._lose(request.session_id, session, None, now_s)
        if session.place in (Place.GONE, Place.ACCEPTED):
            return self._rejected(RejectReason.COHORT_FULL, now_s)
        return self._assignment(request.session_id, now_s)

    def _assignment(self, session_id: SessionId, now_s: float) -> Reply:
        session = self._sessions[session_id]
        if self._position is None:
            return self._no_session(session_id, now_s)
        if self._work is None:
            return Wait(self._pace.held_s(self._position, self._held, now_s))
        if session.place is Place.HELD:
            session.place = Place.ASSIGNED
        return TaskAssignment(
            session_id=session_id,
            aggregation_id=self._aggregation(session_id, self._position.round_index),
            authorization_token=self._key.token(session_id),
            plan=self._work.plan,
            model=self._work.resource,
            secure=self._spec.aggregation.secure,
        )

    def _aggregation(self, session_id: SessionId, round_index: int) -> AggregationId:
        del session_id
        return aggregation_id(self._key.run, round_index)

    def _resource(self, request: ResourceRequest, now_s: float) -> Reply:
        if self._work is None or request.session_id not in self._sessions:
            return self._no_session(request.session_id, now_s)
        if request.name != MODEL:
            return self._aborted(AbortReason.FOREIGN_MESSAGE, now_s)
        if not 0 <= request.offset < len(self._work.model):
            return self._aborted(AbortReason.WRONG_OFFSET, now_s)
        end = request.offset + MAX_CHUNK_BYTES
        return ResourceChunk(request.offset, self._work.model[request.offset : end], last=end >= len(self._work.model))

    def _secure(self, request: SecureRequest, now_s: float) -> Reply:
        """A task in the clear has no phases of secure aggregation."""
        del request
        return self._aborted(AbortReason.FOREIGN_MESSAGE, now_s)

    # -- upload ------------------------------------------------------------------------------------------------------------------

    def _open_upload(self, request: UploadRequest, now_s: float) -> Reply:
        session = self._sessions.get(request.session_id)
        if session is None or not self._rounds.collecting:
            return self._no_session(request.session_id, now_s)
        if not hmac.compare_digest(request.authorization_token, self._key.token(request.session_id)):
            return self._aborted(AbortReason.UNAUTHORIZED, now_s)
        if (refusal := cannot_open(session, request)) is not None:
            return self._aborted(refusal, now_s)
        if self._wrong_length(request.num_bytes):
            return self._aborted(AbortReason.WRONG_LENGTH, now_s)
        upload = self._uploads.get(request.session_id) or self._uploads.open(
            request.session_id, num_bytes=request.num_bytes, sha256=request.sha256, now_s=now_s
        )
        if upload is None:
            return Wait(turn_s(self._uploads.mean_s / 2))
        session.place, session.sha256 = Place.OPENED, request.sha256
        return UploadProgress(upload.offset)

    def _wrong_length(self, num_bytes: int) -> bool:
        return num_bytes != 4 * self._dimension

    def _chunk(self, request: UploadChunk, now_s: float) -> Reply:
        session = self._sessions.get(request.session_id)
        if session is None or not self._rounds.collecting:
            return self._no_session(request.session_id, now_s)
        if session.place is not Place.OPENED:
            return self._aborted(session.fault or AbortReason.FOREIGN_MESSAGE, now_s)
        upload = self._uploads.get(request.session_id)
        if upload is None:  # it stalled and gave its place up: `UploadRequest` tells where to begin again
            return self._aborted(AbortReason.WRONG_OFFSET, now_s)
        fault = upload.add(request.offset, request.data, now_s)
        if fault is AbortReason.WRONG_LENGTH:
            return self._end(request.session_id, session, fault, now_s)
        return UploadProgress(upload.offset) if fault is None else self._aborted(fault, now_s)

    def _submit(self, request: SubmitResult, now_s: float) -> Reply:
        session = self._sessions.get(request.session_id)
        if session is not None and session.place is Place.ACCEPTED:
            return Accepted()  # the answer was lost on the way; the contribution counts once
        if session is None or not self._rounds.collecting:
            return self._no_session(request.session_id, now_s)
        upload = self._uploads.get(request.session_id)
        if upload is None:
            return self._aborted(without_upload(session), now_s)
        whole = upload.whole()
        if whole is AbortReason.WRONG_OFFSET:
            return self._aborted(whole, now_s)
        if isinstance(whole, AbortReason):
            return self._end(request.session_id, session, whole, now_s)
        vector = np.frombuffer(whole, "<i4").astype(np.int32, copy=False)
        if not self._accepts(vector):
            return self._end(request.session_id, session, AbortReason.NORM_EXCEEDED, now_s)
        return self._add(request.session_id, session, vector, now_s)

    def _add(self, session_id: SessionId, session: Session, vector: NDArray[np.int32], now_s: float) -> Reply:
        if not self._rounds.report(np.array([now_s]))[0]:
            return self._aborted(AbortReason.DEADLINE_PASSED, now_s)
        self._rounds.contribute(Contribution(total=vector.astype(np.int64), count=1, metrics={}))
        self._uploads.finished(session_id, now_s)
        session.place = Place.ACCEPTED
        return Accepted()

    def _result(self, request: TaskResult, now_s: float) -> Reply:
        session = self._sessions.get(request.session_id)
        if session is not None and request.status is not ResultStatus.UPLOAD_COMPLETED:
            self._lose(request.session_id, session, None, now_s)
        return Acknowledged()

    # -- rounds ------------------------------------------------------------------------------------------------------------------

    def _open_round(self, now_s: float) -> RoundPosition | None:
        """The round that wants devices; a new one begins with the first device that comes, not before."""
        if self._position is None:
            self._rounds.advance_to(now_s)
            self._position = self._rounds.position()
            self._pace.opened(now_s)
            self.over = self._position is None
        return self._position

    def _begin_work(self, now_s: float) -> None:
        self._pace.started(now_s)
        work = self._rounds.start(now_s)
        if work is not None:
            model = blobs.pack_parameters(work.parameters)
            self._work = Work(work.plan, model, Resource(MODEL, len(model), Digest(parameters_digest(model))))

    def _finish(self, position: RoundPosition, now_s: float) -> Mapping[str, Any]:
        facts = self._end_round(now_s)
        places = Counter(session.place for session in self._sessions.values())
        facts |= {
            "cohort": self._held,
            "selection_s": self._pace.selection_s(now_s),
            "collection_s": self._pace.collection_s(now_s),
            "check_ins": self._pace.check_ins,
            "lost": places[Place.GONE],
            "refused": dict(self._refused),
            "sessions": tuple(name for name, session in self._sessions.items() if session.place is Place.ACCEPTED),
        }
        abandoned, goal = facts["state"] == "abandoned", places[Place.ACCEPTED] >= position.report_goal
        ending = AbortReason.GOAL_REACHED if goal else AbortReason.DEADLINE_PASSED
        self._last_outcome = (position.round_index, AbortReason.ROUND_ABANDONED if abandoned else ending)
        self._pace.closed(now_s, completed=not abandoned)
        self._forget()
        self.over = facts["state"] == "committed" and position.leaf + 1 >= self._spec.rounds
        return facts

    def _end_round(self, now_s: float) -> dict[str, Any]:
        return dict(self._rounds.finish(now_s))

    def _forget(self) -> None:
        self._sessions.clear()
        self._uploads.clear()
        self._refused.clear()
        self._position, self._work, self._held = None, None, 0

    def _lose(self, session_id: SessionId, session: Session, fault: AbortReason | None, now_s: float) -> None:
        """A device of the cohort will not report."""
        self._uploads.drop(session_id)
        if session.place in (Place.GONE, Place.ACCEPTED):
            return
        session.place, session.fault = Place.GONE, fault
        if self._work is None:
            self._held -= 1
        self._rounds.lose(1, now_s)

    # -- answers -----------------------------------------------------------------------------------------------------------------

    def _rejected(self, reason: RejectReason, now_s: float) -> Rejected:
        return Rejected(reason, self._pace.retry_window(now_s))

    def _aborted(self, reason: AbortReason, now_s: float) -> Aborted:
        self._refused[reason.value] += 1
        return Aborted(reason, self._pace.retry_window(now_s))

    def _end(self, session_id: SessionId, session: Session, reason: AbortReason, now_s: float) -> Aborted:
        self._lose(session_id, session, reason, now_s)
        return self._aborted(reason, now_s)

    def _no_session(self, session_id: SessionId, now_s: float) -> Aborted:
        """Why a message without a place in the running round is not taken."""
        round_index, position = self._key.round_of(session_id), self._position
        if round_index is None:
            return self._aborted(AbortReason.UNKNOWN_SESSION, now_s)
        if position is not None and round_index == position.round_index:
            known = session_id in self._sessions
            late = AbortReason.GOAL_REACHED if self._work is not None else AbortReason.FOREIGN_MESSAGE
            return self._aborted(late if known else AbortReason.UNKNOWN_SESSION, now_s)
        ended, reason = self._last_outcome
        return self._aborted(reason if ended == round_index else AbortReason.DEADLINE_PASSED, now_s)
