"""What this server registers fits its task's text as the ledger's verifier reads it; anything cheaper does not."""

import dataclasses
import json
from typing import Any

import pytest

from contract import canonical, task
from privacy import events, matrix_sensitivity
from privacy.events import AdaptiveClipEvent, Adjacency, ComposedEvent, DistributedEvent, Event, Unit
from privacy.ledger import task_bound
from privacy.ledger.history import History
from privacy.ledger.noised_sums import NoisedSums
from server import tasks
from server.recorder import planned_claims
from tutti.engines import tff_plans

BASE: dict[str, Any] = {
    "population": "p", "model": {"name": "mlp"}, "rounds": 6,
    "cohort": {"report_goal": 40, "minimum_separation": 2, "max_participations": 2},
    "privacy": {"clip_norm": 1.0, "delta": 1e-6, "noise_multiplier": 2.0},
}  # fmt: skip
SECURE = {"aggregation": {"secure": True, "ideal": True}}
TASKS: dict[str, dict[str, Any]] = {
    "tree": {"privacy": {"mechanism": "tree", "restart_every": 3}},
    "tree, calibrated": {"privacy": {"mechanism": "tree", "noise_multiplier": None, "epsilon": 3.3}},
    "tree, norms that move": {"privacy": {"mechanism": "tree", "restart_every": 3, "adaptive_clip": {}}},
    "gaussian, norms that move": {"privacy": {"mechanism": "gaussian", "adaptive_clip": {}, "adaptive_zeroing": {}}},
    "gaussian, a bit's noise": {"privacy": {"mechanism": "gaussian", "adaptive_clip": {"bit_noise_multiplier": 1.5}}},
    "gaussian, sampled": {
        "privacy": {"mechanism": "gaussian", "sampling": "poisson", "sampling_rate": 0.1},
        "cohort": {"minimum_separation": 0, "max_participations": None},
    },
    "banded": {"privacy": {"mechanism": "banded"}},
    "banded, by number": {"privacy": {"mechanism": "banded", "bands": 2}},
    "ddg": {"privacy": {"mechanism": "ddg"}, **SECURE},
    "ddg, everything": {
        "privacy": {"mechanism": "ddg", "metrics": {}, "adaptive_clip": {}, "adaptive_zeroing": {}},
        "aggregation": {**SECURE["aggregation"], "bits": 20, "scale": "auto", "corrupt_fraction": 0.1},
    },
    "ddg, calibrated": {
        "privacy": {"mechanism": "ddg", "noise_multiplier": None, "epsilon": 8.0}, "aggregation": {**SECURE["aggregation"], "bits": 18},
    },
    "skellam": {"privacy": {"mechanism": "skellam", "metrics": {"noise_multiplier": 3.0}}, **SECURE},
    "skellam, in groups": {"privacy": {"mechanism": "skellam"}, "aggregation": {**SECURE["aggregation"], "group_size": 20}},
    "none": {"privacy": {"mechanism": "none", "noise_multiplier": None}},
    "none, secure": {"privacy": {"mechanism": "none", "noise_multiplier": None}, **SECURE},
    "no noise": {"privacy": {"mechanism": "gaussian", "noise_multiplier": 0.0}},
}  # fmt: skip


def spec_of(name: str) -> task.TaskSpec:
    return task.replace(task.parse_mapping(BASE), **TASKS.get(name, {"privacy": {"mechanism": name}}))


def faults(
    spec: task.TaskSpec, planned: Event, colluding: Event | None = None, length: int | None = None, **facts: Any
) -> list[str]:
    body = canonical.plain(spec)
    relation = "add-or-remove" if spec.privacy.sampling == "poisson" else "zero-out"
    registered = {"task": body, "population": "p", "facts": {"unit": "device", "adjacency": relation, **facts}}
    return list(
        task_bound.faults(task.parse_mapping(json.loads(json.dumps(body))), registered, planned, colluding, length=length)
    )


def read(claims: dict[str, Any]) -> tuple[Event, Event | None]:
    colluding = claims.get("colluding")
    return events.from_json(claims["event"]), None if colluding is None else events.from_json(colluding)


@pytest.mark.parametrize("name", [*TASKS, "blt"])
def test_what_is_registered_is_what_the_task_asks_for(name: str) -> None:
    prepared = tasks.prepare(spec_of(name))
    planned, colluding = read(planned_claims(prepared.mechanism, prepared.spec))
    assert faults(prepared.spec, planned, colluding) == []
    assert faults(prepared.spec, planned, colluding, length=prepared.model.num_parameters) == []


