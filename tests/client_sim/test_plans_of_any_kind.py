"""Whatever a server writes into a plan, the answer is a refusal or a plan that can be worked for, and the other devices go on."""

import asyncio
import copy
import json
from collections.abc import AsyncIterator
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from client_sim.egress import CheckedPlan, DevicePolicy, Refusal, check_plan, true_noise_multiplier
from client_sim.encoding import DistributedEncoder
from client_sim.fleet_session import play
from client_sim.secure_work import secure_context
from client_sim.transports.transport import LinkLostError
from contract import task
from contract.ids import AggregationId, Digest, RunId, SessionId
from contract.messages import (
    Acknowledged,
    AssignmentRequest,
    EligibilityRequest,
    EligibilitySpec,
    Reply,
    Request,
    Resource,
    TaskAssignment,
)
from secagg import LOWEST_FLOORS, Floors
from server import tasks

TASK: dict[str, Any] = {
    "name": "any", "population": "p", "model": {"name": "mlp"}, "rounds": 2,
    "cohort": {"report_goal": 20, "minimum_reports": 18, "max_participations": 2},
    "privacy": {"mechanism": "skellam", "clip_norm": 0.5, "noise_multiplier": 1.0, "delta": 1e-5, "metrics": {}, "adaptive_clip": {}},
    "aggregation": {"secure": True, "bits": 16, "minimum_survivors": 16},
}  # fmt: skip
CENTRAL: dict[str, Any] = {
    **TASK, "privacy": {"mechanism": "gaussian", "clip_norm": 0.5, "noise_multiplier": 1.0, "delta": 1e-5}, "aggregation": {},
}  # fmt: skip


def told(mapping: dict[str, Any]) -> dict[str, Any]:
    prepared = tasks.prepare(task.parse_mapping(copy.deepcopy(mapping)))
    return json.loads(
        prepared.mechanism.plan_bytes(
            spec=prepared.spec, run="r", round_index=0, leaf=0, model_digest="d", ledger_checkpoint=""
        )
    )


PLANS = [told(TASK), told(CENTRAL)]
LENGTH = 4 * PLANS[0]["encoding"]["vectors"][0]["plan"]["rotation"]["dimension"]
NUMBERS = [
    "nan",
    "inf",
    "-inf",
    "1e400",
    "-1",
    "0",
    "1e-320",
    "5e-324",
    "0.49",
    "1e9",
    "1e300",
    "",
    "x",
    "\ud800",
    "0x10",
    "\u0663",
]
WHOLE = [0, -1, 1, 2, 3, 7, 15, 33, 64, 10**6, 2**31, 2**53, 2**63, 10**30, 10**400, -(2**63)]
VALUES = st.one_of(
    st.sampled_from(NUMBERS), st.sampled_from(WHOLE), st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5),
    st.sampled_from([[], {}, [[]], [{}], [None], {"kind": "grid"}, ["delta", "delta"]]),
)  # fmt: skip


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    if isinstance(value, dict):
        return [path, *(place for key, item in cast(dict[str, Any], value).items() for place in places(item, (*path, key)))]
    if isinstance(value, list):
        return [path, *(place for key, item in enumerate(cast(list[Any], value)) for place in places(item, (*path, key)))]
    return [path]


PLACES = [[place for place in places(plan) if place] for plan in PLANS]


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """A plan with up to three places replaced, left out, doubled or added."""
    which = draw(st.sampled_from([0, 0, 0, 1]))
    plan = copy.deepcopy(PLANS[which])
    for _ in range(draw(st.integers(1, 3))):
        *way, last = draw(st.sampled_from(PLACES[which]))
        holder: Any = plan
        try:
            for key in way:
                holder = holder[key]
            match draw(st.sampled_from(["replace", "replace", "replace", "remove", "double", "add"])):
                case "replace":
                    holder[last] = copy.deepcopy(draw(VALUES))
                case "remove":
                    del holder[last]
                case "double":
                    holder[last] = [holder[last], copy.deepcopy(holder[last])]
                case _:
                    holder["more"] = copy.deepcopy(draw(VALUES))
        except (KeyError, IndexError, TypeError):
            continue  # an earlier change took this place away
    return json.dumps(plan).encode()


def assigned(text: bytes) -> TaskAssignment:
    model = Resource("model", LENGTH, Digest("d"))
    return TaskAssignment(SessionId("s"), AggregationId("a"), b"", text, model, secure=True)


def changed(*way: Any, to: Any) -> bytes:
    plan = copy.deepcopy(PLANS[0])
    holder: Any = plan["encoding"]["vectors"][0]["plan"]
    for key in way[:-1]:
        holder = holder[key]
    holder[way[-1]] = to
    return json.dumps(plan).encode()


