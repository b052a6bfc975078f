import hashlib
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from client_sim.egress import DevicePolicy, Refusal, may_leave
from client_sim.patience import LONGEST_WAIT_S
from client_sim.session import LEGAL, MOST_RECONNECTS, IllegalEvent, begin, step
from client_sim.session_states import (
    Action,
    Charge,
    CheckingIn,
    ConnectionLost,
    Ended,
    Event,
    Facts,
    Fetch,
    Interrupted,
    Outcome,
    ReadRecord,
    RecordRead,
    Refund,
    Seal,
    SecureEnded,
    Securing,
    Send,
    SendChunks,
    State,
    Train,
    Trained,
    TrainingFailed,
    Written,
)
from contract import plan
from contract.ids import AggregationId, Digest, RunId, SessionId
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
    Resource,
    ResourceChunk,
    ResultStatus,
    RetryWindow,
    SubmitResult,
    TaskAssignment,
    TaskResult,
    UploadProgress,
    UploadRequest,
    Wait,
)
from privacy import grid

RETRY = RetryWindow(1.0, 2.0)
SESSION = SessionId("s1")
POLICY = DevicePolicy()
SPEC = EligibilitySpec(
    session_id=SESSION, task_name="t", run=RunId("r"), current_index=4, minimum_separation=2, max_participations=None,
    trustworthiness_s=0.0, minimum_examples=1,
)  # fmt: skip


def assignment_of(dimension: int, **changes: Any) -> TaskAssignment:
    model = np.arange(dimension, dtype="<f4").tobytes()
    digest = Digest(hashlib.sha256(model).hexdigest())
    body: dict[str, Any] = {
        "task": {}, "run": "r", "round_index": 9, "leaf": 4, "model_digest": digest,
        "encoding": grid.plan(dimension=dimension, clip_norm=1.0).to_json(),
        "outputs": (plan.Output(name="delta", length=dimension, aggregated=True),),
    } | changes  # fmt: skip
    return TaskAssignment(
        session_id=SESSION,
        aggregation_id=AggregationId("a"),
        authorization_token=b"token",
        plan=plan.encode(plan.Plan(**body)),
        model=Resource("model", len(model), digest),
    )


SMALL = assignment_of(3)
MODEL = np.arange(3, dtype="<f4").tobytes()
BIG = bytes(2 * MAX_CHUNK_BYTES + 100)


def play(events: Sequence[Event], state: State | None = None) -> tuple[State, list[Action]]:
    actions: list[Action] = []
    if state is None:
        state, first = begin("p", client_version="1", policy=POLICY)
        actions += first
    for event in events:
        state, more = step(state, event)
        actions += more
    return state, actions


def events_to_upload(data: bytes = b"abcd") -> list[Event]:
    return [SPEC, RecordRead(eligible=True), SMALL, ResourceChunk(0, MODEL), Trained(data), Written()]


def ended(state: State) -> Ended:
    assert isinstance(state, Ended)
    return state


