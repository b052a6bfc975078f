"""The session table: what devices may do, and that a slow, silent, crashing or lying one loses only its own contribution."""

import hashlib
import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from contract import plan, task
from contract.ids import Digest, RunId, SessionId
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
    Reply,
    ResourceChunk,
    ResourceRequest,
    ResultStatus,
    SubmitResult,
    TaskAssignment,
    TaskResult,
    UploadChunk,
    UploadProgress,
    UploadRequest,
    Wait,
)
from privacy.grid import Grid
from server import registration, tasks
from server.keys import KeyDirectory
from server.orchestrator import Orchestrator
from server.pace import PaceSteering
from server.registration import RunSettings
from server.sessions import SessionTable
from server.store.store import Store
from server.store.values import Run
from server.uploads import MOST_IN_FLIGHT, STALL_S

GOAL = 3
SPEC = task.parse_mapping(
    {
        "name": "sessions",
        "population": "phones",
        "model": {"name": "mlp"},
        "cohort": {"report_goal": GOAL, "over_selection": 2.0, "minimum_reports": 2},
        "privacy": {"mechanism": "tree", "clip_norm": 0.5, "noise_multiplier": 1.0, "delta": 1e-5},
        "rounds": 2,
    }
)
COHORT = 2 * GOAL


class Bench:
    """One run in a store of its own, and devices that do as the test says."""

    def __init__(self, folder: Path, spec: task.TaskSpec = SPEC) -> None:
        prepared = tasks.prepare(spec)
        self.store = Store.open(str(folder))
        keys = KeyDirectory(folder / "keys")
        self.run: Run = registration.register(
            store=self.store,
            keys=keys,
            prepared=prepared,
            settings=RunSettings(seed=1, noise_seed=2),
            not_covered=[],
            start=prepared.model.init(0),
        )
        counter = itertools.count()
        self.orchestrator = Orchestrator(
            store=self.store,
            run=self.run,
            mechanism=prepared.mechanism,
            optimizer=prepared.optimizer,
            key=keys.read(self.run.id),
            pace=PaceSteering(devices=100, cohort=COHORT, round_s=60.0),
        )
        self.grid: Grid = prepared.mechanism.plan.grid
        self.dimension = prepared.model.num_parameters
        self.table = SessionTable(
            rounds=self.orchestrator,
            run=RunId(self.run.id),
            spec=spec,
            dimension=self.dimension,
            accepts=self.grid.accepts,
            entropy=lambda n: hashlib.shake_128(str(next(counter)).encode()).digest(n),
        )
        self.now_s = 0.0

    def ask(self, request: Any) -> Reply:
        return self.table.handle(request, self.now_s)

    def check_in(self) -> SessionId:
        spec = self.ask(EligibilityRequest("phones", "1"))
        assert isinstance(spec, EligibilitySpec), spec
        return spec.session_id

    def cohort(self) -> list[TaskAssignment]:
        """A full cohort, all with their assignments."""
        names = [self.check_in() for _ in range(COHORT)]
        for name in names:
            self.ask(AssignmentRequest(name, eligible=True))
        found = [self.ask(AssignmentRequest(name, eligible=True)) for name in names]
        assert all(isinstance(one, TaskAssignment) for one in found)
        return [one for one in found if isinstance(one, TaskAssignment)]

    def update(self, seed: int) -> bytes:
        delta = np.cos(np.arange(self.dimension) * (seed + 1)).astype(np.float32)
        return self.grid.encode(delta, lambda n: hashlib.shake_128(str(seed).encode()).digest(n)).astype("<i4").tobytes()

    def open(self, device: TaskAssignment, data: bytes) -> Reply:
        return self.ask(UploadRequest(device.session_id, device.authorization_token, len(data), digest(data)))

    def send(self, device: TaskAssignment, data: bytes) -> Reply:
        for offset in range(0, len(data), MAX_CHUNK_BYTES):
            reply = self.ask(UploadChunk(device.session_id, offset, data[offset : offset + MAX_CHUNK_BYTES]))
            if isinstance(reply, Aborted):
                return reply
        return self.ask(SubmitResult(device.session_id))

    def upload(self, device: TaskAssignment, data: bytes) -> Reply:
        opened = self.open(device, data)
        return self.send(device, data) if isinstance(opened, UploadProgress) else opened