@given(text=mutated(), floor=st.sampled_from([0.0, 0.5]))
@example(text=changed("minimum_survivors", to="6"), floor=0.0)
@example(text=changed("minimum_survivors", to=10**400), floor=0.0)
@example(text=changed("mechanism", to=[]), floor=0.0)
@example(text=changed("rotation", "blocks", to=10**400), floor=0.0)
@example(text=b"[" * 100_000, floor=0.0)
@settings(max_examples=600, deadline=None)
def test_a_plan_is_refused_or_can_be_worked_for(text: bytes, floor: float) -> None:
    checked = check_plan(assigned(text), run="r", leaf=0, policy=DevicePolicy(least_noise_multiplier=floor))
    if isinstance(checked, Refusal):
        return
    encoder = checked.encoder
    try:
        context = secure_context(text) if isinstance(encoder, DistributedEncoder) else None
    except ValueError:
        return
    if context is not None:
        for floors in (Floors(), LOWEST_FLOORS):
            assert floors.fault(context.parameters) is None or isinstance(floors.fault(context.parameters), str)
        assert isinstance(encoder, DistributedEncoder)
        for _, chosen in encoder.vectors:
            assert true_noise_multiplier(chosen) >= floor
            assert chosen.noise_multiplier == 0 or chosen.guaranteed_multiplier > 0
    update = encoder.encode(np.zeros(encoder.dimension, np.float32), lambda count: bytes(count))
    assert update.shape == (encoder.encoded_dimension,)


@pytest.mark.parametrize(
    "change",
    [
        {"scale": "1e12"}, {"scale": "0"}, {"mechanism": "gaussian"}, {"mechanism": None}, {"corrupt": -1}, {"devices": -20}, {"bits": 0},
        {"minimum_separation": -1}, {"max_participations": 0}, {"minimum_survivors": "16"}, {"minimum_survivors": True},
        {"minimum_survivors": 16.5}, {"local_sigma": "nan"}, {"local_sigma": 3}, {"clip_norm": "inf"}, {"beta": "1"}, {"sum_norm": "-1"},
    ],
    ids=str,
)  # fmt: skip
def test_no_field_of_an_encoder_is_taken_that_no_mechanism_has(change: dict[str, Any]) -> None:
    ((name, value),) = change.items()
    checked = check_plan(assigned(changed(name, to=value)), run="r", leaf=0, policy=DevicePolicy())
    assert checked is Refusal.NOT_UNDERSTOOD


def test_a_vector_that_is_always_rounded_to_nothing_is_refused() -> None:
    plan = copy.deepcopy(PLANS[0])
    bits = plan["encoding"]["vectors"][2]
    assert (bits["name"], bits["plan"]["rotation"]["dimension"]) == ("clip_bits", 1)
    bits["plan"]["scale"] = "1e-9"
    assert check_plan(assigned(json.dumps(plan).encode()), run="r", leaf=0, policy=DevicePolicy()) is Refusal.NOT_UNDERSTOOD


class Server:
    """Gives every device the same plan, and no model."""

    def __init__(self, text: bytes) -> None:
        self._text = text

    async def send(self, request: Request) -> Reply:
        if isinstance(request, EligibilityRequest):
            return EligibilitySpec(
                session_id=SessionId("s"), task_name="t", run=RunId("r"), current_index=0, minimum_separation=0, max_participations=None,
                trustworthiness_s=0.0, minimum_examples=1,
            )  # fmt: skip
        return assigned(self._text) if isinstance(request, AssignmentRequest) else Acknowledged()

    async def fetch(self, request: object) -> AsyncIterator[Any]:
        raise LinkLostError
        yield

    async def send_chunks(self, chunks: object) -> Reply:
        raise LinkLostError


class Willing:
    """A device whose record allows everything."""

    async def may_take_part(self, request: object) -> bool:
        return True

    def vanishes(self, phase: object, leaf: int) -> bool:
        return False


async def at_once(seconds: float) -> None:
    await asyncio.sleep(0)


@given(text=mutated())
@example(text=changed("minimum_survivors", to="6"))
@settings(max_examples=60, deadline=None)
def test_the_other_device_of_the_process_goes_on(text: bytes) -> None:
    async def both() -> list[str]:
        async def one(plan: bytes) -> str:
            outcome = await play(
                Server(plan), Willing(), population="p", client_version="1", policy=DevicePolicy(), sleep=at_once  # type: ignore[arg-type]
            )  # fmt: skip
            return outcome.shape

        async with asyncio.TaskGroup() as group:
            sessions = [group.create_task(one(plan)) for plan in (text, json.dumps(PLANS[0]).encode())]
        return [session.result() for session in sessions]

    refused, other = asyncio.run(both())
    assert refused.startswith("-")
    assert other == "-!"


def test_an_unchanged_plan_is_worked_for() -> None:
    for plan in PLANS:
        assert isinstance(check_plan(assigned(json.dumps(plan).encode()), run="r", leaf=0, policy=DevicePolicy()), CheckedPlan)
