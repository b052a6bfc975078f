"""A participation is not given back once any part of the masked input has left: a lying server could unmask what it has.

How a session ended, and for whose reason, is told whichever way it ends.
"""

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from client_sim.encoding import DistributedEncoder
from client_sim.secure_session import SecureSession
from client_sim.session_states import Charge, ConnectionLost, Outcome, Refund, Seal, Send, SendChunks, Train, Trained, Written
from contract.ids import Digest, SessionId
from contract.messages import (
    MAX_CHUNK_BYTES,
    Aborted,
    AbortReason,
    Accepted,
    EligibilitySpec,
    Resource,
    RetryWindow,
    SecureAnswer,
    SecureRequest,
    SubmitResult,
    TaskAssignment,
    UploadProgress,
    UploadRequest,
)
from privacy import ddg
from secagg import Abort as SecAggAbort
from secagg import AbortReason as SecAggReason
from secagg import wire
from secagg.authority import Certificate
from secagg.messages import AdvertiseKeys, ForwardedShares, MaskedInput, Roster, ShareKeys

WORDS = 3 * MAX_CHUNK_BYTES // 8
ABORTED = Aborted(AbortReason.ROUND_ABANDONED, RetryWindow(0.0, 1.0))


class Scripted:
    """A client that says what the phases need, without the cryptography."""

    def __init__(self) -> None:
        self.left = False

    def advertise_keys(self) -> AdvertiseKeys:
        return AdvertiseKeys(certificate=Certificate(bytes(32), 1, bytes(64)), cipher_key=b"", mask_key=b"", signature=b"")

    def set_input(self, _vectors: object) -> None:
        pass

    def handle(self, message: object) -> object:
        if isinstance(message, Roster):
            return ShareKeys(context=b"", seed_commitment=b"", shares=())
        return MaskedInput(context=b"", words=np.zeros(WORDS, np.uint64))

    def leave(self) -> None:
        self.left = True


def session_of(client: Scripted) -> SecureSession:
    spec = EligibilitySpec(SessionId("s"), "t", "r", 0, 0, 1, 0.0, 1)  # type: ignore[arg-type]
    assignment = TaskAssignment(SessionId("s"), "a", b"", b"", Resource("model", 4, Digest("")), secure=True)  # type: ignore[arg-type]
    encoder = DistributedEncoder(
        ddg.plan(dimension=8, clip_norm=1.0, noise_multiplier=1.0, devices=10, bits=16, minimum_survivors=8), bytes(32)
    )
    checked: Any = SimpleNamespace(plan=None, encoder=encoder)
    return SecureSession(spec=spec, assignment=assignment, checked=checked, parameters=b"", client=client, shape="")  # type: ignore[arg-type]


def played(session: SecureSession, uploads: Iterator[object]) -> list[object]:
    """All actions of a session whose upload meets `uploads`, one event for each request or chunk stream of it."""
    return _told(session, uploads)[0]


def ending(session: SecureSession, uploads: Iterator[object]) -> Outcome:
    """How such a session ends."""
    return _told(session, uploads)[1]


def _told(session: SecureSession, uploads: Iterator[object]) -> tuple[list[object], Outcome]:
    messages = iter(
        [
            Roster(identities=b"", key_digests=b"", neighbours=()),
            ForwardedShares(context=b"", sharers=b"", shares=()),
        ]
    )
    talk, actions = session.talk(), list[object]()
    action: object = next(talk)
    try:
        while True:
            actions.append(action)
            match action:
                case Send(SecureRequest()):
                    event: Any = SecureAnswer(wire.write_server_message(next(messages)))
                case Train():
                    event = Trained(np.zeros(8, "<i4").tobytes())
                case Send(UploadRequest() | SubmitResult()) | SendChunks():
                    event = next(uploads)
                case _:
                    event = Written()
            action = talk.send(event)
    except StopIteration as ended:
        return actions, ended.value


@pytest.mark.parametrize(
    "uploads",
    [
        [UploadProgress(0), ABORTED],
        [UploadProgress(0), UploadProgress(3 * MAX_CHUNK_BYTES), ABORTED],
        [UploadProgress(0), ConnectionLost(), ABORTED],
    ],
)
def test_abort_after_the_first_chunks_gives_nothing_back(uploads: list[object]) -> None:
    client = Scripted()
    actions = played(session_of(client), iter(uploads))
    kinds = [type(action) for action in actions]
    assert SendChunks in kinds
    assert kinds.index(Charge) < kinds.index(Seal) < kinds.index(SendChunks)
    assert Refund not in kinds
    assert client.left


def test_abort_before_any_byte_has_left_is_given_back() -> None:
    kinds = [type(action) for action in played(session_of(Scripted()), iter([ABORTED]))]
    assert Refund in kinds
    assert Seal not in kinds


def test_an_upload_that_lost_its_place_after_its_last_chunk_begins_again() -> None:
    """The server gave its buffer to another: that is no refusal of what was sent."""
    stalled = Aborted(AbortReason.WRONG_OFFSET, RetryWindow(0.0, 1.0))
    ended = Aborted(AbortReason.DEADLINE_PASSED, RetryWindow(0.0, 1.0))
    size = UploadProgress(3 * MAX_CHUNK_BYTES)
    session = session_of(Scripted())
    actions = played(session, iter([UploadProgress(0), size, stalled, UploadProgress(0), size, ended]))
    assert [type(action) for action in actions].count(SendChunks) == 2
    assert [type(action) for action in actions].count(Seal) == 1
    assert session.shape == "]+"


@pytest.mark.parametrize(
    ("reply", "shape", "reason"),
    [
        (Aborted(AbortReason.DEADLINE_PASSED, RetryWindow(0.0, 1.0)), "]+#", "server: deadline-passed"),
        (Aborted(AbortReason.WRONG_HASH, RetryWindow(0.0, 1.0)), "]+*", "server: wrong-hash"),
        (Accepted(), "]+*", "device: unexpected-reply"),
    ],
)
def test_a_session_that_ends_early_tells_why(reply: object, shape: str, reason: str) -> None:
    outcome = ending(session_of(Scripted()), iter([reply]))
    assert (outcome.shape, outcome.reason) == (shape, reason)


def test_a_device_that_leaves_the_aggregation_tells_why() -> None:
    class Careful(Scripted):
        def handle(self, message: object) -> object:
            return SecAggAbort(SecAggReason.UNSOUND_ROSTER) if isinstance(message, Roster) else super().handle(message)

    outcome = ending(session_of(Careful()), iter([]))
    assert (outcome.shape, outcome.reason) == ("*", "device: unsound-roster")
