"""A cohort in groups: each its own secure aggregation, sums added in order; where a group is lost the others' sum stands."""

import hashlib
import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from client_sim.secure_work import secure_context
from contract import plan as plans
from contract import task
from contract.entropy import system_entropy
from contract.ids import Digest, RunId, SessionId, group_of
from contract.messages import (
    Aborted,
    AbortReason,
    AssignmentRequest,
    EligibilityRequest,
    EligibilitySpec,
    ResultStatus,
    SecureAnswer,
    SecureRequest,
    SecureStep,
    SubmitResult,
    TaskAssignment,
    TaskResult,
    UploadChunk,
    UploadRequest,
)
from privacy import accounting, events
from secagg import LOWEST_FLOORS, Client, DeviceAuthority, wire
from server import registration, tasks
from server.distributed_mechanism import DistributedMechanism
from server.keys import KeyDirectory
from server.orchestrator import Orchestrator
from server.pace import PaceSteering
from server.registration import RunSettings
from server.secure_sessions import SecureSessionTable
from server.secure_split import fewest_in_a_group
from server.store.store import Store

GOAL, GROUP = 12, 6
SPEC = task.parse_mapping(
    {
        "name": "secure-groups",
        "population": "phones",
        "model": {"name": "mlp"},
        "cohort": {"report_goal": GOAL, "over_selection": 1.0, "minimum_reports": 10},
        "deadlines": {"selection_s": 60, "reporting_s": 60},
        "privacy": {"mechanism": "ddg", "clip_norm": 0.5, "noise_multiplier": 1.0, "delta": 1e-5},
        "aggregation": {
            "secure": True,
            "bits": 16,
            "group_size": GROUP,
            "minimum_survivors": 5,
            "corrupt_fraction": 0.0,
            "drop_fraction": 0.17,
        },
        "rounds": 3,
    }
)