@pytest.mark.parametrize("name", ["tree", "ddg", "skellam", "gaussian, a bit's noise"])
def test_what_another_engine_registers_is_what_the_task_asks_for(name: str) -> None:
    spec = task.replace(spec_of(name), privacy={"metrics": None})
    plan = tff_plans.plan(spec, dimension=1000, weighted=False, noise_seed=1)
    planned, colluding = read(plan.claims([spec.fewest_contributions] * spec.rounds))
    assert faults(spec, planned, colluding, engine={"name": "tff"}) == []
    if not isinstance(planned, DistributedEvent | AdaptiveClipEvent | ComposedEvent):
        assert faults(spec, dataclasses.replace(planned, law=events.Law.ROUNDED_GAUSSIAN), engine={"name": "tff"})


CHANGES: list[tuple[str, dict[str, Any]]] = [
    ("tree", {"noise_multiplier": 2.1}), ("tree", {"leaves": 5}), ("tree", {"minimum_separation": 3}), ("tree", {"max_participations": 1}),
    ("tree", {"restart_every": 2}), ("tree", {"unit": Unit.EXAMPLE}), ("tree", {"adjacency": Adjacency.ADD_OR_REMOVE}),
    ("tree, calibrated", {"noise_multiplier": 9.0}), ("gaussian, sampled", {"sampling_rate": 0.05}),
    ("gaussian, norms that move", {"vector_noise_multiplier": 2.9}), ("gaussian, norms that move", {"bit_noise_multiplier": 10.0}),
    ("banded", {"bands": 1}), ("banded", {"column_norm_squared": 0.5}),
    ("ddg", {"mechanism": "skellam"}), ("ddg", {"local_sigma": 1e4}), ("ddg", {"participations": 1}), ("ddg", {"contributors": (40, 40)}),
]  # fmt: skip


@pytest.mark.parametrize(("name", "change"), CHANGES, ids=[f"{name}: {next(iter(change))}" for name, change in CHANGES])
def test_what_the_task_does_not_ask_for_is_found(name: str, change: dict[str, Any]) -> None:
    prepared = tasks.prepare(spec_of(name))
    planned, colluding = read(planned_claims(prepared.mechanism, prepared.spec))
    assert len(faults(prepared.spec, dataclasses.replace(planned, **change), colluding)) in (1, 2)


BLT: dict[str, Any] = {
    "privacy": {"mechanism": "blt"},
    "rounds": 500,
    "cohort": {"minimum_separation": 20, "max_participations": None},
}
JAX_PRIVACY: dict[str, Any] = {  # what its optimiser gave for this schedule
    "buf_decay": (0.9303024126507895, 0.9302814913997517, 0.9302605701481248),
    "output_scale": (0.10304971865515662, 0.30894267480528037, 0.10287164337516169),
}


def blt() -> tuple[task.TaskSpec, events.BltEvent, int]:
    prepared = tasks.prepare(task.replace(task.parse_mapping(BASE), **BLT))
    planned, _ = read(planned_claims(prepared.mechanism, prepared.spec))
    assert isinstance(planned, events.BltEvent)
    return prepared.spec, planned, prepared.model.num_parameters


def test_a_strategy_that_another_optimiser_finds_is_the_tasks() -> None:
    spec, planned, _ = blt()
    assert faults(spec, planned) == faults(spec, dataclasses.replace(planned, **JAX_PRIVACY)) == []


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"output_scale": (0.0,), "buf_decay": (0.5,)}, "squared sensitivity"),
        ({"output_scale": (0.4,), "buf_decay": (0.93,)}, "squared sensitivity"),
        ({"output_scale": (0.5, 0.3), "buf_decay": (0.99, 0.9)}, "a loss of"),
        ({"output_scale": (0.1,) * 4, "buf_decay": (0.9,) * 4}, "the event has 4 buffers, and 3 are the task's"),
        ({"numerical_inflation": 0.0}, "numerical_inflation is 0.0"),
        ({"draws": 7}, "the event counts 7 draws of noise"),
    ],
)
def test_a_strategy_that_the_task_does_not_give_is_found(change: dict[str, Any], words: str) -> None:
    spec, planned, length = blt()
    assert any(words in fault for fault in faults(spec, dataclasses.replace(planned, **change), length=length))


def test_a_task_that_no_blt_can_have_is_found_and_ends_no_verification() -> None:
    spec, planned, length = blt()
    odd = task.replace(spec, privacy={"clip_norm": None})
    assert any("no grid" in fault for fault in task_bound.faults(odd, _registered(odd), planned, None, length=length))
    long = task.replace(spec, rounds=30_000)
    assert any(
        "at most 20000 rounds" in fault for fault in task_bound.faults(long, _registered(long), planned, None, length=length)
    )


