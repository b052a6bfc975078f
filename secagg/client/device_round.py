"""One device's round, from its keys to its shares: the order of the phases, and what a message out of order does."""

from collections.abc import Callable, Mapping
from typing import NoReturn, TypeAlias

import numpy as np
from numpy.typing import NDArray

from contract.entropy import Entropy
from secagg.authority import OneTimeIdentity
from secagg.client.advertise_keys import Advertised, Device, advertise_keys
from secagg.client.consistency_check import Checked, consistency_check
from secagg.client.masked_input import Masked, masked_input
from secagg.client.share_keys import Shared, share_keys
from secagg.client.unmasking import Released, unmasking
from secagg.context import Context
from secagg.floors import Floors
from secagg.messages import (
    AdvertiseKeys,
    DeviceMessage,
    ForwardedShares,
    Roster,
    ServerMessage,
    SurvivorsAnnouncement,
    UnmaskRequest,
)
from secagg.reasons import Abort, AbortReason
from secagg.receipt import Receipt, write_receipt

Inputs: TypeAlias = Mapping[str, NDArray[np.int64]]
State: TypeAlias = Advertised | Shared | Masked | Checked | Released


class Client:
    """A device in one round. It is made anew for every round and cannot be saved or copied: a restarted device leaves the round.

    Every answer is given once. The same message again, byte for byte, gets the same answer again, so that a broken connection
    can resume; other contents for a phase that is over end the round, and shares are never released twice.

    Args:
      context: the round as the device itself understands it.
      authority: public key of the `DeviceAuthority`.
      identity: one-time identity with its certificate.
      floors: the device's own lower limits.
      entropy: source of keys and seeds.
      inputs: gives the vectors by name, signed integers, int64 or int32, when the masked input is due; or None, then `set_input`
        must have been called before.

    Guarantee:
      As long as at most max(1, floor(g n)) devices of the roster tell the server everything, a lying server learns the sums that end
      in a result, of `minimum_survivors` devices or more each, and nothing else about the input: not by any order, repetition
      or content of messages (DDH in Curve25519, AES, HKDF and SHA-256 as random oracle; up to 2^-40 over
      the graph that a server may grind, where that is proved: on the complete graph there is no graph to grind, and on a ring
      SECURITY.md says what is not proved).
    """

    def __init__(
        self,
        *,
        context: Context,
        authority: bytes,
        identity: OneTimeIdentity,
        floors: Floors,
        entropy: Entropy,
        inputs: Callable[[], Inputs] | None = None,
    ) -> None:
        self._device = Device(context=context, authority=authority, identity=identity, floors=floors, entropy=entropy)
        self._inputs = inputs
        self._state: State | Abort | None = None
        self._answered: ServerMessage | None = None

    def __reduce__(self) -> NoReturn:
        """No copy and no pickle: a second one could mask another input, or with other neighbours, under the same masks."""
        raise TypeError("a client cannot be copied or saved: a restarted device leaves the round")

    @property
    def state(self) -> State | Abort | None:
        """Where the device is: None before it advertised, an `Abort` once it has left."""
        return self._state

    def set_input(self, vectors: Inputs) -> None:
        """The vectors to submit, in place of the `inputs` callable."""
        self._inputs = lambda: vectors

    def advertise_keys(self) -> AdvertiseKeys | Abort:
        """The first message; the same one if asked again."""
        if self._state is None:
            self._state = advertise_keys(self._device)
        match self._state:
            case Abort():
                return self._state
            case Advertised():
                return self._state.sent
            case _:
                return self._leave(Abort(AbortReason.UNEXPECTED_MESSAGE, "keys were advertised already"))

    def handle(self, message: ServerMessage) -> DeviceMessage | Abort:
        """The answer to a server's message, or why the device leaves.

        Raises:
          ValueError: if the device has not advertised keys, or no input was set: both are the caller's mistakes.
        """
        match self._state:
            case None:
                raise ValueError("advertise_keys comes first")
            case Abort():
                return self._state
            case Released():
                return self._leave(Abort(AbortReason.ALREADY_RELEASED))
            case Advertised():
                return self._step(self._state, message) if isinstance(message, Roster) else self._foreign(message)
            case Shared() | Masked() | Checked():
                if isinstance(message, Roster):
                    return self._again(message)
                if message.context != self._state.member.ctx1:
                    return self._leave(Abort(AbortReason.WRONG_CONTEXT))
                return self._step(self._state, message)

    def leave(self, reason: AbortReason = AbortReason.LEFT) -> Abort:
        """Ends the round for this device, of its own will; every secret is forgotten."""
        return self._leave(Abort(reason))

    def receipt(self) -> Receipt | None:
        """The device's signed record of what it took part in, once the roster is fixed; None before, or after it left."""
        match self._state:
            case Shared() | Masked() | Checked() | Released():
                member = self._state.member
                return write_receipt(self._device.context, member.ctx1, member.graph.topology, self._device.identity)
            case _:
                return None

    def _step(self, state: State, message: ServerMessage) -> DeviceMessage | Abort:
        match state, message:
            case Advertised(), Roster():
                return self._move(share_keys(state, message), message)
            case Shared(), ForwardedShares():
                if self._inputs is None:
                    raise ValueError("set_input comes before the masked input is due")
                return self._move(masked_input(state, message, self._inputs()), message)
            case Masked(), SurvivorsAnnouncement():
                return self._move(consistency_check(state, message), message)
            case Checked(), UnmaskRequest():
                return self._move(unmasking(state, message), message)
            case _:
                return self._again(message)

    def _move(self, result: State | Abort, message: ServerMessage) -> DeviceMessage | Abort:
        if isinstance(result, Abort):
            return self._leave(result)
        self._state, self._answered = result, message
        return result.sent

    def _again(self, message: ServerMessage) -> DeviceMessage | Abort:
        """The same answer to the same message; anything else belongs to another phase."""
        if message == self._answered and isinstance(self._state, Shared | Masked | Checked):
            return self._state.sent
        if type(message) is type(self._answered):
            return self._leave(Abort(AbortReason.SECOND_REQUEST, type(message).__name__))
        return self._foreign(message)

    def _foreign(self, message: ServerMessage) -> Abort:
        return self._leave(Abort(AbortReason.UNEXPECTED_MESSAGE, type(message).__name__))

    def _leave(self, abort: Abort) -> Abort:
        self._state, self._answered, self._inputs = abort, None, None
        return abort
