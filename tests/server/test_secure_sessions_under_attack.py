"""The session table of a secure task under devices and networks that misbehave: each costs its own contribution only."""

import asyncio
import hashlib
import itertools
import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from client_sim.secure_work import secure_context
from contract import task
from contract.clock import SystemClock
from contract.entropy import system_entropy
from contract.errors import ErrorCode, TuttiError
from contract.ids import Digest, RunId, SessionId
from contract.messages import (
    Aborted,
    AbortReason,
    AssignmentRequest,
    EligibilityRequest,
    EligibilitySpec,
    Reply,
    ResultStatus,
    SecureAnswer,
    SecureRequest,
    SecureStep,
    SubmitResult,
    TaskAssignment,
    TaskResult,
    UploadChunk,
    UploadProgress,
    UploadRequest,
)
from secagg import LOWEST_FLOORS, Client, DeviceAuthority, Parameters, wire
from server import registration, tasks
from server.keys import KeyDirectory
from server.orchestrator import Orchestrator
from server.pace import PaceSteering
from server.recorder import RoundRecorder
from server.registration import RunSettings
from server.rpc.hosting import HostedRun
from server.secure_sessions import SecureSessionTable
from server.store.store import Store

GOAL, COHORT = 8, 12
SPEC = task.parse_mapping(
    {
        "name": "secure-sessions",
        "population": "phones",
        "model": {"name": "mlp"},
        "cohort": {"report_goal": GOAL, "over_selection": COHORT / GOAL, "minimum_reports": 7, "max_participations": 2},
        "privacy": {"mechanism": "ddg", "clip_norm": 0.5, "noise_multiplier": 1.0, "delta": 1e-5},
        "aggregation": {"secure": True, "bits": 16, "minimum_survivors": 6, "corrupt_fraction": 0.0, "drop_fraction": 0.15},
        "rounds": 2,
    }
)


class Bench:
    """One secure run, and clients that are asked one by one."""

    def __init__(self, folder: Path) -> None:
        prepared = tasks.prepare(SPEC)
        self.store, keys = Store.open(str(folder)), KeyDirectory(folder / "keys")
        run = registration.register(
            store=self.store,
            keys=keys,
            prepared=prepared,
            settings=RunSettings(seed=1, noise_seed=2),
            not_covered=[],
            start=prepared.model.init(0),
        )
        self.orchestrator = Orchestrator(
            store=self.store,
            run=run,
            mechanism=prepared.mechanism,
            optimizer=prepared.optimizer,
            key=keys.read(run.id),
            pace=PaceSteering(devices=100, cohort=COHORT, round_s=60.0),
        )
        counter = itertools.count()
        self.authority = DeviceAuthority(bytes(32))
        self.table = SecureSessionTable(
            rounds=self.orchestrator,
            run=RunId(run.id),
            spec=SPEC,
            authority=self.authority.public,
            entropy=lambda n: hashlib.shake_128(str(next(counter)).encode()).digest(n),
        )
        self.now_s = 0.0

    def ask(self, request: Any) -> Reply:
        return self.table.handle(request, self.now_s)

    def cohort(self) -> dict[SessionId, TaskAssignment]:
        names = list[SessionId]()
        for _ in range(COHORT):
            spec = self.ask(EligibilityRequest("phones", "1"))
            assert isinstance(spec, EligibilitySpec), spec
            names.append(spec.session_id)
        for name in names:
            self.ask(AssignmentRequest(name, eligible=True))
        found = {name: self.ask(AssignmentRequest(name, eligible=True)) for name in names}
        assert all(isinstance(one, TaskAssignment) for one in found.values())
        return found  # type: ignore[return-value]

    def client(self, assignment: TaskAssignment) -> Client:
        context = secure_context(assignment.plan)
        client = Client(
            context=context,
            authority=self.authority.public,
            identity=self.authority.enrol(context.epoch, system_entropy),
            floors=LOWEST_FLOORS,
            entropy=system_entropy,
        )
        client.set_input(ones(context.parameters))
        return client

    def say(self, assignment: TaskAssignment, step: SecureStep, message: Any) -> Reply:
        raw = None if message is None else wire.write_device_message(message)
        return self.ask(SecureRequest(assignment.session_id, assignment.authorization_token, step, raw))

    def upload(self, assignment: TaskAssignment, message: Any) -> Reply:
        data = wire.write_device_message(message)
        opened = self.open(assignment, data)
        if not isinstance(opened, UploadProgress):
            return opened
        self.ask(UploadChunk(assignment.session_id, 0, data, secure=True))
        return self.ask(SubmitResult(assignment.session_id, secure=True))

    def open(self, assignment: TaskAssignment, data: bytes) -> Reply:
        sha256 = Digest(hashlib.sha256(data).hexdigest())
        return self.ask(UploadRequest(assignment.session_id, assignment.authorization_token, len(data), sha256, secure=True))

    def gives_up(self, session: SessionId) -> None:
        self.ask(TaskResult(session, ResultStatus.CANCELED))


