"""Every state meets every message: exactly the legal pairs move on, everything else ends the device's round or is turned away."""

import itertools

import pytest

from contract.entropy import system_entropy
from secagg import LOWEST_FLOORS, Abort, AbortReason, Client, DeviceAuthority, Phase, Refusal, Server
from secagg.client.advertise_keys import Advertised
from secagg.client.consistency_check import Checked
from secagg.client.masked_input import Masked
from secagg.client.share_keys import Shared
from secagg.client.unmasking import Released
from secagg.messages import (
    AdvertiseKeys,
    ConsistencyCheck,
    ForwardedShares,
    MaskedInput,
    Roster,
    ShareKeys,
    SurvivorsAnnouncement,
    Unmasking,
    UnmaskRequest,
)

STATES = [Advertised, Shared, Masked, Checked, Released, Abort]
SERVER_SAYS = [Roster, ForwardedShares, SurvivorsAnnouncement, UnmaskRequest]
DEVICE_SAYS = [AdvertiseKeys, ShareKeys, MaskedInput, ConsistencyCheck, Unmasking]
LEGAL = {
    (Advertised, Roster): Shared,
    (Shared, ForwardedShares): Masked,
    (Masked, SurvivorsAnnouncement): Checked,
    (Checked, UnmaskRequest): Released,
    # The same message again, byte for byte: the same answer, the same state.
    (Shared, Roster): Shared,
    (Masked, ForwardedShares): Masked,
    (Checked, SurvivorsAnnouncement): Checked,
}
PHASES = [Phase.ADVERTISE_KEYS, Phase.SHARE_KEYS, Phase.MASKED_INPUT, Phase.CONSISTENCY_CHECK, Phase.UNMASKING]


class Rounds:
    """A round that can be stopped anywhere, with every genuine message of it."""

    def __init__(self, context, inputs) -> None:
        authority = DeviceAuthority(bytes(32))
        self.server = Server(context=context, authority=authority.public)
        self.clients = {}
        for device, vectors in inputs.items():
            identity = authority.enrol(context.epoch, system_entropy)
            client = Client(
                context=context, authority=authority.public, identity=identity, floors=LOWEST_FLOORS, entropy=system_entropy
            )
            client.set_input(vectors)
            self.clients[device] = client
        self.sent = {device: client.advertise_keys() for device, client in self.clients.items()}
        self.device_messages = {AdvertiseKeys: self.sent[100]}
        self.server_messages = {}

    def advance(self, *, but: int | None = None) -> None:
        """One phase on; device `but` is not shown the server's message."""
        for device, message in self.sent.items():
            self.server.handle(device, message)
        shown = self.server.close_phase()
        if self.server.phase is Phase.AWAITING_CHARGE:
            shown = self.server.request_unmasking()
        if shown:
            self.server_messages[type(shown[100])] = shown[100]
        self.sent = {device: self.clients[device].handle(message) for device, message in shown.items() if device != but}
        if 100 in self.sent:
            self.device_messages[type(self.sent[100])] = self.sent[100]


def genuine(context, inputs):
    """A round in state i, and the genuine messages that the whole of it consists of."""
    whole = Rounds(context, inputs)
    while whole.server.result() is None:
        whole.advance()
    return whole


@pytest.mark.parametrize(("state", "message"), list(itertools.product(STATES, SERVER_SAYS)))
def test_device_in_every_state_with_every_message(state, message, context, draw_inputs):
    inputs = draw_inputs(context.parameters)
    played = Rounds(context, inputs)
    for _ in range(min(STATES.index(state), 4)):
        played.advance()
    client = played.clients[100]
    if state is Abort:
        client.leave()
    assert isinstance(client.state, state)
    shown = played.server_messages.get(message)
    if shown is None:  # not yet said in this round: the server's next words, or those after
        ahead = Rounds(context, inputs)
        while message not in ahead.server_messages:
            ahead.advance()
        shown = ahead.server_messages[message]
        if (state, message) in LEGAL:
            for device, said in played.sent.items():
                played.server.handle(device, said)
            closed = played.server.close_phase()
            closed = played.server.request_unmasking() if played.server.phase is Phase.AWAITING_CHARGE else closed
            shown = closed[100]
    before = client.state
    answer = client.handle(shown)
    if (state, message) in LEGAL:
        assert not isinstance(answer, Abort)
        assert isinstance(client.state, LEGAL[state, message])
    else:
        assert isinstance(answer, Abort)
        assert client.state == answer
        assert state is not Abort or answer == before
        assert answer.reason in {
            AbortReason.UNEXPECTED_MESSAGE,
            AbortReason.WRONG_CONTEXT,
            AbortReason.SECOND_REQUEST,
            AbortReason.ALREADY_RELEASED,
            AbortReason.LEFT,
        }


@pytest.mark.parametrize("phase", [*PHASES, Phase.COMPLETED])
def test_server_in_every_phase_with_every_message(phase, context, draw_inputs):
    inputs = draw_inputs(context.parameters)
    whole = genuine(context, inputs)
    played = Rounds(context, inputs)
    for _ in range([*PHASES, Phase.COMPLETED].index(phase)):
        played.advance()
    assert played.server.phase is phase
    for index, message in enumerate(DEVICE_SAYS):
        refusal = played.server.handle(100, whole.device_messages[message])
        if index < len(PHASES) and PHASES[index] is phase:
            assert refusal is not Refusal.OUT_OF_PHASE  # judged on its content: it is another round's
        elif phase is Phase.ADVERTISE_KEYS or played.server.membership is not None:
            assert refusal is Refusal.OUT_OF_PHASE