class Cohort:
    """A round's devices, asked one by one; device i's input is i + 1 everywhere."""

    def __init__(self, folder: Path) -> None:
        prepared = tasks.prepare(SPEC)
        assert isinstance(prepared.mechanism, DistributedMechanism)
        self.mechanism = prepared.mechanism
        self.store, keys = Store.open(str(folder)), KeyDirectory(folder / "keys")
        run = registration.register(
            store=self.store,
            keys=keys,
            prepared=prepared,
            settings=RunSettings(seed=1, noise_seed=2),
            not_covered=[],
            start=prepared.model.init(0),
        )
        self.run, self.start = run, prepared.model.init(0)
        rounds = Orchestrator(
            store=self.store,
            run=run,
            mechanism=prepared.mechanism,
            optimizer=prepared.optimizer,
            key=keys.read(run.id),
            pace=PaceSteering(devices=100, cohort=GOAL, round_s=60.0),
        )
        counter = itertools.count()
        self.authority = DeviceAuthority(bytes(32))
        self.table = SecureSessionTable(
            rounds=rounds,
            run=RunId(run.id),
            spec=SPEC,
            authority=self.authority.public,
            entropy=lambda n: hashlib.shake_128(str(next(counter)).encode()).digest(n),
        )
        self.now_s = 0.0
        self.ask = lambda request: self.table.handle(request, self.now_s)

    def assigned(self) -> list[TaskAssignment]:
        """The whole cohort, in the order in which it was taken."""
        names = list[SessionId]()
        for _ in range(GOAL):
            spec = self.ask(EligibilityRequest("phones", "1"))
            assert isinstance(spec, EligibilitySpec), spec
            names.append(spec.session_id)
        for name in names:
            self.ask(AssignmentRequest(name, eligible=True))
        found = [self.ask(AssignmentRequest(name, eligible=True)) for name in names]
        return [one for one in found if isinstance(one, TaskAssignment)]

    def clients(self, assigned: list[TaskAssignment]) -> list[Client]:
        return [self.client(place, assignment) for place, assignment in enumerate(assigned)]

    def client(self, place: int, assignment: TaskAssignment) -> Client:
        context = secure_context(assignment.plan, group_of(assignment.aggregation_id))
        identity = self.authority.enrol(context.epoch, system_entropy)
        client = Client(
            context=context, authority=self.authority.public, identity=identity, floors=LOWEST_FLOORS, entropy=system_entropy
        )
        client.set_input({vector.name: np.full(vector.length, place + 1, np.int64) for vector in context.parameters.vectors})
        return client

    def said(self, assigned: list[TaskAssignment], step: SecureStep, messages: dict[int, Any]) -> dict[int, Any]:
        """Hands each message in; the server's answers to those who have one."""
        for place, message in messages.items():
            self.phase(assigned[place], step, wire.write_device_message(message))
        found: dict[int, Any] = {}
        for place in messages:
            reply = self.phase(assigned[place], step, None)
            if isinstance(reply, SecureAnswer):
                found[place] = wire.read_server_message(reply.message)
        return found

    def phase(self, assignment: TaskAssignment, step: SecureStep, raw: bytes | None) -> Any:
        return self.ask(SecureRequest(assignment.session_id, assignment.authorization_token, step, raw))

    def uploaded(self, assigned: list[TaskAssignment], messages: dict[int, Any]) -> dict[int, Any]:
        for place, message in messages.items():
            data, session = wire.write_device_message(message), assigned[place].session_id
            sha256 = Digest(hashlib.sha256(data).hexdigest())
            self.ask(UploadRequest(session, assigned[place].authorization_token, len(data), sha256, secure=True))
            self.ask(UploadChunk(session, 0, data, secure=True))
            self.ask(SubmitResult(session, secure=True))
        found = {place: self.ask(SubmitResult(assigned[place].session_id, secure=True)) for place in messages}
        return {
            place: wire.read_server_message(reply.message) for place, reply in found.items() if isinstance(reply, SecureAnswer)
        }

    def play(self, assigned: list[TaskAssignment], *, leave: dict[int, SecureStep]) -> Any:
        """The whole protocol; `leave` says before which step a device goes home, and it says so."""
        clients = self.clients(assigned)

        def staying(step: SecureStep, said: dict[int, Any]) -> dict[int, Any]:
            for place in [place for place in said if leave.get(place) is step]:
                self.ask(TaskResult(assigned[place].session_id, ResultStatus.CANCELED))
                del said[place]
            return said

        said = staying(SecureStep.ADVERTISE_KEYS, {place: one.advertise_keys() for place, one in enumerate(clients)})
        heard = self.said(assigned, SecureStep.ADVERTISE_KEYS, said)
        for step in (SecureStep.SHARE_KEYS, SecureStep.MASKED_INPUT, SecureStep.CONSISTENCY_CHECK, SecureStep.UNMASKING):
            said = staying(step, {place: clients[place].handle(message) for place, message in heard.items()})
            heard = self.uploaded(assigned, said) if step is SecureStep.MASKED_INPUT else self.said(assigned, step, said)
        return self.table.tick(self.now_s)

    def moved(self) -> np.ndarray:
        return self.store.model(self.run.id).parameters - self.start

    def expected(self, plan: bytes, survivors: list[int]) -> np.ndarray:
        """The model's step for the plain sum of the survivors' inputs."""
        total = np.full(self.mechanism.sum_length, sum(place + 1 for place in survivors), np.int64)
        seed = plans.rotation_seed(plans.decode(plan))
        summed, _ = self.mechanism.decode(total, count=len(survivors), seed=seed)
        return (self.start + (summed / len(survivors)).astype(np.float32)) - self.start

    def outcomes(self) -> list[dict[str, Any]]:
        bodies = [json.loads(entry.body) for entry in self.store.entries(run=self.run.id)]
        return [body for body in bodies if body.get("result")]


@pytest.fixture
def cohort(tmp_path: Path) -> Iterator[Cohort]:
    made = Cohort(tmp_path)
    yield made
    made.store.close()