def ones(parameters: Parameters) -> dict[str, Any]:
    return {vector.name: np.ones(vector.length, np.int64) for vector in parameters.vectors}


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path)
    yield made
    made.store.close()


def answers(bench: Bench, members: dict[SessionId, TaskAssignment], step: SecureStep) -> dict[SessionId, Any]:
    found = {name: bench.say(assignment, step, None) for name, assignment in members.items()}
    return {name: wire.read_server_message(reply.message) for name, reply in found.items() if isinstance(reply, SecureAnswer)}


def test_devices_left_out_of_the_roster_are_lost_once(bench: Bench) -> None:
    cohort = bench.cohort()
    clients = {name: bench.client(assignment) for name, assignment in cohort.items()}
    for name, assignment in cohort.items():
        bench.say(assignment, SecureStep.ADVERTISE_KEYS, clients[name].advertise_keys())
    rosters = answers(bench, cohort, SecureStep.ADVERTISE_KEYS)
    assert len(rosters) == GOAL
    for name in cohort.keys() - rosters.keys():
        bench.gives_up(name)
    members = {name: cohort[name] for name in rosters}
    for name, assignment in members.items():
        bench.say(assignment, SecureStep.SHARE_KEYS, clients[name].handle(rosters[name]))
    forwarded = answers(bench, members, SecureStep.SHARE_KEYS)
    assert len(forwarded) == GOAL
    replies = [bench.upload(members[name], clients[name].handle(forwarded[name])) for name in members]
    assert not [reply for reply in replies if isinstance(reply, Aborted)]
    survivors = answers(bench, members, SecureStep.MASKED_INPUT)
    assert len(survivors) == GOAL
    for name, assignment in members.items():
        bench.say(assignment, SecureStep.CONSISTENCY_CHECK, clients[name].handle(survivors[name]))
    requests = answers(bench, members, SecureStep.CONSISTENCY_CHECK)
    for name, assignment in members.items():
        bench.say(assignment, SecureStep.UNMASKING, clients[name].handle(requests[name]))
    facts = bench.table.tick(bench.now_s)
    assert facts is not None
    assert (facts["state"], facts["reported"]) == ("committed", GOAL)


def test_only_devices_that_shared_keys_take_up_upload_buffers(bench: Bench) -> None:
    cohort = bench.cohort()
    clients = {name: bench.client(assignment) for name, assignment in cohort.items()}
    for name, assignment in cohort.items():
        bench.say(assignment, SecureStep.ADVERTISE_KEYS, clients[name].advertise_keys())
    rosters = answers(bench, cohort, SecureStep.ADVERTISE_KEYS)
    silent, *members = rosters
    for name in members:
        bench.say(cohort[name], SecureStep.SHARE_KEYS, clients[name].handle(rosters[name]))
    bench.now_s += SPEC.deadlines.reporting_s / 2
    bench.table.tick(bench.now_s)
    forwarded = answers(bench, {name: cohort[name] for name in members}, SecureStep.SHARE_KEYS)
    masked: Any = clients[members[0]].handle(forwarded[members[0]])
    data = wire.write_device_message(masked)
    for name in cohort.keys() - set(members):
        assert isinstance(bench.open(cohort[name], data), Aborted), name == silent
    assert bench.table.uploads == 0
    assert isinstance(bench.open(cohort[members[0]], data), UploadProgress)