def digest(data: bytes) -> Digest:
    return Digest(hashlib.sha256(data).hexdigest())


def reason(reply: Reply) -> AbortReason | RejectReason:
    assert isinstance(reply, Aborted | Rejected), reply
    return reply.reason


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path)
    yield made
    made.store.close()


def test_a_round_completes_at_its_goal_and_the_next_one_opens(bench: Bench) -> None:
    for round_index in range(2):
        devices = bench.cohort()
        assert [bench.upload(device, bench.update(i)) for i, device in enumerate(devices[:GOAL])] == [Accepted()] * GOAL
        facts = bench.table.tick(bench.now_s)
        assert facts is not None
        assert (facts["state"], facts["round"], facts["reported"]) == ("committed", round_index, GOAL)
        assert reason(bench.open(devices[-1], bench.update(9))) is AbortReason.GOAL_REACHED
    assert bench.table.over
    assert reason(bench.ask(EligibilityRequest("phones", "1"))) is RejectReason.NO_TASK


def test_what_is_summed_is_what_was_sent(bench: Bench) -> None:
    totals = []
    original = bench.orchestrator.contribute
    bench.orchestrator.contribute = lambda one: (totals.append(one.total.copy()), original(one))[1]  # type: ignore[method-assign]
    devices = bench.cohort()
    updates = [bench.update(i) for i in range(GOAL)]
    for device, data in zip(devices, updates, strict=False):
        bench.upload(device, data)
    expected = sum(np.frombuffer(data, "<i4").astype(np.int64) for data in updates)
    assert np.array_equal(sum(totals), expected)


def test_held_devices_wait_until_the_cohort_is_full(bench: Bench) -> None:
    names = [bench.check_in() for _ in range(COHORT)]
    replies = [bench.ask(AssignmentRequest(name, eligible=True)) for name in names]
    assert all(isinstance(reply, Wait) for reply in replies[:-1])
    assert isinstance(replies[-1], TaskAssignment)
    assert isinstance(bench.ask(AssignmentRequest(names[0], eligible=True)), TaskAssignment)
    assert reason(bench.ask(EligibilityRequest("phones", "1"))) is RejectReason.NOT_SELECTING


def test_the_plan_and_the_model_are_the_round_s(bench: Bench) -> None:
    device = bench.cohort()[0]
    decoded = plan.decode(device.plan)
    assert (decoded.run, decoded.round_index, decoded.leaf) == (bench.run.id, 0, 0)
    assert all(output.aggregated for output in decoded.outputs)
    chunk = bench.ask(ResourceRequest(device.session_id, device.model.name, 0))
    assert isinstance(chunk, ResourceChunk)
    assert digest(chunk.data) == device.model.sha256 == decoded.model_digest


def test_an_ineligible_device_leaves_nothing_behind(bench: Bench) -> None:
    name = bench.check_in()
    assert reason(bench.ask(AssignmentRequest(name, eligible=False))) is RejectReason.NOT_ELIGIBLE
    assert bench.table._sessions == {}


def test_check_ins_cost_no_memory(bench: Bench) -> None:
    for _ in range(1000):
        bench.check_in()
    assert bench.table._sessions == {}


def test_a_selection_that_nobody_joins_is_abandoned_and_revealed_to_nobody(bench: Bench) -> None:
    bench.ask(AssignmentRequest(bench.check_in(), eligible=True))
    due_s = bench.table.due_s()
    assert due_s == SPEC.deadlines.selection_s
    assert bench.table.tick(due_s - 1) is None
    facts = bench.table.tick(due_s)
    assert facts is not None
    assert (facts["state"], facts["reason"]) == ("abandoned", "too-few-check-ins")
    assert [row.state for row in bench.store.rounds(bench.run.id)] == ["abandoned"]
    assert len(list(bench.store.entries(run=bench.run.id))) == 2
    assert bench.table.due_s() is None


def test_the_deadline_completes_a_round_with_enough_reports(bench: Bench) -> None:
    devices = bench.cohort()
    for i in range(2):
        bench.upload(devices[i], bench.update(i))
    due_s = bench.table.due_s()
    assert due_s is not None
    bench.now_s = due_s
    facts = bench.table.tick(due_s)
    assert facts is not None
    assert (facts["state"], facts["reported"]) == ("committed", 2)
    assert reason(bench.open(devices[3], bench.update(3))) is AbortReason.DEADLINE_PASSED