class TestOrder:
    def test_a_whole_session_has_the_usual_shape(self) -> None:
        state, actions = play(
            [*events_to_upload(), UploadProgress(0), Written(), UploadProgress(4), Accepted(), Acknowledged()]
        )
        assert ended(state).outcome.shape == "-v[]+^"
        assert ended(state).outcome.status is ResultStatus.UPLOAD_COMPLETED
        kinds = [type(action.request) if isinstance(action, Send) else type(action) for action in actions]
        assert kinds == [
            EligibilityRequest, ReadRecord, AssignmentRequest, Fetch, Train, Charge, UploadRequest, Seal, SendChunks, SubmitResult,
            TaskResult,
        ]  # fmt: skip

    def test_a_long_upload_seals_before_its_last_chunk_only(self) -> None:
        state, actions = play([*events_to_upload(BIG), UploadProgress(0)])
        first = actions[-1]
        assert isinstance(first, SendChunks)
        assert [chunk.offset for chunk in first.chunks] == [0, MAX_CHUNK_BYTES]
        state, actions = play([UploadProgress(2 * MAX_CHUNK_BYTES), Written()], state)
        assert isinstance(actions[0], Seal)
        last = actions[1]
        assert isinstance(last, SendChunks)
        assert [(chunk.offset, len(chunk.data)) for chunk in last.chunks] == [(2 * MAX_CHUNK_BYTES, 100)]

    def test_an_upload_resumes_where_the_server_stands(self) -> None:
        state, _ = play([*events_to_upload(BIG), UploadProgress(0), ConnectionLost()])
        state, actions = play([UploadProgress(MAX_CHUNK_BYTES)], state)
        resumed = actions[-1]
        assert isinstance(resumed, SendChunks)
        assert [chunk.offset for chunk in resumed.chunks] == [MAX_CHUNK_BYTES]

    def test_an_upload_that_lost_its_place_begins_again(self) -> None:
        lost = Aborted(AbortReason.WRONG_OFFSET, RETRY)
        whole: list[Event] = [UploadProgress(0), Written(), UploadProgress(4)]
        state, actions = play([*events_to_upload(), *whole, lost])
        assert isinstance(actions[-1], Send)
        assert isinstance(actions[-1].request, UploadRequest)
        state, actions = play([*whole, Accepted(), Acknowledged()], state)
        assert ended(state).outcome.shape == "-v[]+^"
        assert not any(isinstance(action, Refund) for action in actions)

    def test_a_download_resumes_where_it_broke_off(self) -> None:
        state, _ = play([SPEC, RecordRead(eligible=True), SMALL, ResourceChunk(0, MODEL[:5]), ConnectionLost()])
        _, actions = play([ResourceChunk(5, MODEL[5:])], state)
        assert isinstance(actions[-1], Train)
        assert actions[-1].parameters == MODEL

    def test_a_held_place_is_asked_for_again(self) -> None:
        _, actions = play([SPEC, RecordRead(eligible=True), Wait(3.0), Wait(float("nan"))])
        assert actions[-2:] == [
            Send(AssignmentRequest(SESSION, True), 3.0),
            Send(AssignmentRequest(SESSION, True), LONGEST_WAIT_S),
        ]

    def test_an_ineligible_device_asks_for_nothing(self) -> None:
        state, actions = play([SPEC, RecordRead(eligible=False), Rejected(RejectReason.NOT_ELIGIBLE, RETRY)])
        assert ended(state).outcome.shape == "-"
        assert ended(state).outcome.retry == RETRY
        assert Send(AssignmentRequest(SESSION, False)) in actions

    def test_the_devices_own_floors_hold(self) -> None:
        state, _ = begin("p", client_version="1", policy=DevicePolicy(minimum_separation=9, trustworthiness_s=5.0))
        _, (action,) = step(state, SPEC)
        assert action == ReadRecord(SPEC, 9, 5.0, SPEC.max_participations)

    @pytest.mark.parametrize(
        ("server", "own", "cap"), [(None, None, None), (None, 3, 3), (5, None, 5), (5, 3, 3), (2, 3, 2), (10**9, 1, 1)]
    )
    def test_the_smaller_cap_holds_whatever_the_server_says(self, server: int | None, own: int | None, cap: int | None) -> None:
        state, _ = begin("p", client_version="1", policy=DevicePolicy(most_participations=own))
        _, (action,) = step(state, replace(SPEC, max_participations=server))
        assert isinstance(action, ReadRecord)
        assert action.max_participations == cap


