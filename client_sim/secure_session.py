"""The part of a device's session that belongs to a secure task, from its keys to its shares. Sans-IO, as a generator.

It yields the same actions as `client_sim.session` and is sent the same events; it returns the session's outcome. Read from top to bottom
it is the protocol: keys, shares, training (while the others deal theirs), the masked input (after the participation is on disk), the
consistency check, the unmasking.
"""

import hashlib
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np

from client_sim.egress import CheckedPlan
from client_sim.encoding import DistributedEncoder
from client_sim.patience import Patience
from client_sim.secure_work import split
from client_sim.session_states import (
    Action,
    Charge,
    ConnectionLost,
    Event,
    Fault,
    Outcome,
    Refund,
    Seal,
    Send,
    SendChunks,
    Train,
    Trained,
)
from contract.ids import Digest, SessionId
from contract.messages import (
    MAX_CHUNK_BYTES,
    Aborted,
    AbortReason,
    Accepted,
    EligibilitySpec,
    Request,
    ResultStatus,
    SecureAnswer,
    SecureRequest,
    SecureStep,
    SubmitResult,
    TaskAssignment,
    UploadChunk,
    UploadProgress,
    UploadRequest,
    Wait,
)
from secagg import Abort, Client, wire
from secagg import AbortReason as SecAggReason
from secagg.messages import DeviceMessage, ServerMessage

MOST_RECONNECTS = 5
Talk: TypeAlias = Generator[Action, Event, Outcome]
_LATE = frozenset({AbortReason.GOAL_REACHED, AbortReason.DEADLINE_PASSED, AbortReason.ROUND_ABANDONED})


@dataclass(slots=True)
class _EndedEarly(Exception):
    """The session is over before the unmasking; a participation is refundable while no byte of the masked input has left."""

    outcome: Outcome = field()
    aborted: bool = False


