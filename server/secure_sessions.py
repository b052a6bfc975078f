"""The devices of a secure task: the session table of the clear, with SecAgg's phases in place of an upload in the clear. Sans-IO.

A cohort is one group, or several that go through the phases each at its own pace (`server.secure_group`). Masked inputs are added as they
arrive. The requests for shares leave only when every group has come as far as it will and the round's worst case is on the record. What a
device sends wrongly costs that device alone; a group of which too few are left ends with its reason, the others' sum stands; where no group
is left the round ends, and nothing is revealed.
"""

import hmac
from collections import Counter
from collections.abc import Hashable, Mapping
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from contract.entropy import Entropy, system_entropy
from contract.errors import ErrorCode, TuttiError
from contract.ids import AggregationId, RunId, SessionId, aggregation_id
from contract.messages import (
    Aborted,
    AbortReason,
    Accepted,
    Rejected,
    RejectReason,
    Reply,
    RetryWindow,
    SecureAnswer,
    SecureRequest,
    SecureStep,
    SubmitResult,
    UploadRequest,
    Wait,
)
from contract.simulation import SealedContribution
from contract.task import TaskSpec
from secagg import Abort, Phase, Result, wire
from server.orchestrator import Orchestrator
from server.rounds.states import AbandonReason
from server.secure_context import secure_context
from server.secure_group import Fault, SecureGroup
from server.secure_split import added_up, group_of_place
from server.secure_windows import PhaseWindows
from server.session_pace import ROUND_GUESS_S
from server.session_places import Place, Session, without_upload
from server.sessions import SessionTable
from server.transcripts import TranscriptFolder

SOONEST_POLL_S, LATEST_POLL_S = 0.02, 1.0
SOONEST_POLL_A_DEVICE_S = 0.0007
"""Many that wait ask less often: together at most some 1400 times a second."""
SOON_S = 0.05
"""When a device should come back at the soonest that checks in while shares are on their way: the round is nearly over."""