class TestCharge:
    def test_nothing_is_announced_before_the_participation_is_on_disk(self) -> None:
        _, actions = play(events_to_upload()[:-1])
        assert isinstance(actions[-1], Charge)
        assert not any(isinstance(action, Send) and isinstance(action.request, UploadRequest) for action in actions)

    @pytest.mark.parametrize("reason", [reason for reason in AbortReason if reason is not AbortReason.WRONG_OFFSET])
    def test_an_abort_before_the_last_chunk_refunds(self, reason: AbortReason) -> None:
        for prefix in ([], [UploadProgress(0)]):
            state, actions = play([*events_to_upload(BIG), *prefix, Aborted(reason, RETRY)])
            assert actions[-1] == Refund("r", 4)
            state, _ = play([Written(), Acknowledged()], state)
            assert ended(state).outcome.aborted is reason

    def test_an_abort_after_the_last_chunk_does_not(self) -> None:
        state, actions = play([*events_to_upload(), UploadProgress(0), Written(), Aborted(AbortReason.GOAL_REACHED, RETRY)])
        assert not any(isinstance(action, Refund) for action in actions)
        assert ended(play([Acknowledged()], state)[0]).outcome.shape == "-v[]+#"

    def test_a_server_that_feigns_to_have_nothing_gets_no_refund(self) -> None:
        """It has the last chunk, breaks the connection, says that it holds nothing, and aborts."""
        sent: list[Event] = [UploadProgress(0), UploadProgress(2 * MAX_CHUNK_BYTES), Written(), ConnectionLost()]
        for feint in ([], [UploadProgress(0)], [UploadProgress(MAX_CHUNK_BYTES)]):
            _, actions = play([*events_to_upload(BIG), *sent, *feint, Aborted(AbortReason.ROUND_ABANDONED, RETRY)])
            assert not any(isinstance(action, Refund) for action in actions)

    def test_an_interrupted_upload_stays_charged(self) -> None:
        state, actions = play([*events_to_upload(), Interrupted()])
        assert not any(isinstance(action, Refund) for action in actions)
        assert ended(play([Acknowledged()], state)[0]).outcome.shape == "-v[]+!"

    @given(st.lists(st.integers(0, 11), max_size=40))
    @settings(max_examples=300, deadline=None)
    def test_whatever_happens_nothing_leaves_uncharged_and_nothing_is_refunded_after_the_seal(self, choices: list[int]) -> None:
        events: list[Event] = [
            SPEC, RecordRead(eligible=True), SMALL, ResourceChunk(0, MODEL), Trained(BIG), Written(), UploadProgress(0),
            UploadProgress(2 * MAX_CHUNK_BYTES), UploadProgress(len(BIG)), Aborted(AbortReason.DEADLINE_PASSED, RETRY), ConnectionLost(),
            Interrupted(),
        ]  # fmt: skip
        state, _ = begin("p", client_version="1", policy=POLICY)
        charged = sealed = False
        pending: Action | None = None
        for choice in choices:
            event = events[choice]
            if isinstance(event, Written):
                charged, sealed = charged or isinstance(pending, Charge), sealed or isinstance(pending, Seal)
            try:
                state, actions = step(state, event)
            except IllegalEvent:
                continue
            for action in actions:
                pending = action
                if isinstance(action, SendChunks):
                    assert charged
                    assert sealed or action.chunks[-1].offset + len(action.chunks[-1].data) < len(BIG)
                assert not (isinstance(action, Refund) and sealed)
                assert not isinstance(action, Send) or may_leave(action.request)


def test_a_session_ends_at_a_plan_that_is_refused() -> None:
    refused = assignment_of(3, outputs=(plan.Output(name="delta", length=3, aggregated=False),))
    state, actions = play([SPEC, RecordRead(eligible=True), refused])
    assert actions[-1] == Send(TaskResult(SESSION, ResultStatus.LOCAL_FAILED))
    assert not any(isinstance(action, Train | Fetch) for action in actions)
    assert ended(play([Acknowledged()], state)[0]).outcome.refusal is Refusal.NOT_AGGREGATED


