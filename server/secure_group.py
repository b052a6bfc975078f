"""One group of a secure round: its side of SecAgg, the phase it waits in and until when, and what it says to each of its devices.

A phase ends when everybody who is still there has answered, or at its deadline (`server.secure_windows`). The group stops before the
requests for shares: they leave when the round's charge is on the record, which is one for all groups.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from contract.ids import SessionId
from contract.messages import AbortReason, SecureStep
from secagg import Abort, Context, Phase, Result, Server, Transcript, wire
from secagg import AbortReason as SecAggReason
from secagg.messages import DeviceMessage, MaskedInput, ServerMessage
from secagg.reasons import Refusal
from server.secure_windows import PHASES, PhaseClock, PhaseWindows, allowance

STEPS = {
    Phase.ADVERTISE_KEYS: SecureStep.ADVERTISE_KEYS,
    Phase.SHARE_KEYS: SecureStep.SHARE_KEYS,
    Phase.MASKED_INPUT: SecureStep.MASKED_INPUT,
    Phase.CONSISTENCY_CHECK: SecureStep.CONSISTENCY_CHECK,
    Phase.UNMASKING: SecureStep.UNMASKING,
}
_AT_THE_GOAL = (SecureStep.ADVERTISE_KEYS, SecureStep.UNMASKING)
"""Late in these, a device missed a place that others took: the roster is full, or enough shares are there."""
POLL_SHARE = 0.15
"""Of the time that a phase has lasted: who waits for a short phase asks soon, who waits for a long one seldom."""
_OVERHEAD_BYTES = 128
"""Of a serialised masked input over its words."""


@dataclass(frozen=True, slots=True)
class Fault:
    """Why a message was not taken; `ends` if its sender leaves the round for it, `refusal` if the protocol itself named the reason."""

    reason: AbortReason
    ends: bool = False
    refusal: str | None = None


class SecureGroup:
    """The devices of one group, in one round.

    Args:
      authority: public key of the device authority.
      until_s: no masked input is taken later.
      members: devices of the cohort that may come; None if more may than a roster holds, for all that is known.
    """

    def __init__(
        self,
        *,
        context: Context,
        authority: bytes,
        windows: PhaseWindows,
        now_s: float,
        until_s: float,
        members: int | None = None,
        threads: int = 2,
    ) -> None:
        self._context, self._windows, self._until_s = context, windows, until_s
        self._members = np.inf if members is None else members
        self._server = Server(context=context, authority=authority, threads=threads)
        self._slots: dict[SessionId, int] = {}
        self._sent: dict[tuple[SessionId, SecureStep], bytes] = {}
        self._answers: dict[SecureStep, Mapping[int, ServerMessage]] = {}
        self._clock: PhaseClock | None = None
        self._sufficient = False
        self._opened_s, self._deadline_s, self._taken = now_s, now_s + windows.advertising_s, 0
        self.waited_s: dict[str, float] = {}
        """How long each closed phase took."""

    @property
    def phase(self) -> Phase:
        """Where the group is."""
        return self._server.phase

    @property
    def ended(self) -> bool:
        """Whether there is a sum, or there will be none."""
        return self._server.result() is not None

    @property
    def result(self) -> Result | Abort | None:
        """The outcome; None while the group goes on."""
        return self._server.result()

    @property
    def summed(self) -> int:
        """Devices whose inputs are in the masked sum; 0 before that is settled."""
        return len(self._server.survivors or ())

    @property
    def opened_s(self) -> float:
        """When the open phase began."""
        return self._opened_s

    @property
    def revealing(self) -> bool:
        """Whether nothing but shares is still to come."""
        return self.ended or self.phase in (Phase.AWAITING_CHARGE, Phase.UNMASKING)

    def poll_s(self, now_s: float) -> float:
        """When who waits should ask again: half of the time that is left at the rate of the answers so far, a part of that passed."""
        passed_s, missing = now_s - self._opened_s, self._server.waiting_for
        return min(POLL_SHARE * passed_s, 0.5 * passed_s * missing / max(1, self._taken))

    @property
    def deadline_s(self) -> float:
        """When the open phase ends at the latest, as things stand; infinite while the group waits for its charge."""
        if self.phase is Phase.AWAITING_CHARGE or self.ended:
            return np.inf
        if self._clock is None:
            return self._deadline_s
        # What was learnt cuts a phase short only once the answers are enough: a lost round costs the work of all, and its charge.
        wanted = self._clock.deadline_s
        return wanted if wanted == self._clock.latest_s or self._enough() else self._clock.latest_s

    @property
    def collecting(self) -> bool:
        """Whether masked inputs are taken."""
        return self.phase is Phase.MASKED_INPUT

    @property
    def deserted(self) -> bool:
        """Whether all its devices left before there was a roster."""
        return self.phase is Phase.ADVERTISE_KEYS and self._members <= 0

    @property
    def early(self) -> bool:
        """Whether no masked input was ever asked for."""
        return SecureStep.SHARE_KEYS not in self._answers

    def shared_keys(self, session: SessionId) -> bool:
        """Whether the device may send a masked input."""
        return self._slots.get(session, -1) in self._answers.get(SecureStep.SHARE_KEYS, {})

    def on_roster(self, session: SessionId) -> bool:
        """Whether the device has a place on the fixed roster."""
        return self._slots.get(session, -1) in self._answers.get(SecureStep.ADVERTISE_KEYS, {})

    def wrong_length(self, num_bytes: int) -> bool:
        """Whether so many bytes cannot be a masked input."""
        words = 8 * self._context.parameters.words
        return not words <= num_bytes <= words + _OVERHEAD_BYTES

    def receive(self, session: SessionId, step: SecureStep, raw: bytes, now_s: float) -> Fault | None:
        """Takes a device's message, now or as before; or says why not."""
        digest = hashlib.sha256(raw).digest()
        before = self._sent.get((session, step))
        if before is not None:
            return None if before == digest else Fault(AbortReason.ALREADY_SUBMITTED, ends=True)
        if step is SecureStep.MASKED_INPUT or step is not STEPS.get(self.phase):
            return Fault(self.out_of_phase(step))
        message = wire.read_device_message(raw)
        if message is None or isinstance(message, Abort | MaskedInput):
            return Fault(AbortReason.FOREIGN_MESSAGE, ends=True)
        fault = self._handle(session, message, now_s)
        if fault is None:
            self._sent[(session, step)] = digest
        return fault

    def out_of_phase(self, step: SecureStep) -> AbortReason:
        """What is said to a message of `step` while another phase is open: it is late, or it came before its time."""
        if isinstance(self.result, Abort):
            return AbortReason.ROUND_ABANDONED
        if not self._is_over(step):
            return AbortReason.FOREIGN_MESSAGE
        return AbortReason.GOAL_REACHED if step in _AT_THE_GOAL else AbortReason.DEADLINE_PASSED

    def receive_input(self, session: SessionId, raw: bytes | bytearray, now_s: float) -> Fault | None:
        """Adds a masked input; or says why not. Nothing of `raw` is kept."""
        message = wire.read_masked_input(raw)
        if message is None:
            return Fault(AbortReason.FOREIGN_MESSAGE, ends=True)
        if not self.collecting or now_s > self.deadline_s:
            return Fault(AbortReason.DEADLINE_PASSED)
        return self._handle(session, message, now_s)

    def took(self, session: SessionId, step: SecureStep) -> bool:
        """Whether this message of the device was taken."""
        return (session, step) in self._sent

    def answer(self, session: SessionId, step: SecureStep) -> ServerMessage | AbortReason | None:
        """What the device is told once the phase of `step` is over; None as long as it is not."""
        answers = self._answers.get(step)
        if answers is None:
            return AbortReason.ROUND_ABANDONED if self.ended else None
        found = answers.get(self._slots.get(session, -1))
        if found is not None:
            return found
        return AbortReason.GOAL_REACHED if step is SecureStep.ADVERTISE_KEYS else AbortReason.DEADLINE_PASSED

    def drop(self, session: SessionId) -> None:
        """The device is gone: nobody waits for it."""
        self._members -= 1
        if session in self._slots:
            self._server.drop(self._slots[session])

    def advance(self, now_s: float) -> bool:
        """Ends every phase that has nothing to wait for, or whose window is over; whether the roster was fixed by that."""
        fixed = False
        while not self.ended and self.phase is not Phase.AWAITING_CHARGE:
            if not self._complete and now_s < self.deadline_s:
                break
            step = STEPS[self.phase]
            self._close_clock(now_s)
            closed = self._server.close_phase()
            if isinstance(closed, Abort) or self.ended:
                break
            if step is not SecureStep.CONSISTENCY_CHECK:
                self._opened(step, closed, now_s)
                fixed = fixed or step is SecureStep.ADVERTISE_KEYS
        return fixed

    def request_unmasking(self, now_s: float) -> None:
        """Asks for shares; only once the round's charge is committed."""
        self._opened(SecureStep.CONSISTENCY_CHECK, self._server.request_unmasking(), now_s)

    def abort(self) -> None:
        """Ends the group without a sum."""
        self._server.abort(SecAggReason.TOO_FEW_SURVIVORS)

    def sums(self) -> NDArray[np.int64] | None:
        """The group's sum, its vectors one behind the other; None without a result."""
        result = self.result
        if not isinstance(result, Result):
            return None
        parts = [result.sums[vector.name] for vector in self._context.parameters.vectors]
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    @property
    def transcript(self) -> Transcript | None:
        """What the group's parties signed and released; None before the survivors were announced."""
        return self._server.transcript()

    def _handle(self, session: SessionId, message: DeviceMessage, now_s: float) -> Fault | None:
        refusal = self._server.handle(self._slots.setdefault(session, len(self._slots)), message)
        if refusal is not None:
            # That its certificate counts for nothing here is no secret, and what a misconfigured device has to know.
            reason = AbortReason.UNAUTHORIZED if refusal is Refusal.UNCERTIFIED else AbortReason.FOREIGN_MESSAGE
            return Fault(reason, ends=True, refusal=refusal.value)
        self._taken += 1
        if self._clock is not None:
            self._clock.answered(now_s)
        return None

    @property
    def _complete(self) -> bool:
        """Whether nobody who could still answer is waited for: all who are there have, or the roster is full."""
        if self.phase is not Phase.ADVERTISE_KEYS:
            return self._server.ready
        return self._server.waiting_for <= max(0, self._context.parameters.roster_size - self._members)

    def _enough(self) -> bool:
        """Whether the open phase has what it needs; once it does, it stays so."""
        self._sufficient = self._sufficient or self._server.sufficient
        return self._sufficient

    def _is_over(self, step: SecureStep) -> bool:
        """Whether the phase of this step has been closed."""
        signed = step is SecureStep.CONSISTENCY_CHECK and self.phase is Phase.AWAITING_CHARGE
        return step in self._answers or signed or self.ended

    def _opened(self, step: SecureStep, messages: Mapping[int, ServerMessage], now_s: float) -> None:
        self._answers[step] = messages  # written when asked for: a thousand rosters share their lists, their bytes would not
        self._opened_s, self._taken, self._sufficient, phase = now_s, 0, False, self.phase
        parameters, membership = self._context.parameters, self._server.membership
        if phase not in PHASES or membership is None:
            return
        inputs_due = phase in (Phase.SHARE_KEYS, Phase.MASKED_INPUT)
        needed = max(parameters.minimum_survivors if inputs_due else 0, membership.threshold + 1)
        alive = len(messages)
        may_leave = allowance(parameters, membership.size, alive, needed)
        self._clock = self._windows.open(
            phase,
            at_s=now_s,
            alive=alive,
            may_leave=may_leave,
            needed=alive - may_leave,
            until_s=self._until_s if phase is Phase.MASKED_INPUT else np.inf,
        )

    def _close_clock(self, now_s: float) -> None:
        name = self.phase.value
        self.waited_s[name] = round(now_s - self._opened_s, 3)
        if self._clock is not None:
            self._clock.close(now_s)
            self._clock = None