def test_a_round_does_not_wait_for_devices_that_said_they_left(bench: Bench) -> None:
    devices = bench.cohort()
    for i in range(2):
        bench.upload(devices[i], bench.update(i))
    for device in devices[2:]:
        assert bench.ask(TaskResult(device.session_id, ResultStatus.LOCAL_FAILED)) == Acknowledged()
    assert bench.table.due_s() == -np.inf
    facts = bench.table.tick(0.0)
    assert facts is not None
    assert (facts["reported"], facts["lost"]) == (2, 4)


def test_an_upload_resumes_where_it_broke_off(bench: Bench) -> None:
    device, data = bench.cohort()[0], bench.update(0)
    assert bench.open(device, data) == UploadProgress(0)
    assert bench.ask(UploadChunk(device.session_id, 0, data[:1000])) == UploadProgress(1000)
    assert bench.open(device, data) == UploadProgress(1000)
    assert bench.ask(UploadChunk(device.session_id, 500, data[500:2000])) == UploadProgress(2000)
    assert bench.ask(UploadChunk(device.session_id, 2000, data[2000:])) == UploadProgress(len(data))
    assert bench.ask(SubmitResult(device.session_id)) == Accepted()


def test_a_repeated_submission_counts_once(bench: Bench) -> None:
    devices = bench.cohort()
    bench.upload(devices[0], bench.update(0))
    assert bench.ask(SubmitResult(devices[0].session_id)) == Accepted()
    assert reason(bench.open(devices[0], bench.update(0))) is AbortReason.ALREADY_SUBMITTED
    for i in (1, 2):
        bench.upload(devices[i], bench.update(i))
    facts = bench.table.tick(0.0)
    assert facts is not None
    assert facts["reported"] == GOAL


def lie_about_the_hash(bench: Bench, device: TaskAssignment) -> Reply:
    bench.open(device, bench.update(0))
    return bench.send(device, bench.update(1))


def leave_a_gap(bench: Bench, device: TaskAssignment) -> Reply:
    bench.open(device, bench.update(0))
    return bench.ask(UploadChunk(device.session_id, 4, b"abcd"))


def send_too_large_a_chunk(bench: Bench, device: TaskAssignment) -> Reply:
    bench.open(device, bench.update(0))
    return bench.ask(UploadChunk(device.session_id, 0, bytes(MAX_CHUNK_BYTES + 1)))


def send_nothing(bench: Bench, device: TaskAssignment) -> Reply:
    bench.open(device, bench.update(0))
    return bench.ask(UploadChunk(device.session_id, 0, b""))


def submit_half(bench: Bench, device: TaskAssignment) -> Reply:
    bench.open(device, bench.update(0))
    bench.ask(UploadChunk(device.session_id, 0, bench.update(0)[:100]))
    return bench.ask(SubmitResult(device.session_id))


def change_the_bytes(bench: Bench, device: TaskAssignment) -> Reply:
    bench.open(device, bench.update(0))
    return bench.open(device, bench.update(1))


def invent_a_session(bench: Bench, device: TaskAssignment) -> Reply:
    return bench.ask(SubmitResult(SessionId(device.session_id[:-1] + ("0" if device.session_id[-1] != "0" else "1"))))


def use_a_check_in_as_a_place(bench: Bench, device: TaskAssignment) -> Reply:
    name = bench.table._key.make(0, lambda n: b"\x01" * n)
    return bench.ask(ResourceRequest(name, "model", 0))