class TestPeers:
    def test_a_model_with_another_hash_is_not_trained_on(self) -> None:
        state, actions = play([SPEC, RecordRead(eligible=True), SMALL, ResourceChunk(0, b"x" * 12)])
        assert not any(isinstance(action, Train) for action in actions)
        outcome = ended(play([Acknowledged()], state)[0]).outcome
        assert (outcome.shape, outcome.reason) == ("-*", "device: model-differs")

    @pytest.mark.parametrize("chunk", [ResourceChunk(1, b"x"), ResourceChunk(0, b""), ResourceChunk(0, b"x" * 13)])
    def test_a_chunk_out_of_place_ends_the_session(self, chunk: ResourceChunk) -> None:
        state, _ = play([SPEC, RecordRead(eligible=True), SMALL, chunk, Acknowledged()])
        assert ended(state).outcome.status is ResultStatus.REMOTE_FAILED

    @pytest.mark.parametrize("offset", [-1, 5, 4])
    def test_progress_that_cannot_be_ends_the_session(self, offset: int) -> None:
        state, actions = play([*events_to_upload(), UploadProgress(offset), Acknowledged()])
        assert (ended(state).outcome.shape, ended(state).outcome.reason) == ("-v[]+*", "device: unexpected-reply")
        assert not any(isinstance(action, SendChunks) for action in actions)

    def test_a_lost_answer_to_the_submission_counts_as_accepted(self) -> None:
        lost: list[Event] = [UploadProgress(0), Written(), UploadProgress(4), ConnectionLost()]
        state, _ = play([*events_to_upload(), *lost, Aborted(AbortReason.ALREADY_SUBMITTED, RETRY), Acknowledged()])
        assert ended(state).outcome.shape == "-v[]+^"

    def test_reconnecting_has_an_end(self) -> None:
        state, actions = play([SPEC, RecordRead(eligible=True)] + [ConnectionLost()] * (MOST_RECONNECTS + 1))
        pauses = [action.after_s for action in actions if isinstance(action, Send) and action.after_s]
        assert pauses == [0.5, 1.0, 2.0, 4.0, 8.0]
        assert ended(play([Acknowledged()], state)[0]).outcome.shape == "-!"


def every_state() -> dict[str, State]:
    found: dict[str, State] = {}
    paths: list[list[Event]] = [
        [SPEC, RecordRead(eligible=False)],
        [
            *events_to_upload(BIG),
            UploadProgress(0),
            UploadProgress(2 * MAX_CHUNK_BYTES),
            Written(),
            UploadProgress(len(BIG)),
            Accepted(),
        ],
        [*events_to_upload(BIG), Aborted(AbortReason.GOAL_REACHED, RETRY)],
        [Rejected(RejectReason.NO_TASK, RETRY)],
    ]
    for path in paths:
        for length in range(len(path) + 1):
            state, _ = play(path[:length])
            found.setdefault(type(state).__name__, state)
    found["Securing"] = Securing(Facts(policy=POLICY, shape="-v["), SPEC)
    return found


EVENTS: list[Event] = [
    SPEC, Rejected(RejectReason.NO_TASK, RETRY), Wait(1.0), SMALL, ResourceChunk(0, MODEL), UploadProgress(0), Accepted(),
    Aborted(AbortReason.GOAL_REACHED, RETRY), Acknowledged(), RecordRead(eligible=True), Trained(b"ab"), TrainingFailed(), Written(),
    Interrupted(), ConnectionLost(), SecureEnded(Outcome(shape="-v[]+^", status=None)),
]  # fmt: skip
LOCAL_STATES = ("Ended", "ReadingRecord", "Securing", "Training", "Charging", "Sealing", "Refunding", "Reporting")
LOCAL = (SecureEnded, RecordRead, Trained, TrainingFailed, Written, ConnectionLost, Interrupted)


def test_the_table_names_every_state() -> None:
    assert {state.__name__ for state in LEGAL} == set(every_state())


@pytest.mark.parametrize("name", sorted(state.__name__ for state in LEGAL))
@pytest.mark.parametrize("event", EVENTS, ids=lambda event: type(event).__name__)
def test_every_event_in_every_state_is_taken_refused_or_the_servers_fault(name: str, event: Event) -> None:
    state = every_state()[name]
    if type(event) in LEGAL[type(state)]:
        step(state, event)
    elif isinstance(event, LOCAL) or name in LOCAL_STATES:
        with pytest.raises(IllegalEvent, match=f"{type(event).__name__} means nothing in {name}"):
            step(state, event)
    else:
        after, _ = step(state, event)
        outcome = getattr(after, "outcome", None)
        assert outcome is not None
        assert outcome.shape.endswith("*")


def test_no_secret_is_in_a_repr() -> None:
    state, _ = play(events_to_upload(b"update of the device"))
    assert "update of" not in repr(state)
    assert "token" not in repr(state).replace("authorization_token", "")
    assert isinstance(CheckingIn(Facts(policy=POLICY, shape="-"), EligibilityRequest("p", "1")), CheckingIn)