def _registered(spec: task.TaskSpec) -> dict[str, Any]:
    return {"task": canonical.plain(spec), "population": "p", "facts": {"unit": "device", "adjacency": "zero-out"}}


def test_no_strategy_with_a_smaller_price_passes_but_for_what_is_stated() -> None:
    spec, planned, length = blt()
    honest = matrix_sensitivity.blt(planned)
    for share in (0.8, 0.9, 0.95, 0.97, 0.99):
        cheaper = dataclasses.replace(planned, output_scale=tuple(share * scale for scale in planned.output_scale))
        if not faults(spec, cheaper, length=length):
            assert matrix_sensitivity.blt(cheaper) >= 0.979 * honest


@pytest.mark.parametrize("name", ["tree", "tree, norms that move", "gaussian", "banded"])
def test_noise_for_a_shorter_vector_than_the_model_is_found(name: str) -> None:
    prepared = tasks.prepare(spec_of(name))
    planned, _ = read(planned_claims(prepared.mechanism, prepared.spec))
    found = faults(prepared.spec, planned, length=2 * prepared.model.num_parameters)
    assert len(found) == 1
    assert "draws of noise" in found[0]


@pytest.mark.parametrize("name", ["ddg", "skellam"])
def test_event_of_a_shorter_vector_than_the_model_is_found(name: str) -> None:
    prepared = tasks.prepare(spec_of(name))
    planned, colluding = read(planned_claims(prepared.mechanism, prepared.spec))
    length, body = tasks.model_length(prepared.spec), canonical.plain(prepared.spec)
    assert length == prepared.model.num_parameters
    registered = {"task": body, "population": "p", "facts": {"unit": "device", "adjacency": "zero-out"}}
    assert list(task_bound.faults(prepared.spec, registered, planned, colluding, length=length)) == []
    first = planned.parts[0] if isinstance(planned, ComposedEvent) else planned
    assert isinstance(first, DistributedEvent)
    short = dataclasses.replace(first, dimension=8)
    cheaper = ComposedEvent(parts=(short, *planned.parts[1:])) if isinstance(planned, ComposedEvent) else short
    found = list(task_bound.faults(prepared.spec, registered, cheaper, colluding, length=length))
    assert found == [f"the event is of a vector of 8 numbers, and the task's model has {length}"]


def test_a_task_without_noise_promises_nothing() -> None:
    promise = events.GaussianEvent(noise_multiplier=1.0, releases=6, minimum_separation=2, max_participations=2)
    for name in ("none", "no noise"):
        assert "promise" in faults(spec_of(name), promise)[0]
    assert "no noise multiplier" in faults(spec_of("tree, calibrated"), promise)[0]


def test_the_second_claim_counts_no_corrupt_device() -> None:
    prepared = tasks.prepare(spec_of("ddg"))
    planned, colluding = read(planned_claims(prepared.mechanism, prepared.spec))
    assert NoisedSums.of(canonical.plain(prepared.spec)).corrupt > 0  # pyright: ignore[reportArgumentType]
    assert colluding is not None
    assert faults(prepared.spec, planned, planned)
    assert faults(prepared.spec, ComposedEvent(parts=(planned, planned)), colluding)  # pyright: ignore[reportArgumentType]


def test_a_run_of_another_population_than_its_task_is_found_and_so_is_a_task_that_cannot_be_read() -> None:
    spec = spec_of("tree")
    digest = canonical.digest(canonical.plain(spec))
    promise = events.to_json(
        events.TreeEvent(noise_multiplier=2.0, leaves=6, minimum_separation=2, max_participations=2, restart_every=3)
    )
    entry: dict[str, Any] = {
        "kind": "run-registered", "population": "q", "run": canonical.digest({"task": digest, "ordinal": 0}), "task_digest": digest,
        "task": canonical.plain(spec), "planned": promise, "facts": {"unit": "device", "adjacency": "zero-out", "start_digest": "s"},
    }  # fmt: skip
    history = History()
    history.add(0, entry)
    assert [problem.detail for problem in history.problems] == ["population is q, and p in the task"]
    short: dict[str, Any] = {"name": "t", "privacy": {"mechanism": "tree"}}
    other = {**entry, "task": short, "task_digest": canonical.digest(short)}
    other["run"] = canonical.digest({"task": canonical.digest(short), "ordinal": 0})
    for strict, number in ((False, 0), (True, 1)):
        history = History(whole_tasks=strict)
        history.add(0, other)
        assert len(history.problems) == number
