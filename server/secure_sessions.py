"""The devices of a secure task: the session table of the clear, with SecAgg's phases in place of an upload in the clear. Sans-IO.

A phase ends when everybody who is still there has answered, or at its deadline. Masked inputs are added as they arrive. The requests
for shares leave only after the round's worst case is on the record. What a device sends wrongly costs that device alone; too few that
are left end the round with its reason, and nothing is revealed.
"""

import hashlib
import hmac
from collections.abc import Mapping
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from contract.entropy import Entropy, system_entropy
from contract.ids import RunId, SessionId
from contract.messages import (
    AbortReason,
    Accepted,
    Reply,
    SecureAnswer,
    SecureRequest,
    SecureStep,
    SubmitResult,
    UploadRequest,
    Wait,
)
from contract.simulation import SealedContribution
from contract.task import TaskSpec
from secagg import Abort, Context, Phase, Result, Server, wire
from secagg import AbortReason as SecAggReason
from secagg.messages import DeviceMessage, MaskedInput, ServerMessage
from server.orchestrator import Orchestrator
from server.rounds.states import AbandonReason
from server.secure_context import secure_context
from server.session_pace import ROUND_GUESS_S
from server.sessions import Place, Session, SessionTable

POLL_S = 0.2
"""How soon a device that waits for a phase asks again; longer in large rounds."""
SHORTEST_WINDOW_S = 5.0
_STEPS = {
    Phase.ADVERTISE_KEYS: SecureStep.ADVERTISE_KEYS,
    Phase.SHARE_KEYS: SecureStep.SHARE_KEYS,
    Phase.MASKED_INPUT: SecureStep.MASKED_INPUT,
    Phase.CONSISTENCY_CHECK: SecureStep.CONSISTENCY_CHECK,
    Phase.UNMASKING: SecureStep.UNMASKING,
}
_AT_THE_GOAL = (SecureStep.ADVERTISE_KEYS, SecureStep.UNMASKING)
"""Late in these, a device missed a place that others took: the roster is full, or enough shares are there."""
_OVERHEAD_BYTES = 128
"""Of a serialised masked input over its words."""