@pytest.mark.parametrize(
    ("lie", "expected"),
    [
        (lambda bench, device: bench.open(device, bench.update(0)[:-4]), AbortReason.WRONG_LENGTH),
        (lie_about_the_hash, AbortReason.WRONG_HASH),
        (
            lambda bench, device: bench.upload(device, np.full(bench.dimension, 1 << 20, "<i4").tobytes()),
            AbortReason.NORM_EXCEEDED,
        ),
        (
            lambda bench, device: bench.upload(device, np.full(bench.dimension, -(1 << 31), "<i4").tobytes()),
            AbortReason.NORM_EXCEEDED,
        ),
        (
            lambda bench, device: bench.ask(UploadRequest(device.session_id, bytes(16), 4 * bench.dimension, digest(b""))),
            AbortReason.UNAUTHORIZED,
        ),
        (leave_a_gap, AbortReason.WRONG_OFFSET),
        (send_too_large_a_chunk, AbortReason.WRONG_LENGTH),
        (send_nothing, AbortReason.WRONG_LENGTH),
        (lambda bench, device: bench.ask(UploadChunk(device.session_id, 0, b"abcd")), AbortReason.FOREIGN_MESSAGE),
        (lambda bench, device: bench.ask(SubmitResult(device.session_id)), AbortReason.FOREIGN_MESSAGE),
        (submit_half, AbortReason.WRONG_OFFSET),
        (change_the_bytes, AbortReason.WRONG_HASH),
        (invent_a_session, AbortReason.UNKNOWN_SESSION),
        (lambda bench, device: bench.ask(SubmitResult(SessionId("\x00 ä.b"))), AbortReason.UNKNOWN_SESSION),
        (lambda bench, device: bench.ask(ResourceRequest(device.session_id, "model", 1 << 40)), AbortReason.WRONG_OFFSET),
        (lambda bench, device: bench.ask(ResourceRequest(device.session_id, "../keys", 0)), AbortReason.FOREIGN_MESSAGE),
        (use_a_check_in_as_a_place, AbortReason.UNKNOWN_SESSION),
    ],
)
def test_a_lie_is_named_and_costs_only_the_liar(
    bench: Bench, lie: Callable[[Bench, TaskAssignment], Reply], expected: AbortReason
) -> None:
    liar, *honest = bench.cohort()
    assert reason(lie(bench, liar)) is expected
    assert [bench.upload(device, bench.update(i)) for i, device in enumerate(honest[:GOAL])] == [Accepted()] * GOAL
    facts = bench.table.tick(0.0)
    assert facts is not None
    assert (facts["state"], facts["reported"]) == ("committed", GOAL)
    assert facts["refused"] == {expected.value: 1}


def test_at_most_eight_uploads_are_in_memory(tmp_path: Path) -> None:
    bench = Bench(tmp_path, task.replace(SPEC, cohort={"report_goal": 10, "over_selection": 1.0, "minimum_reports": 10}))
    names = [bench.check_in() for _ in range(10)]
    for name in names:
        bench.ask(AssignmentRequest(name, eligible=True))
    devices = [bench.ask(AssignmentRequest(name, eligible=True)) for name in names]
    data = [bench.update(i) for i in range(10)]
    opened = [bench.open(device, data[i]) for i, device in enumerate(devices) if isinstance(device, TaskAssignment)]
    assert [type(reply) for reply in opened] == [UploadProgress] * MOST_IN_FLIGHT + [Wait] * 2
    bench.now_s = STALL_S + 1
    late = devices[9]
    assert isinstance(late, TaskAssignment)
    assert bench.upload(late, data[9]) == Accepted()
    stalled = devices[0]
    assert isinstance(stalled, TaskAssignment)
    assert reason(bench.ask(UploadChunk(stalled.session_id, 0, data[0]))) is AbortReason.WRONG_OFFSET
    assert reason(bench.ask(SubmitResult(stalled.session_id))) is AbortReason.WRONG_OFFSET
    assert bench.upload(stalled, data[0]) == Accepted()
    bench.store.close()


def test_a_server_that_shuts_down_sends_devices_away(bench: Bench) -> None:
    name = bench.check_in()
    bench.table.close()
    assert reason(bench.ask(EligibilityRequest("phones", "1"))) is RejectReason.SHUTTING_DOWN
    assert reason(bench.ask(AssignmentRequest(name, eligible=True))) is RejectReason.SHUTTING_DOWN


def test_another_population_finds_no_task(bench: Bench) -> None:
    assert reason(bench.ask(EligibilityRequest("tablets", "1"))) is RejectReason.NO_TASK


def test_turned_away_devices_of_a_small_population_come_back_together(bench: Bench) -> None:
    bench.cohort()
    bench.now_s = 4.0
    replies = [bench.ask(EligibilityRequest("phones", "1")) for _ in range(3)]
    windows = {reply.retry for reply in replies if isinstance(reply, Rejected)}
    assert len(windows) == 1
    window = windows.pop()
    assert window.minimum_s == pytest.approx(6.0)
    assert window.maximum_s == pytest.approx(7.0)