def test_groups_follow_the_order_of_assignment(cohort: Cohort) -> None:
    assigned = cohort.assigned()
    assert [group_of(one.aggregation_id) for one in assigned] == [0, 1] * (GOAL // 2)
    assert len({one.plan for one in assigned}) == 1


def test_the_model_is_that_of_the_plain_sum_over_all_groups(cohort: Cohort) -> None:
    assigned = cohort.assigned()
    facts = cohort.play(assigned, leave={0: SecureStep.SHARE_KEYS, 3: SecureStep.MASKED_INPUT})
    survivors = [place for place in range(GOAL) if place not in (0, 3)]
    assert (facts["state"], facts["reported"], facts["groups_abandoned"]) == ("committed", 10, 0)
    assert np.array_equal(cohort.moved(), cohort.expected(assigned[0].plan, survivors))


@pytest.mark.parametrize("step", [SecureStep.SHARE_KEYS, SecureStep.MASKED_INPUT])
def test_where_a_group_is_lost_the_others_sum_stands(cohort: Cohort, step: SecureStep) -> None:
    assigned = cohort.assigned()
    facts = cohort.play(assigned, leave={1: step, 5: step, 9: step})
    survivors = list(range(0, GOAL, 2))
    assert (facts["state"], facts["reported"], facts["groups_abandoned"]) == ("committed", len(survivors), 1)
    assert np.array_equal(cohort.moved(), cohort.expected(assigned[0].plan, survivors))
    assert cohort.outcomes()[0]["event"]["contributors"] == [SPEC.minimum_survivors]
    assert cohort.outcomes()[0]["reported"] == len(survivors)


def test_devices_of_a_lost_group_are_sent_away_before_the_round_ends(cohort: Cohort) -> None:
    assigned = cohort.assigned()
    clients = cohort.clients(assigned)
    rosters = cohort.said(
        assigned, SecureStep.ADVERTISE_KEYS, {place: one.advertise_keys() for place, one in enumerate(clients)}
    )
    for place in (1, 5, 9):
        cohort.ask(TaskResult(assigned[place].session_id, ResultStatus.CANCELED))
    said = {place: clients[place].handle(rosters[place]) for place in (3, 7, 11)}
    cohort.said(assigned, SecureStep.SHARE_KEYS, said)
    reply = cohort.phase(assigned[3], SecureStep.SHARE_KEYS, None)
    assert isinstance(reply, Aborted)
    assert reply.reason is AbortReason.ROUND_ABANDONED
    assert cohort.table.due_s() != -np.inf, "the other group goes on"


def test_a_round_without_any_group_left_is_abandoned_uncharged(cohort: Cohort) -> None:
    step = SecureStep.MASKED_INPUT
    facts = cohort.play(cohort.assigned(), leave=dict.fromkeys((1, 5, 9, 2, 4, 8), step))
    assert (facts["state"], facts["reason"], facts["groups_abandoned"]) == ("abandoned", "too-few-survivors", 2)
    assert not any(json.loads(entry.body)["kind"] == "round-charged" for entry in cohort.store.entries(run=cohort.run.id))


def test_a_device_of_one_group_cannot_speak_in_another(cohort: Cohort) -> None:
    assigned = cohort.assigned()
    stranger = cohort.client(0, assigned[1])  # the context of group 1
    raw = wire.write_device_message(stranger.advertise_keys())
    reply = cohort.phase(assigned[0], SecureStep.ADVERTISE_KEYS, raw)
    assert isinstance(reply, Aborted)


@pytest.mark.parametrize("group", [-1, 2])
def test_a_device_refuses_a_group_that_there_is_not(cohort: Cohort, group: int) -> None:
    with pytest.raises(ValueError, match="group"):
        secure_context(cohort.assigned()[0].plan, group)


def test_each_groups_noise_stands_alone(cohort: Cohort) -> None:
    # One group's survivors make all the noise that is promised: the event is that of a cohort of one group's size.
    small = task.replace(
        SPEC, cohort={"report_goal": GROUP, "minimum_reports": 5}, aggregation={"group_size": None, "minimum_survivors": 5}
    )
    alone = tasks.prepare(small).mechanism
    assert isinstance(alone, DistributedMechanism)
    assert cohort.mechanism.update.local_sigma == alone.update.local_sigma
    both = [events.from_json(one.event(3)) for one in (cohort.mechanism, alone)]
    prices = [accounting.price(event, 1e-5).epsilon for event in both]
    assert prices[0] == pytest.approx(prices[1], rel=1e-6)


def test_the_claim_is_never_made_for_more_survivors_than_the_smallest_group_had() -> None:
    for sizes in itertools.product(range(5, GROUP + 1), repeat=3):
        for kept in range(1, 4):
            claimed = fewest_in_a_group(sum(sizes[:kept]), groups=3, roster_size=GROUP, floor=5)
            assert claimed <= min(sizes[:kept])