class SecureSessionTable(SessionTable):
    """The sessions of one secure run.

    Args:
      authority: public key of the device authority, which this server does not control.
    """

    def __init__(
        self,
        *,
        rounds: Orchestrator,
        run: RunId,
        spec: TaskSpec,
        authority: bytes,
        entropy: Entropy = system_entropy,
        round_guess_s: float = ROUND_GUESS_S,
    ) -> None:
        super().__init__(
            rounds=rounds,
            run=run,
            spec=spec,
            dimension=0,
            accepts=_never_in_the_clear,
            entropy=entropy,
            round_guess_s=round_guess_s,
        )
        self._authority = authority
        self._server: Server | None = None
        self._context: Context | None = None
        self._slots: dict[SessionId, int] = {}
        self._sent: dict[tuple[SessionId, SecureStep], bytes] = {}
        self._answers: dict[SecureStep, Mapping[int, ServerMessage]] = {}
        self._phase_deadline_s = np.inf
        self._ended = False

    def due_s(self) -> float | None:
        """When `tick` has something to do."""
        if self._server is None:
            return super().due_s()
        return -np.inf if self._ended else self._phase_deadline_s

    def tick(self, now_s: float) -> Mapping[str, Any] | None:
        """Ends phases whose window is over, and a round that is over, whose facts it returns."""
        if self._server is None:
            return super().tick(now_s)
        if self._position is None or now_s < (self.due_s() or 0.0):
            return None
        self._advance(self._server, now_s)
        return self._finish(self._position, now_s) if self._ended else None

    # -- phases ------------------------------------------------------------------------------------------------------------------

    def _secure(self, request: SecureRequest, now_s: float) -> Reply:
        session, server = self._sessions.get(request.session_id), self._server
        if session is None or server is None:
            return self._no_session(request.session_id, now_s)
        if not hmac.compare_digest(request.authorization_token, self._key.token(request.session_id)):
            return self._aborted(AbortReason.UNAUTHORIZED, now_s)
        if session.place is Place.GONE:
            return self._aborted(session.fault or AbortReason.DEADLINE_PASSED, now_s)
        if request.message is not None:
            refusal = self._receive(server, request.session_id, session, request.step, request.message, now_s)
            if refusal is not None:
                return refusal
        self._advance(server, now_s)
        return self._next(request.session_id, request.step, now_s)

    def _receive(
        self, server: Server, session_id: SessionId, session: Session, step: SecureStep, raw: bytes, now_s: float
    ) -> Reply | None:
        """Hands a device's message on; None if it was taken, now or before."""
        digest = hashlib.sha256(raw).digest()
        before = self._sent.get((session_id, step))
        if before is not None:
            return None if before == digest else self._end(session_id, session, AbortReason.ALREADY_SUBMITTED, now_s)
        if step is SecureStep.MASKED_INPUT or step is not _STEPS.get(server.phase):
            late = AbortReason.GOAL_REACHED if step in _AT_THE_GOAL else AbortReason.DEADLINE_PASSED
            return self._aborted(late if self._is_over(step) else AbortReason.FOREIGN_MESSAGE, now_s)
        message = wire.read_device_message(raw)
        if message is None or isinstance(message, Abort | MaskedInput):
            return self._end(session_id, session, AbortReason.FOREIGN_MESSAGE, now_s)
        if session.place is Place.HELD:
            session.place = Place.ASSIGNED
        refusal = server.handle(self._slot(session_id), message)
        if refusal is not None:
            self._refused[f"secagg-{refusal.value}"] += 1
            return self._end(session_id, session, AbortReason.FOREIGN_MESSAGE, now_s)
        self._sent[(session_id, step)] = digest
        return None

    def _is_over(self, step: SecureStep) -> bool:
        """Whether the phase of this step has been closed."""
        return step in self._answers or (step is SecureStep.UNMASKING and self._ended)

    def _next(self, session_id: SessionId, step: SecureStep, now_s: float) -> Reply:
        if step is SecureStep.UNMASKING:
            taken = (session_id, step) in self._sent
            return Accepted() if taken else self._aborted(AbortReason.DEADLINE_PASSED, now_s)
        answers = self._answers.get(step)
        if answers is None:
            if self._ended:
                return self._aborted(AbortReason.ROUND_ABANDONED, now_s)
            return Wait(max(POLL_S, 0.002 * len(self._sessions)))
        found = answers.get(self._slots.get(session_id, -1))
        if found is not None:
            return SecureAnswer(wire.write_server_message(found))
        late = AbortReason.GOAL_REACHED if step is SecureStep.ADVERTISE_KEYS else AbortReason.DEADLINE_PASSED
        return self._aborted(late, now_s)

    def _advance(self, server: Server, now_s: float) -> None:
        """Ends every phase that has nothing to wait for, or whose window is over."""
        while not self._ended:
            if server.phase is Phase.AWAITING_CHARGE:
                if not self._charged(now_s):
                    server.abort(SecAggReason.TOO_FEW_SURVIVORS)
                    self._ended = True
                    return
                self._opened(server, SecureStep.CONSISTENCY_CHECK, server.request_unmasking(), now_s)
                continue
            if not server.ready and now_s < self._phase_deadline_s:
                return
            step = _STEPS[server.phase]
            closed = server.close_phase()
            if isinstance(closed, Abort) or server.result() is not None:
                self._ended = True
                return
            if step is not SecureStep.CONSISTENCY_CHECK:
                self._opened(server, step, closed, now_s)

    def _opened(self, server: Server, step: SecureStep, messages: Mapping[int, ServerMessage], now_s: float) -> None:
        self._answers[step] = messages  # written when asked for: a thousand rosters share their lists, their bytes would not
        if step is SecureStep.ADVERTISE_KEYS:
            for session_id, session in self._sessions.items():
                if self._slots.get(session_id) not in messages:
                    self._lose(session_id, session, AbortReason.GOAL_REACHED, now_s)
        self._phase_deadline_s = now_s + self._window_s(server.phase, now_s)

    def _window_s(self, phase: Phase, now_s: float) -> float:
        """How long a phase waits: the inputs as long as the task says, the others a sixth of that."""
        if phase is Phase.MASKED_INPUT and self._rounds.collecting:
            return max(0.0, self._rounds.reporting_deadline_s() - now_s)
        return max(SHORTEST_WINDOW_S, self._spec.deadlines.reporting_s / 6)

    def _charged(self, now_s: float) -> bool:
        """Commits the charge; only after this returns True does the server ask for shares."""
        survivors = sum(session.place is Place.ACCEPTED for session in self._sessions.values())
        self._rounds.contribute(SealedContribution(reveal=_revealed_elsewhere, count=survivors, metrics={}))
        return self._rounds.close_and_charge(now_s)

    # -- masked inputs ---------------------------------------------------------------------------------------------------------

    def _open_upload(self, request: UploadRequest, now_s: float) -> Reply:
        if self._server is None or self._server.phase is not Phase.MASKED_INPUT:
            return self._aborted(AbortReason.FOREIGN_MESSAGE, now_s)
        if self._slots.get(request.session_id, -1) not in self._answers[SecureStep.SHARE_KEYS]:
            return self._aborted(AbortReason.FOREIGN_MESSAGE, now_s)  # it shared no keys, so it would only take up a buffer
        return super()._open_upload(request, now_s)

    def _wrong_length(self, num_bytes: int) -> bool:
        words = 0 if self._context is None else 8 * self._context.parameters.words
        return not words <= num_bytes <= words + _OVERHEAD_BYTES

    def _submit(self, request: SubmitResult, now_s: float) -> Reply:
        session, server = self._sessions.get(request.session_id), self._server
        if session is None or server is None:
            return self._no_session(request.session_id, now_s)
        if session.place is not Place.ACCEPTED:
            refusal = self._add_masked(server, request.session_id, session, now_s)
            if refusal is not None:
                return refusal
        self._advance(server, now_s)
        return self._next(request.session_id, SecureStep.MASKED_INPUT, now_s)

    def _add_masked(self, server: Server, session_id: SessionId, session: Session, now_s: float) -> Reply | None:
        upload = self._uploads.get(session_id)
        if upload is None or session.place is Place.GONE:
            return self._aborted(session.fault or AbortReason.FOREIGN_MESSAGE, now_s)
        whole = upload.whole()
        if whole is AbortReason.WRONG_OFFSET:
            return self._aborted(whole, now_s)
        if isinstance(whole, AbortReason):
            return self._end(session_id, session, whole, now_s)
        message: DeviceMessage | Abort | None = wire.read_device_message(bytes(whole))
        if not isinstance(message, MaskedInput):
            return self._end(session_id, session, AbortReason.FOREIGN_MESSAGE, now_s)
        if server.phase is not Phase.MASKED_INPUT or not self._rounds.collecting or now_s > self._phase_deadline_s:
            return self._aborted(AbortReason.DEADLINE_PASSED, now_s)
        refusal = server.handle(self._slot(session_id), message)
        if refusal is not None:
            self._refused[f"secagg-{refusal.value}"] += 1
            return self._end(session_id, session, AbortReason.FOREIGN_MESSAGE, now_s)
        self._rounds.report(np.array([now_s]))
        self._uploads.finished(session_id, now_s)
        session.place = Place.ACCEPTED
        return None

    # -- rounds ------------------------------------------------------------------------------------------------------------------

    def _begin_work(self, now_s: float) -> None:
        super()._begin_work(now_s)
        if self._work is not None:
            self._context = secure_context(self._work.plan)
            self._server = Server(context=self._context, authority=self._authority, threads=2)
            self._phase_deadline_s = now_s + self._window_s(Phase.ADVERTISE_KEYS, now_s)

    def _end_round(self, now_s: float) -> dict[str, Any]:
        if self._server is None:
            return super()._end_round(now_s)
        result = self._server.result()
        if isinstance(result, Result) and self._context is not None:
            names = [vector.name for vector in self._context.parameters.vectors]
            self._rounds.conclude(np.concatenate([result.sums[name] for name in names]))
        elif self._rounds.charged:
            self._rounds.conclude(None)
        else:
            early = SecureStep.SHARE_KEYS not in self._answers
            self._rounds.abandon(AbandonReason.KEY_PHASE_FAILED if early else AbandonReason.TOO_FEW_SURVIVORS)
        facts = dict(self._rounds.recorded())
        reason = {"secagg": result.reason.value} if isinstance(result, Abort) else {}
        return {**facts, **reason}

    def _forget(self) -> None:
        super()._forget()
        self._server, self._context, self._ended, self._phase_deadline_s = None, None, False, np.inf
        self._slots, self._sent, self._answers = {}, {}, {}

    def _lose(self, session_id: SessionId, session: Session, fault: AbortReason | None, now_s: float) -> None:
        gone = session.place is Place.GONE
        if self._server is not None and session_id in self._slots and not gone:
            self._server.drop(self._slots[session_id])
        super()._lose(session_id, session, fault, now_s)

    def _slot(self, session_id: SessionId) -> int:
        return self._slots.setdefault(session_id, len(self._slots))


def _never_in_the_clear(_vector: NDArray[np.int32]) -> bool:
    return False


def _revealed_elsewhere() -> NoReturn:
    raise ValueError("a sum over the wire is revealed by the devices' shares")