def test_rosters_are_written_when_asked_for(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    cohort = bench.cohort()
    written: list[object] = []
    write = wire.write_server_message
    monkeypatch.setattr(wire, "write_server_message", lambda message: (written.append(message), write(message))[1])
    for assignment in cohort.values():
        bench.say(assignment, SecureStep.ADVERTISE_KEYS, bench.client(assignment).advertise_keys())
    assert len(written) == 1  # the device whose keys filled the roster has its answer at once
    rosters = answers(bench, cohort, SecureStep.ADVERTISE_KEYS)
    assert len(rosters) == GOAL
    assert len({len(roster.identities) for roster in rosters.values()}) == 1


@pytest.mark.parametrize("committed", [True, False])
def test_a_fault_of_the_store_in_the_charge_ends_the_run_and_reveals_nothing(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, committed: bool
) -> None:
    """Whether the charge came to be on the record nobody knows then; a run that went on would wait for shares for ever."""
    cohort = bench.cohort()
    clients = {name: bench.client(assignment) for name, assignment in cohort.items()}
    for name, assignment in cohort.items():
        bench.say(assignment, SecureStep.ADVERTISE_KEYS, clients[name].advertise_keys())
    rosters = answers(bench, cohort, SecureStep.ADVERTISE_KEYS)
    members = {name: cohort[name] for name in rosters}
    for name, assignment in members.items():
        bench.say(assignment, SecureStep.SHARE_KEYS, clients[name].handle(rosters[name]))
    for name, message in answers(bench, members, SecureStep.SHARE_KEYS).items():
        bench.upload(members[name], clients[name].handle(message))
    survivors = answers(bench, members, SecureStep.MASKED_INPUT)
    charge = RoundRecorder.charge

    def fails_once(recorder: RoundRecorder, *args: Any, **named: Any) -> Any:
        monkeypatch.setattr(RoundRecorder, "charge", charge)
        if committed:
            charge(recorder, *args, **named)
        raise sqlite3.OperationalError("disk I/O error")

    monkeypatch.setattr(RoundRecorder, "charge", fails_once)

    signed = {name: clients[name].handle(message) for name, message in survivors.items()}
    *others, last = members
    for name in others:
        bench.say(members[name], SecureStep.CONSISTENCY_CHECK, signed[name])

    async def play() -> None:
        run = HostedRun(table=bench.table, population="phones", clock=SystemClock(), on_round=lambda facts: True)
        message = wire.write_device_message(signed[last])
        request = SecureRequest(last, members[last].authorization_token, SecureStep.CONSISTENCY_CHECK, message)
        (reply,) = await asyncio.gather(run.handle(request), return_exceptions=True)
        assert isinstance(reply, TuttiError)
        assert reply.code is ErrorCode.RUN_STATE
        assert "OperationalError" in reply.detail
        assert "disk" not in reply.detail
        assert run.ended.exception() is reply
        await run.close()

    asyncio.run(play())
    assert not [reply for reply in answers(bench, members, SecureStep.CONSISTENCY_CHECK).values() if reply is not None]
    kinds = [json.loads(entry.body)["kind"] for entry in bench.store.ledger.entries(run=bench.table.run)]
    assert kinds.count("round-charged") == int(committed)
    assert "round-outcome" not in kinds


class Late:
    """A round whose first device trains until the others' inputs were all that was waited for."""

    def __init__(self, bench: Bench) -> None:
        self.bench, cohort = bench, bench.cohort()
        self.clients = {name: bench.client(assignment) for name, assignment in cohort.items()}
        for name, assignment in cohort.items():
            bench.say(assignment, SecureStep.ADVERTISE_KEYS, self.clients[name].advertise_keys())
        rosters = answers(bench, cohort, SecureStep.ADVERTISE_KEYS)
        self.name, *others = rosters
        self.late, self.others = cohort[self.name], {name: cohort[name] for name in others}
        for name in rosters:
            bench.say(cohort[name], SecureStep.SHARE_KEYS, self.clients[name].handle(rosters[name]))
        forwarded = answers(bench, {self.name: self.late, **self.others}, SecureStep.SHARE_KEYS)
        masked = {name: self.clients[name].handle(message) for name, message in forwarded.items()}
        self.data = wire.write_device_message(masked[self.name])
        for name, assignment in self.others.items():
            bench.upload(assignment, masked[name])

    def closes(self) -> None:
        """Masked inputs are waited for no longer."""
        self.bench.now_s += SPEC.deadlines.reporting_s
        self.bench.table.tick(self.bench.now_s)

    def agrees(self) -> None:
        """The others sign who survived, so that shares are asked for."""
        for name, message in answers(self.bench, self.others, SecureStep.MASKED_INPUT).items():
            self.bench.say(self.others[name], SecureStep.CONSISTENCY_CHECK, self.clients[name].handle(message))
        self.requests = answers(self.bench, self.others, SecureStep.CONSISTENCY_CHECK)

    def reveals(self) -> None:
        """The others give their shares, and the round ends."""
        for name, request in self.requests.items():
            self.bench.say(self.others[name], SecureStep.UNMASKING, self.clients[name].handle(request))
        facts = self.bench.table.tick(self.bench.now_s)
        assert facts is not None
        assert facts["state"] == "committed"

    def opens(self) -> AbortReason | None:
        """Why the device's upload is not opened."""
        reply = self.bench.open(self.late, self.data)
        return reply.reason if isinstance(reply, Aborted) else None


def test_a_device_that_comes_with_its_input_too_late_is_told_so_in_each_phase_that_follows(bench: Bench) -> None:
    """Each of these was told that its message was foreign, and so were counted among the refused who were merely late."""
    round_ = Late(bench)
    round_.closes()
    assert round_.opens() is AbortReason.DEADLINE_PASSED
    round_.agrees()
    assert round_.opens() is AbortReason.DEADLINE_PASSED
    round_.reveals()
    assert round_.opens() is AbortReason.DEADLINE_PASSED
    bench.ask(EligibilityRequest("phones", "1"))
    assert round_.opens() is AbortReason.DEADLINE_PASSED  # the next round has begun


def test_a_late_device_of_an_abandoned_round_is_told_that_it_was_abandoned(bench: Bench) -> None:
    round_ = Late(bench)
    round_.closes()
    for name in [*round_.others][:5]:
        bench.gives_up(name)
    bench.now_s += SPEC.deadlines.reporting_s
    bench.table.tick(bench.now_s)
    assert round_.opens() is AbortReason.ROUND_ABANDONED


def test_a_signature_that_comes_when_the_round_is_abandoned_is_late_and_not_foreign(bench: Bench) -> None:
    round_ = Late(bench)
    round_.closes()
    survivors = answers(bench, round_.others, SecureStep.MASKED_INPUT)
    slow, *others = round_.others
    for name in others[:5]:
        bench.gives_up(name)
    bench.now_s += SPEC.deadlines.reporting_s
    bench.ask(SecureRequest(slow, round_.others[slow].authorization_token, SecureStep.MASKED_INPUT, None))
    reply = bench.say(round_.others[slow], SecureStep.CONSISTENCY_CHECK, round_.clients[slow].handle(survivors[slow]))
    assert isinstance(reply, Aborted)
    assert reply.reason is AbortReason.ROUND_ABANDONED


def test_an_upload_that_stalled_is_told_where_to_begin_again(bench: Bench) -> None:
    """Its buffer went to others; what it sent was not refused."""
    round_ = Late(bench)
    assert isinstance(bench.open(round_.late, round_.data), UploadProgress)
    bench.ask(UploadChunk(round_.name, 0, round_.data, secure=True))
    bench.table._uploads.drop(round_.name)
    reply = bench.ask(SubmitResult(round_.name, secure=True))
    assert isinstance(reply, Aborted)
    assert reply.reason is AbortReason.WRONG_OFFSET
    assert isinstance(bench.open(round_.late, round_.data), UploadProgress)


def test_a_round_whose_devices_are_all_refused_ends_at_once(bench: Bench) -> None:
    """A fleet of another authority is gone after its first message: nobody waits for it until the roster could have been filled."""
    cohort, trusted = bench.cohort(), bench.authority
    bench.authority = DeviceAuthority(bytes(range(32)))
    facts = None
    for assignment in cohort.values():
        assert facts is None
        reply = bench.say(assignment, SecureStep.ADVERTISE_KEYS, bench.client(assignment).advertise_keys())
        assert isinstance(reply, Aborted)
        assert reply.reason is AbortReason.UNAUTHORIZED  # each is told why, whoever came before it
        facts = bench.table.tick(bench.now_s)
    assert facts is not None
    assert (facts["state"], facts["reason"]) == ("abandoned", "key-phase-failed")
    bench.authority = trusted
    assert len(bench.cohort()) == COHORT  # the next round selects at once


def test_a_roster_that_nobody_else_can_fill_is_fixed_at_once(bench: Bench) -> None:
    cohort = bench.cohort()
    left = [*cohort][: GOAL - 1]
    for name in left:
        bench.say(cohort[name], SecureStep.ADVERTISE_KEYS, bench.client(cohort[name]).advertise_keys())
    for name in [*cohort][GOAL:]:
        bench.gives_up(name)
    bench.table.tick(bench.now_s)
    assert not answers(bench, {name: cohort[name] for name in left}, SecureStep.ADVERTISE_KEYS)  # one may still come
    bench.gives_up([*cohort][GOAL - 1])
    bench.table.tick(bench.now_s)
    assert len(answers(bench, {name: cohort[name] for name in left}, SecureStep.ADVERTISE_KEYS)) == GOAL - 1


def test_a_phase_does_not_wait_for_the_last_device_that_took_leave(bench: Bench) -> None:
    round_ = Late(bench)
    bench.gives_up(round_.name)
    bench.table.tick(bench.now_s)
    assert len(answers(bench, round_.others, SecureStep.MASKED_INPUT)) == GOAL - 1