class SecureSessionTable(SessionTable):
    """The sessions of one secure run.

    Args:
      authority: public key of the device authority, which this server does not control.
      transcripts: where what was signed is kept for auditors; it is not kept unless given.
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
        transcripts: TranscriptFolder | None = None,
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
        self._authority, self._transcripts = authority, transcripts
        self._windows = PhaseWindows(reporting_s=spec.deadlines.reporting_s)
        self._groups: list[SecureGroup] = []
        self._group_of: dict[SessionId, int] = {}
        self._asked = self._lost = False

    @property
    def stage(self) -> Hashable:
        """The round, and where each of its groups is."""
        return (super().stage, *(group.phase for group in self._groups))

    def due_s(self) -> float | None:
        """When `tick` has something to do."""
        if not self._groups:
            return super().due_s()
        # Who was lost may have been the last that a phase waits for.
        return -np.inf if self._ended or self._lost else min(group.deadline_s for group in self._groups)

    def tick(self, now_s: float) -> Mapping[str, Any] | None:
        """Ends phases whose window is over, and a round that is over, whose facts it returns."""
        if not self._groups:
            return super().tick(now_s)
        if self._position is None or now_s < (self.due_s() or 0.0):
            return None
        self._advance(now_s)
        return self._finish(self._position, now_s) if self._ended else None

    @property
    def _ended(self) -> bool:
        return bool(self._groups) and all(group.ended for group in self._groups)

    # -- phases ------------------------------------------------------------------------------------------------------------------

    def _secure(self, request: SecureRequest, now_s: float) -> Reply:
        session, group = self._sessions.get(request.session_id), self._group(request.session_id)
        if session is None or group is None:
            return self._no_session(request.session_id, now_s)
        if not hmac.compare_digest(request.authorization_token, self._key.token(request.session_id)):
            return self._aborted(AbortReason.UNAUTHORIZED, now_s)
        if session.place is Place.GONE:
            return self._aborted(session.fault or AbortReason.DEADLINE_PASSED, now_s)
        if request.message is not None:
            fault = group.receive(request.session_id, request.step, request.message, now_s)
            if fault is not None:
                return self._refuse(request.session_id, session, fault, now_s)
            if session.place is Place.HELD:
                session.place = Place.ASSIGNED
        self._advance(now_s)
        return self._next(request.session_id, group, request.step, now_s)

    def _refuse(self, session_id: SessionId, session: Session, fault: Fault, now_s: float) -> Reply:
        if fault.refusal is not None:
            self._refused[f"secagg-{fault.refusal}"] += 1
        if fault.ends:
            return self._end(session_id, session, fault.reason, now_s)
        return self._aborted(fault.reason, now_s)

    def _next(self, session_id: SessionId, group: SecureGroup, step: SecureStep, now_s: float) -> Reply:
        if step is SecureStep.UNMASKING:
            return Accepted() if group.took(session_id, step) else self._aborted(AbortReason.DEADLINE_PASSED, now_s)
        found = group.answer(session_id, step)
        if found is None:
            return Wait(self._poll_s(group, now_s))
        return self._aborted(found, now_s) if isinstance(found, AbortReason) else SecureAnswer(wire.write_server_message(found))

    def _poll_s(self, group: SecureGroup, now_s: float) -> float:
        soonest = max(SOONEST_POLL_S, SOONEST_POLL_A_DEVICE_S * len(self._sessions))
        return max(soonest, min(LATEST_POLL_S, group.poll_s(now_s)))

    def _rejected(self, reason: RejectReason, now_s: float) -> Rejected:
        found = super()._rejected(reason, now_s)
        if reason is not RejectReason.NOT_SELECTING or not self._groups:
            return found
        return Rejected(reason, self._soon(found.retry, now_s))

    def _aborted(self, reason: AbortReason, now_s: float) -> Aborted:
        # Whose shares came when there were enough is done as well as the others: the next round wants it at once.
        found = super()._aborted(reason, now_s)
        return Aborted(reason, self._soon(found.retry, now_s)) if reason is AbortReason.GOAL_REACHED else found

    def _soon(self, window: RetryWindow, now_s: float) -> RetryWindow:
        """A window for when the round will be over, if nothing but shares is to come or it is over already."""
        if not all(group.revealing for group in self._groups):
            return window
        passed_s = max((now_s - group.opened_s for group in self._groups), default=0.0)
        soon_s = min(window.minimum_s, max(SOON_S, passed_s))
        return RetryWindow(soon_s, min(window.maximum_s, 2 * soon_s))

    def _advance(self, now_s: float) -> None:
        """Moves every group as far as it goes; asks for shares once no group has anything else left to do."""
        for index, group in enumerate(self._groups):
            ended = group.ended
            if group.advance(now_s):
                self._lose_all(index, now_s, AbortReason.GOAL_REACHED, but=group.on_roster)
            if group.ended and not ended and isinstance(group.result, Abort):
                self._abandon_without_groups()
                self._lose_all(index, now_s, AbortReason.ROUND_ABANDONED)
        waiting = [group for group in self._groups if group.phase is Phase.AWAITING_CHARGE]
        if waiting and not self._asked and all(group.ended or group in waiting for group in self._groups):
            self._asked = True
            with _ChargeInDoubt():
                self._ask_for_shares(waiting, now_s)
        self._lost = False

    def _abandon_without_groups(self) -> None:
        """Ends a round of which nothing is charged and no group is left, for what ended the groups, not for the devices they lose by it."""
        if not self._rounds.charged and all(group.deserted or isinstance(group.result, Abort) for group in self._groups):
            early = all(group.early for group in self._groups)
            self._rounds.abandon(AbandonReason.KEY_PHASE_FAILED if early else AbandonReason.TOO_FEW_SURVIVORS)

    def _ask_for_shares(self, waiting: list[SecureGroup], now_s: float) -> None:
        """Charges, and only then makes the requests for shares.

        Raises:
          TuttiError, or anything else that the store raises: it is not known then what is on the record.
        """
        charged = self._charged(waiting, now_s)
        for group in waiting:
            if charged:
                group.request_unmasking(now_s)
                group.advance(now_s)
            else:
                group.abort()

    def _lose_all(self, index: int, now_s: float, fault: AbortReason, *, but: Any = None) -> None:
        """The devices of a group that have no part in it any more."""
        for session_id, session in self._sessions.items():
            if self._group_of.get(session_id) == index and (but is None or not but(session_id)):
                self._lose(session_id, session, fault, now_s)

    def _charged(self, waiting: list[SecureGroup], now_s: float) -> bool:
        """Commits the charge; only after this returns True does the server ask for shares."""
        survivors = sum(group.summed for group in waiting)
        self._rounds.contribute(SealedContribution(reveal=_revealed_elsewhere, count=survivors, metrics={}))
        return self._rounds.close_and_charge(now_s)

    # -- masked inputs ---------------------------------------------------------------------------------------------------------

    def _open_upload(self, request: UploadRequest, now_s: float) -> Reply:
        session, group = self._sessions.get(request.session_id), self._group(request.session_id)
        if session is None or group is None:
            return self._no_session(request.session_id, now_s)
        if not group.collecting:
            return self._aborted(session.fault or group.out_of_phase(SecureStep.MASKED_INPUT), now_s)
        if not group.shared_keys(request.session_id):
            return self._aborted(AbortReason.FOREIGN_MESSAGE, now_s)  # it shared no keys, so it would only take up a buffer
        return super()._open_upload(request, now_s)

    def _wrong_length(self, num_bytes: int) -> bool:
        return not self._groups or self._groups[0].wrong_length(num_bytes)

    def _submit(self, request: SubmitResult, now_s: float) -> Reply:
        session, group = self._sessions.get(request.session_id), self._group(request.session_id)
        if session is None or group is None:
            return self._no_session(request.session_id, now_s)
        if session.place is not Place.ACCEPTED:
            refusal = self._add_masked(group, request.session_id, session, now_s)
            if refusal is not None:
                return refusal
        self._advance(now_s)
        return self._next(request.session_id, group, SecureStep.MASKED_INPUT, now_s)

    def _add_masked(self, group: SecureGroup, session_id: SessionId, session: Session, now_s: float) -> Reply | None:
        upload = self._uploads.get(session_id)
        if upload is None or session.place is Place.GONE:
            return self._aborted(without_upload(session), now_s)
        whole = upload.whole()
        if whole is AbortReason.WRONG_OFFSET:
            return self._aborted(whole, now_s)
        if isinstance(whole, AbortReason):
            return self._end(session_id, session, whole, now_s)
        if not self._rounds.collecting:
            return self._aborted(AbortReason.DEADLINE_PASSED, now_s)
        fault = group.receive_input(session_id, whole, now_s)
        if fault is not None:
            return self._refuse(session_id, session, fault, now_s)
        self._rounds.report(np.array([now_s]))
        self._uploads.finished(session_id, now_s, reusable=True)
        session.place = Place.ACCEPTED
        return None

    # -- rounds ------------------------------------------------------------------------------------------------------------------

    def _aggregation(self, session_id: SessionId, round_index: int) -> AggregationId:
        return aggregation_id(
            self._key.run, round_index, group=self._group_of.get(session_id, 0), groups=len(self._groups) or 1
        )

    def _begin_work(self, now_s: float) -> None:
        if self._position is not None:
            self._windows.rests(now_s - self._position.opened_s)
        super()._begin_work(now_s)
        if self._work is None:
            return
        there = [session_id for session_id, session in self._sessions.items() if session.place is not Place.GONE]
        self._group_of = {session_id: group_of_place(place, self._spec.groups) for place, session_id in enumerate(there)}
        plan, until_s, members = self._work.plan, self._rounds.reporting_deadline_s(), Counter(self._group_of.values())
        self._groups = [
            SecureGroup(
                context=secure_context(plan, index),
                authority=self._authority,
                windows=self._windows,
                now_s=now_s,
                until_s=until_s,
                members=members[index],
            )
            for index in range(self._spec.groups)
        ]

    def _end_round(self, now_s: float) -> dict[str, Any]:
        if not self._groups:
            return super()._end_round(now_s)
        sums = [total for group in self._groups if (total := group.sums()) is not None]
        if sums:
            summed = sum(group.summed for group in self._groups if isinstance(group.result, Result))
            self._rounds.conclude(added_up(sums), count=summed, signed=self._signed())
        elif self._rounds.charged:
            self._rounds.conclude(None)
        else:
            self._abandon_without_groups()
        return dict(self._rounds.recorded()) | self._secure_facts()

    def _signed(self) -> dict[int, str]:
        """The digests of the transcripts of the groups in the sum, once the transcripts themselves are kept."""
        heads: dict[int, str] = {}
        for index, group in enumerate(self._groups):
            transcript = group.transcript if isinstance(group.result, Result) else None
            if transcript is not None and self._position is not None:
                heads[index] = transcript.head.hex()
                if self._transcripts is not None:
                    self._transcripts.keep(self._key.run, self._position.round_index, index, transcript, self._authority)
        return heads

    def _secure_facts(self) -> dict[str, Any]:
        """How the groups went: the slowest of each phase, and what ended the groups that were abandoned."""
        phases: dict[str, float] = {}
        for group in self._groups:
            for phase, seconds in group.waited_s.items():
                phases[phase] = max(seconds, phases.get(phase, 0.0))
        aborts = [group.result for group in self._groups if isinstance(group.result, Abort)]
        lost = {"groups_abandoned": len(aborts)} if len(self._groups) > 1 else {}
        return {"phases_s": phases, **lost, **({"secagg": aborts[0].reason.value} if aborts else {})}

    def _forget(self) -> None:
        super()._forget()
        self._groups, self._group_of, self._asked, self._lost = [], {}, False, False

    def _lose(self, session_id: SessionId, session: Session, fault: AbortReason | None, now_s: float) -> None:
        group = self._group(session_id)
        if group is not None and session.place is not Place.GONE:
            group.drop(session_id)
            self._lost = True
            if group.deserted:
                self._abandon_without_groups()
        super()._lose(session_id, session, fault, now_s)

    def _group(self, session_id: SessionId) -> SecureGroup | None:
        index = self._group_of.get(session_id)
        return None if index is None or not self._groups else self._groups[index]


class _ChargeInDoubt:
    """Whatever goes wrong in here, the charge may be committed: only a run that stops and is resumed looks."""

    def __enter__(self) -> None: ...

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        if isinstance(error, Exception) and not isinstance(error, TuttiError):
            detail = f"a round may be charged and cannot go on ({type(error).__name__}): resume the run"
            raise TuttiError(ErrorCode.RUN_STATE, detail) from error


def _never_in_the_clear(_vector: NDArray[np.int32]) -> bool:
    return False


def _revealed_elsewhere() -> NoReturn:
    raise ValueError("a sum over the wire is revealed by the devices' shares")
