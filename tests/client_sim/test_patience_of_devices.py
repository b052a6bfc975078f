"""A server that says "wait" cannot make a device spin, and cannot keep it for ever."""

from types import SimpleNamespace
from typing import Any

import pytest

from client_sim.egress import DevicePolicy
from client_sim.patience import EARLY_WAITS, LATER_WAIT_S, LEAST_WAIT_S, LONGEST_PUT_OFF_S, LONGEST_WAIT_S
from client_sim.secure_session import SecureSession
from client_sim.session import begin, step
from client_sim.session_states import Ended, RecordRead, Reporting, Send
from contract.ids import Digest, SessionId
from contract.messages import Acknowledged, EligibilitySpec, Resource, ResultStatus, TaskAssignment, Wait
from secagg.authority import Certificate
from secagg.messages import AdvertiseKeys

SPEC = EligibilitySpec(SessionId("s"), "t", "r", 0, 0, 1, 0.0, 1)  # type: ignore[arg-type]


def asked_until_the_end(said_s: float) -> tuple[list[float], Any]:
    """The pauses of a plain session whose place is held for ever, and its end."""
    state, _ = begin("p", client_version="1", policy=DevicePolicy())
    for event in (SPEC, RecordRead(eligible=True)):
        state, _ = step(state, event)
    pauses = []
    while not isinstance(state, Reporting | Ended):
        state, actions = step(state, Wait(said_s))
        pauses += [action.after_s for action in actions if isinstance(action, Send)]
    if isinstance(state, Reporting):
        state, _ = step(state, Acknowledged())
    return pauses[:-1], state


@pytest.mark.parametrize("said_s", [0.0, 1e-9, 1.0, 1e9, float("inf"), float("nan"), -5.0])
def test_plain_session_is_asked_for_no_storm_and_ends(said_s):
    pauses, state = asked_until_the_end(said_s)
    assert state.outcome.shape == "-!"
    assert sum(pauses) <= LONGEST_PUT_OFF_S
    assert len(pauses) <= EARLY_WAITS + LONGEST_PUT_OFF_S / LATER_WAIT_S
    assert min(pauses) >= LEAST_WAIT_S
    assert min(pauses[EARLY_WAITS:], default=LATER_WAIT_S) >= LATER_WAIT_S
    assert max(pauses) <= LONGEST_WAIT_S


class Keyed:
    """A client that only advertises keys."""

    left = False

    def advertise_keys(self) -> AdvertiseKeys:
        return AdvertiseKeys(certificate=Certificate(bytes(32), 1, bytes(64)), cipher_key=b"", mask_key=b"", signature=b"")

    def leave(self) -> None:
        self.left = True


def said(talk: Any, pauses: list[float], said_s: float) -> Any:
    """One more wait, as the device pauses for it; the outcome once it has left."""
    try:
        pauses.append((talk.send(Wait(said_s)) if pauses else next(talk)).after_s)
    except StopIteration as ended:
        return ended.value
    return None


@pytest.mark.parametrize("said_s", [0.0, float("nan")])
def test_secure_session_forgets_its_secrets_when_it_was_put_off_for_long_enough(said_s):
    client: Any = Keyed()
    assignment = TaskAssignment(SessionId("s"), "a", b"", b"", Resource("model", 4, Digest("")), secure=True)  # type: ignore[arg-type]
    checked: Any = SimpleNamespace(plan=None, encoder=None)
    session = SecureSession(spec=SPEC, assignment=assignment, checked=checked, parameters=b"", client=client, shape="-")
    talk, pauses = session.talk(), []
    while (outcome := said(talk, pauses, said_s)) is None:
        pass
    assert outcome.shape == "-!"
    assert outcome.status is ResultStatus.UPLOAD_TIMEOUT
    assert client.left
    assert min(pauses[1:]) >= LEAST_WAIT_S
    assert sum(pauses) <= LONGEST_PUT_OFF_S + LONGEST_WAIT_S
    assert len(pauses) <= EARLY_WAITS + LONGEST_PUT_OFF_S / LATER_WAIT_S + 1