class SecureSession:
    """One device's secure round.

    Args:
      shape: the session's shape so far.
      client: the device's end of the protocol, for the plan that it checked.
    """

    def __init__(
        self,
        *,
        spec: EligibilitySpec,
        assignment: TaskAssignment,
        checked: CheckedPlan,
        parameters: bytes,
        client: Client,
        shape: str,
    ) -> None:
        self._spec, self._assignment, self._checked, self._parameters = spec, assignment, checked, parameters
        self._client, self.shape = client, shape
        self._charged = self._sealed = self._included = False
        self._patience = Patience()

    def talk(self) -> Talk:
        """The session from here to its end."""
        try:
            yield from self._protocol()
        except _EndedEarly as ended:
            self._client.leave()
            if ended.aborted and self._charged and not self._sealed:
                yield Refund(self._spec.run, self._spec.current_index)
            return ended.outcome
        return Outcome(shape=self.shape + "^", status=ResultStatus.UPLOAD_COMPLETED)

    def _protocol(self) -> Generator[Action, Event, None]:
        roster = yield from self._exchange(SecureStep.ADVERTISE_KEYS, self._said(self._client.advertise_keys()))
        mine = self._answer(roster)
        told = yield Send(self._request(SecureStep.SHARE_KEYS, wire.write_device_message(mine)))
        self._check(told)
        yield from self._train()
        shares = yield from self._exchange(SecureStep.SHARE_KEYS, mine, told)
        masked = wire.write_device_message(self._answer(shares))
        yield Charge(self._spec.run, self._spec.current_index)
        self._charged = True
        self.shape += "+"
        survivors = yield from self._upload(masked)
        self._included = True
        request = yield from self._exchange(SecureStep.CONSISTENCY_CHECK, self._answer(survivors))
        yield from self._unmask(self._answer(request))

    def _train(self) -> Generator[Action, Event, None]:
        event = yield Train(self._assignment, self._checked, self._parameters)
        encoder = self._checked.encoder
        if not isinstance(event, Trained) or not isinstance(encoder, DistributedEncoder):
            raise self._over("*", ResultStatus.LOCAL_FAILED, Fault.TRAINING_FAILED)
        self.shape += "]"
        self._client.set_input(split(encoder, np.frombuffer(event.data, "<i4").astype(np.int32, copy=False)))

    def _exchange(
        self, step: SecureStep, message: DeviceMessage, heard: Event | None = None
    ) -> Generator[Action, Event, ServerMessage]:
        raw = wire.write_device_message(message)
        event = yield from self._ask(lambda first: self._request(step, raw if first else None), heard)
        return self._read(event)

    def _unmask(self, message: DeviceMessage) -> Generator[Action, Event, None]:
        raw = wire.write_device_message(message)
        event = yield from self._ask(lambda _: self._request(SecureStep.UNMASKING, raw))
        if not isinstance(event, Accepted):
            raise self._over("*", ResultStatus.REMOTE_FAILED, Fault.UNEXPECTED_REPLY)

    def _upload(self, data: bytes) -> Generator[Action, Event, ServerMessage]:
        session, sha256 = self._spec.session_id, Digest(hashlib.sha256(data).hexdigest())
        opening = UploadRequest(session, self._assignment.authorization_token, len(data), sha256, secure=True)
        for _ in range(MOST_RECONNECTS):
            event = yield from self._ask(lambda _: opening)
            if not isinstance(event, UploadProgress) or not 0 <= event.offset <= len(data):
                raise self._over("*", ResultStatus.REMOTE_FAILED, Fault.UNEXPECTED_REPLY)
            offset = event.offset
            if offset < len(data) and not self._sealed:
                # Before the first chunk, not the last: the coordinates that a lying server has are those it could go on to unmask.
                yield Seal(self._spec.run, self._spec.current_index)
                self._sealed = True
            if offset < len(data):
                sent = yield _chunks(session, data, offset)
                if not isinstance(sent, UploadProgress):
                    self._check(sent)
                    continue
            event = yield from self._ask(lambda _: SubmitResult(session, secure=True))
            if not isinstance(event, Aborted):
                return self._read(event)
            # Of all aborts only a wrong offset comes here: the upload stalled and lost its place, so it begins again.
        raise self._over("!", ResultStatus.UPLOAD_TIMEOUT)

    def _ask(self, request: Callable[[bool], Request], heard: Event | None = None) -> Generator[Action, Event, Event]:
        """Sends until there is an answer: after a wait it asks for the answer only, after a lost connection it says all again.

        Args:
          heard: what came when it was sent before, a while ago.
        """
        first, pause_s, lost = True, 0.0, 0
        if isinstance(heard, Wait):
            first, heard = False, None
        while True:
            event, heard = (yield Send(request(first), pause_s)) if heard is None else heard, None
            match event:
                case Wait(after_s):
                    first, pause_s = False, self._patience.pause_s(after_s)
                    self._patience = self._patience.after(pause_s)
                    if self._patience.over:
                        raise self._over("!", ResultStatus.UPLOAD_TIMEOUT)
                case ConnectionLost():
                    lost += 1
                    if lost > MOST_RECONNECTS:
                        raise self._over("!", ResultStatus.UPLOAD_TIMEOUT)
                    first, pause_s = True, 0.5 * 2.0 ** (lost - 1)
                case _:
                    self._check(event)
                    return event

    def _check(self, event: Event) -> None:
        if isinstance(event, Aborted) and event.reason is not AbortReason.WRONG_OFFSET:
            sign, status = ("#", ResultStatus.CANCELED) if event.reason in _LATE else ("*", ResultStatus.REMOTE_FAILED)
            if self._included and event.reason in (AbortReason.GOAL_REACHED, AbortReason.DEADLINE_PASSED):
                sign, status = "^", ResultStatus.UPLOAD_COMPLETED  # others' shares were enough: the input is in the sum
            outcome = Outcome(shape=self.shape + sign, status=status, retry=event.retry, aborted=event.reason)
            raise _EndedEarly(outcome, aborted=True)

    def _request(self, step: SecureStep, raw: bytes | None) -> SecureRequest:
        return SecureRequest(self._spec.session_id, self._assignment.authorization_token, step, raw)

    def _read(self, event: Event) -> ServerMessage:
        message = wire.read_server_message(event.message) if isinstance(event, SecureAnswer) else None
        if message is None or isinstance(message, Abort):
            raise self._over("*", ResultStatus.REMOTE_FAILED, Fault.UNEXPECTED_REPLY)
        return message

    def _answer(self, message: ServerMessage) -> DeviceMessage:
        return self._said(self._client.handle(message))

    def _said(self, reply: DeviceMessage | Abort) -> DeviceMessage:
        if isinstance(reply, Abort):
            raise self._over("*", ResultStatus.LOCAL_FAILED, reply.reason)
        return reply

    def _over(self, sign: str, status: ResultStatus, fault: Fault | SecAggReason | None = None) -> _EndedEarly:
        return _EndedEarly(Outcome(shape=self.shape + sign, status=status, fault=fault))


def _chunks(session: SessionId, data: bytes, start: int) -> SendChunks:
    whole = memoryview(data)
    return SendChunks(
        tuple(
            UploadChunk(session, offset, whole[offset : offset + MAX_CHUNK_BYTES], secure=True)
            for offset in range(start, len(data), MAX_CHUNK_BYTES)
        )
    )
