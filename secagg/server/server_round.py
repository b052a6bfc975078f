"""The server's round: phases in order, closed by the caller, and a stop before anything can be revealed."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import TypeAlias

import numpy as np

from secagg.context import Context
from secagg.messages import (
    AdvertiseKeys,
    ConsistencyCheck,
    DeviceMessage,
    MaskedInput,
    ServerMessage,
    ShareKeys,
    Unmasking,
    UnmaskRequest,
)
from secagg.reasons import Abort, AbortReason, Refusal
from secagg.server.advertise_keys import AdvertisingKeys, Membership
from secagg.server.consistency_check import CheckingConsistency
from secagg.server.masked_input import CollectingInputs
from secagg.server.recording import record
from secagg.server.share_keys import SharingKeys
from secagg.server.unmasking import CollectingShares, Result
from secagg.transcript import Transcript


class Phase(Enum):
    """Where a round is. `AWAITING_CHARGE` is the stop: nothing leaves it but an explicit request."""

    ADVERTISE_KEYS = "advertise keys"
    SHARE_KEYS = "share keys"
    MASKED_INPUT = "masked input"
    CONSISTENCY_CHECK = "consistency check"
    AWAITING_CHARGE = "awaiting charge"
    UNMASKING = "unmasking"
    COMPLETED = "completed"
    ABORTED = "aborted"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Charged:
    """The consistency check is done; the requests are ready and must not leave before the charge is committed."""

    checked: CheckingConsistency
    requests: dict[int, UnmaskRequest]


_State: TypeAlias = (
    AdvertisingKeys | SharingKeys | CollectingInputs | CheckingConsistency | _Charged | CollectingShares | Result | Abort
)
_PHASES: dict[type, Phase] = {
    AdvertisingKeys: Phase.ADVERTISE_KEYS,
    SharingKeys: Phase.SHARE_KEYS,
    CollectingInputs: Phase.MASKED_INPUT,
    CheckingConsistency: Phase.CONSISTENCY_CHECK,
    _Charged: Phase.AWAITING_CHARGE,
    CollectingShares: Phase.UNMASKING,
    Result: Phase.COMPLETED,
    Abort: Phase.ABORTED,
}


class Server:
    """One round on the server's side. It lives in memory alone: a restarted server has lost the round, and devices notice.

    The caller names devices by integers of its own, hands each message to `handle`, and closes a phase when `ready` or when
    its time is over; what `close_phase` returns is to be sent. After the consistency check the round stops in
    `AWAITING_CHARGE`: `request_unmasking` is called once the charge of the worst case is committed, never before.

    Args:
      context: the round.
      authority: public key of the `DeviceAuthority`.
      threads: how many may take masks off at the end.

    Guarantee:
      A result is the exact sum of what its survivors submitted, lane by lane as `packing.unpack` says, if no device lied about the
      masks on its own input (a device can spoil a sum, not read one). Otherwise there is an abort with its reason.
    """

    def __init__(self, *, context: Context, authority: bytes, threads: int = 1) -> None:
        if threads < 1:
            raise ValueError(f"threads must be at least 1, not {threads}")
        self._threads = threads
        self._state: _State = AdvertisingKeys(context=context, ctx0=context.digest(), authority=authority)
        self._membership: Membership | None = None
        self._sharing: SharingKeys | None = None
        self._inputs: CollectingInputs | None = None
        self._checked: CheckingConsistency | None = None
        self._unmasking: CollectingShares | None = None
        self._gone: set[int] = set()
        self._refusals: dict[Refusal, int] = {}

    @property
    def phase(self) -> Phase:
        """Where the round is."""
        return _PHASES[type(self._state)]

    @property
    def refusals(self) -> Mapping[Refusal, int]:
        """How many messages were turned away, by reason."""
        return self._refusals

    @property
    def membership(self) -> Membership | None:
        """The roster, once it is fixed."""
        return self._membership

    @property
    def survivors(self) -> tuple[int, ...] | None:
        """The devices whose inputs are in the masked sum, as the caller names them; None before that is settled."""
        if self._checked is None:
            return None
        return tuple(self._checked.membership.devices[slot] for slot in sorted(self._checked.surviving))

    def handle(self, device: int, message: DeviceMessage) -> Refusal | None:
        """Takes a device's message, or says why not. A refused message changes nothing but the count of refusals."""
        refusal = self._receive(device, message)
        if refusal is not None:
            self._refusals[refusal] = self._refusals.get(refusal, 0) + 1
        return refusal

    def drop(self, device: int) -> None:
        """The device has left: nobody waits for it, and what it still sends is refused."""
        if isinstance(self._state, AdvertisingKeys):
            self._state.remove(device)
        self._gone.add(device)

    @property
    def ready(self) -> bool:
        """Whether waiting longer can add nothing: everybody who is still there has answered, or the roster is full."""
        match self._state:
            case AdvertisingKeys():
                return self._state.full
            case SharingKeys():
                return self._answered(range(self._state.membership.size), self._state.dealt)
            case CollectingInputs():
                return self._answered(self._state.sharers, self._state.added)
            case CheckingConsistency():
                return self._answered(self._state.surviving, self._state.signatures)
            case CollectingShares():
                return self._state.sufficient or self._answered(self._state.asked, self._state.released)
            case _Charged() | Result() | Abort():
                return True

    @property
    def sufficient(self) -> bool:
        """Whether the round can go on from what has come: a phase that is closed before that is lost, whatever follows.

        It knows neighbourhoods; the floors that are mere numbers of devices are `close_phase`'s.
        """
        match self._state:
            case SharingKeys() | CollectingInputs() | CheckingConsistency() | CollectingShares():
                return self._state.sufficient
            case AdvertisingKeys() | _Charged() | Result() | Abort():
                return True

    @property
    def waiting_for(self) -> int:
        """Devices that are there and have not answered in the open phase; 0 where nobody is asked."""
        match self._state:
            case SharingKeys():
                return self._missing(range(self._state.membership.size), self._state.dealt)
            case CollectingInputs():
                return self._missing(self._state.sharers, self._state.added)
            case CheckingConsistency():
                return self._missing(self._state.surviving, self._state.signatures)
            case CollectingShares():
                return self._missing(self._state.asked, self._state.released)
            case AdvertisingKeys():
                return self._state.context.parameters.roster_size - len(self._state.advertised)
            case _Charged() | Result() | Abort():
                return 0

    def close_phase(self) -> Mapping[int, ServerMessage] | Abort:
        """Ends the open phase: the messages of the next one by device, none where the caller has to act first, or an abort.

        Whoever has not answered has dropped out. Closing `UNMASKING` does the arithmetic: call it off the event loop.

        Raises:
          ValueError: in `AWAITING_CHARGE` and once the round is over: there is nothing to close.
        """
        match self._state:
            case AdvertisingKeys():
                return self._close_advertising(self._state)
            case SharingKeys():
                return self._close_sharing(self._state)
            case CollectingInputs():
                return self._close_inputs(self._state)
            case CheckingConsistency():
                return self._close_checking(self._state)
            case CollectingShares():
                result = self._state.close(self._threads)
                self._state = result
                return result if isinstance(result, Abort) else {}
            case _Charged():
                raise ValueError("the charge comes first: request_unmasking")
            case Result() | Abort():
                raise ValueError(f"the round is {self.phase.value}")

    def request_unmasking(self) -> Mapping[int, UnmaskRequest]:
        """The requests for shares. To be called when the round's charge is committed, since their answers reveal the sum.

        Raises:
          ValueError: in any other phase than `AWAITING_CHARGE`.
        """
        if not isinstance(self._state, _Charged) or self._inputs is None or self._sharing is None:
            raise ValueError(f"shares cannot be asked for in the phase {self.phase.value}")
        checked, requests = self._state.checked, self._state.requests
        self._state = self._unmasking = CollectingShares(
            membership=checked.membership,
            sharers=checked.sharers,
            survivors=checked.survivors,
            sharing=checked.sharing,
            surviving=checked.surviving,
            dealt=self._sharing.dealt,
            asked=frozenset(checked.membership.slots[device] for device in requests),
            total=self._inputs.total,
        )
        return requests

    def abort(self, reason: AbortReason, detail: str = "") -> Abort:
        """Ends the round at the caller's wish, for instance because the charge was refused."""
        self._state = Abort(reason, detail)
        return self._state

    def result(self) -> Result | Abort | None:
        """The outcome; None while the round goes on."""
        return self._state if isinstance(self._state, Result | Abort) else None

    def transcript(self) -> Transcript | None:
        """What everybody signed and released so far; None before survivors were announced."""
        if self._checked is None:
            return None
        return record(self._checked, self._unmasking.released if self._unmasking else {})

    def _receive(self, device: int, message: DeviceMessage) -> Refusal | None:
        if device in self._gone:
            return Refusal.NOT_ON_ROSTER
        if isinstance(self._state, AdvertisingKeys):
            return self._state.receive(device, message) if isinstance(message, AdvertiseKeys) else Refusal.OUT_OF_PHASE
        slot = None if self._membership is None else self._membership.slots.get(device)
        if slot is None:
            return Refusal.NOT_ON_ROSTER
        match self._state, message:
            case SharingKeys(), ShareKeys():
                return self._state.receive(slot, message)
            case CollectingInputs(), MaskedInput():
                return self._state.receive(slot, message)
            case CheckingConsistency(), ConsistencyCheck():
                return self._state.receive(slot, message)
            case CollectingShares(), Unmasking():
                return self._state.receive(slot, message)
            case _:
                return Refusal.OUT_OF_PHASE

    def _close_advertising(self, state: AdvertisingKeys) -> Mapping[int, ServerMessage] | Abort:
        closed = state.close()
        if isinstance(closed, Abort):
            return self._abort(closed)
        self._membership, rosters = closed
        self._state = self._sharing = SharingKeys(membership=self._membership)
        return rosters

    def _close_sharing(self, state: SharingKeys) -> Mapping[int, ServerMessage] | Abort:
        closed = state.close()
        if isinstance(closed, Abort):
            return self._abort(closed)
        total = np.zeros(state.membership.context.parameters.words, dtype=np.uint64)
        sharers = frozenset(state.dealt)
        self._state = self._inputs = CollectingInputs(
            membership=state.membership, sharers=sharers, sharers_bitmap=closed[0], total=total
        )
        return closed[1]

    def _close_inputs(self, state: CollectingInputs) -> Mapping[int, ServerMessage] | Abort:
        closed = state.close()
        if isinstance(closed, Abort):
            return self._abort(closed)
        self._state = self._checked = CheckingConsistency(
            membership=state.membership,
            sharers=state.sharers_bitmap,
            survivors=closed[0],
            sharing=state.sharers,
            surviving=frozenset(state.added),
        )
        return closed[1]

    def _close_checking(self, state: CheckingConsistency) -> Mapping[int, ServerMessage] | Abort:
        requests = state.close()
        if isinstance(requests, Abort):
            return self._abort(requests)
        self._state = _Charged(checked=state, requests=requests)
        return {}

    def _abort(self, abort: Abort) -> Abort:
        self._state = abort
        return abort

    def _missing(self, asked: "range | frozenset[int]", answered: "Mapping[int, object] | set[int]") -> int:
        names = () if self._membership is None else self._membership.devices
        return sum(slot not in answered and names[slot] not in self._gone for slot in asked)

    def _answered(self, asked: "range | frozenset[int]", answered: "Mapping[int, object] | set[int]") -> bool:
        return self._missing(asked, answered) == 0
