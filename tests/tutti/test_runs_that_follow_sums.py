"""Clips, thresholds and scales that follow released sums in real runs: on the record, resumed, replayed, and read from noise alone."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tutti
from client_sim import encoding
from contract import plan, task
from contract.errors import ErrorCode, TuttiError
from contract.randomness import stream
from privacy import accounting, events
from server import tasks
from server.distributed_mechanism import DistributedMechanism
from server.mechanisms import CentralMechanism
from server.store.crosscheck import verify_store
from server.store.signing import LedgerKey
from server.store.values import RunState
from tutti import stores

TASK: dict[str, Any] = {
    "name": "follows",
    "population": "test",
    "model": {"name": "mlp"},
    "data": {"source": "synthetic", "devices": 120},
    "cohort": {"report_goal": 12, "over_selection": 1.5, "minimum_reports": 8},
    "training": {"batch_size": 10, "max_examples": 10, "learning_rate": 0.1},
    "privacy": {
        "mechanism": "gaussian", "clip_norm": 0.5, "noise_multiplier": 0.5, "delta": 1e-5, "adaptive_zeroing": {},
        "adaptive_clip": {"target_quantile": 0.49},  # which no share of an even number of devices is
    },
    "rounds": 3,
}  # fmt: skip
POISSON: dict[str, Any] = {
    **TASK,
    "name": "sampled",
    "cohort": {"report_goal": 12},
    "privacy": {
        "mechanism": "gaussian", "clip_norm": 0.5, "noise_multiplier": 1.0, "delta": 1e-5, "sampling": "poisson", "sampling_rate": 0.1,
    },
}  # fmt: skip
SECURE: dict[str, Any] = {
    **TASK,
    "name": "secure",
    "data": {"source": "synthetic", "devices": 400},
    "cohort": {"report_goal": 20, "over_selection": 1.4, "minimum_reports": 18},
    "privacy": {
        "mechanism": "ddg",
        "clip_norm": 0.5,
        "noise_multiplier": 0.3,
        "delta": 1e-5,
        "metrics": {},
        "adaptive_clip": {},
    },
    "aggregation": {"secure": True, "bits": 16, "minimum_survivors": 14, "scale": "auto"},
    "rounds": 2,
}


def bodies_of(store: Path, kind: str | None = None) -> list[dict[str, Any]]:
    with stores.opened(str(store)) as (database, _):
        bodies = [json.loads(entry.body) for entry in database.entries()]
    return [body for body in bodies if kind is None or body["kind"] == kind]


def followed(store: Path) -> list[tuple[int, str, str]]:
    return [(body["covered_by"], body["parameter"], body["value"]) for body in bodies_of(store, "parameter-tuned")]


def charged_rho(store: Path) -> float | None:
    """What the rounds would have cost, had their noise been fresh."""
    return accounting.price(events.from_json(bodies_of(store, "round-charged")[-1]["event"]), 1e-5).rho


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    store = tmp_path_factory.mktemp("whole")
    return store, tutti.run(TASK, store=str(store), workers=0, seed=1, seed_noise=2)


def test_every_change_is_on_the_record_after_the_round_that_it_follows(whole: tuple[Path, dict[str, Any]]) -> None:
    store, result = whole
    found = followed(store)
    assert [(covered, name) for covered, name, _ in found] == [
        (index, name) for index in range(3) for name in ("clip_norm", "zeroing_quantile")
    ]
    assert len({value for _, _, value in found}) == 6
    with stores.opened(str(store)) as (database, _):
        key = LedgerKey(store).verifier()
        assert verify_store(database, key=key).problems == ()
    assert not any("clip" in line for line in result["privacy"]["first_lines"])


def test_the_price_is_that_of_the_noise_multiplier_whatever_the_clip_did(whole: tuple[Path, dict[str, Any]]) -> None:
    store, result = whole
    assert charged_rho(store) == pytest.approx(3 / (2 * 0.5**2))
    assert result["privacy"]["rho"] is None  # its noise is known
    charged = {
        json.dumps({**body["event"]["release"], "releases": 0, "draws": 0}) for body in bodies_of(store, "round-charged")
    }
    assert len(charged) == 1


def test_under_a_tree_the_clip_moves_where_a_new_tree_begins(tmp_path: Path) -> None:
    privacy = {
        "mechanism": "tree", "clip_norm": 0.5, "noise_multiplier": 1.0, "delta": 1e-5, "restart_every": 2, "adaptive_clip": {},
    }  # fmt: skip
    result = tutti.run({**TASK, "privacy": privacy, "rounds": 5}, store=str(tmp_path), workers=0, seed=1, seed_noise=2)
    moved = [covered for covered, name, _ in followed(tmp_path) if name == "clip_norm"]
    assert moved == [1, 3]
    plain = {key: value for key, value in privacy.items() if key != "adaptive_clip"}
    without = tasks.prepare(task.parse_mapping({**TASK, "privacy": plain, "rounds": 5})).mechanism
    assert charged_rho(tmp_path) == pytest.approx(accounting.price(events.from_json(without.event(5)), 1e-5).rho)
    assert result["privacy"]["epsilon"] is None  # its noise is known
    with stores.opened(str(tmp_path)) as (database, _):
        assert verify_store(database, key=LedgerKey(tmp_path).verifier()).problems == ()


def test_a_paused_run_goes_on_with_the_clip_that_its_rounds_left(whole: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    class Pausing:
        def started(self, *, committed: int, note: str) -> None:
            del committed, note

        def round_ended(self, facts: Any) -> None:
            if facts["leaf"] == 0 and facts["state"] == "committed":
                with stores.opened(str(tmp_path)) as (database, _):
                    database.set_run_state(database.run("latest").id, RunState.PAUSED)

    tutti.run(TASK, store=str(tmp_path), workers=0, seed=1, seed_noise=2, progress=Pausing())
    assert tutti.runs.resume("latest", store=str(tmp_path), workers=0)["model_digest"] == whole[1]["model_digest"]
    assert followed(tmp_path) == followed(whole[0])


def test_estimates_are_a_function_of_the_noised_sum_alone() -> None:
    """Whatever the bits were, equal noised sums give equal estimates, and nothing else is asked for."""
    mechanism = tasks.prepare(task.parse_mapping(TASK)).mechanism
    assert isinstance(mechanism, CentralMechanism)
    noised = stream(1, "noised").integers(-50, 50, mechanism.sum_length)
    first = mechanism.after(noised, count=12, seed=bytes(32), leaf=0)
    other = noised.copy()
    other[: mechanism.plan.grid.dimension] = 0
    assert mechanism.after(other, count=12, seed=bytes(32), leaf=0) == first
    assert mechanism.restored({name: one.value for name, one in first.tuned.items()}) == first


def test_the_noise_on_the_bits_is_what_was_charged() -> None:
    mechanism = tasks.prepare(task.parse_mapping({**TASK, "rounds": 4000})).mechanism
    assert isinstance(mechanism, CentralMechanism)
    assert mechanism.tracking is not None
    noise = mechanism.noise(bytes(32), released=0)
    found = np.array([noise.through(leaf)[-2:] for leaf in range(300)])
    # 2 sigma_b = 1.2 halves, and 1/12 for rounding; a variance of 300 draws is off by five deviations with probability 1e-6.
    expected = (2 * 12 / 20) ** 2 + 1 / 12
    assert found.var(axis=0) == pytest.approx([expected] * 2, rel=5 * (2 / 300) ** 0.5)
    assert mechanism.tracking.bit_noises == (12 / 20, 12 / 20)


@pytest.mark.parametrize("mechanism", ["gaussian", "tree"])
def test_a_leaf_that_was_used_up_gives_its_noise_to_correlated_mechanisms_alone(mechanism: str) -> None:
    privacy = {"mechanism": mechanism, "clip_norm": 0.5, "noise_multiplier": 0.5, "delta": 1e-5, "honaker": False}
    made = tasks.prepare(task.parse_mapping({**TASK, "privacy": privacy})).mechanism
    one_by_one, skipping, fresh = (made.noise(bytes(32), released=first) for first in (0, 0, 1))
    first, second = one_by_one.through(0), one_by_one.through(1)
    after_a_gap = skipping.through(1)
    expected = first + second if mechanism == "tree" else second
    assert (after_a_gap == expected).all()
    if mechanism == "gaussian":
        assert (fresh.through(1) == second).all()


def test_a_vector_with_a_larger_bit_is_not_taken() -> None:
    mechanism = tasks.prepare(task.parse_mapping(TASK)).mechanism
    assert isinstance(mechanism, CentralMechanism)
    vector = np.zeros(mechanism.sum_length, np.int32)
    vector[-1] = 1
    assert mechanism.accepts(vector)
    vector[-1] = 2
    assert not mechanism.accepts(vector)
    assert not mechanism.accepts(vector[:-1])


def test_bits_that_cost_as_much_as_everything_are_refused() -> None:
    privacy = {**TASK["privacy"], "noise_multiplier": 1.2}
    with pytest.raises(task.TaskFormError, match="raise their noise"):
        tasks.prepare(task.parse_mapping({**TASK, "privacy": privacy}))


def test_a_target_epsilon_is_met_with_the_bits_included() -> None:
    privacy = {**TASK["privacy"], "noise_multiplier": None, "epsilon": 20.0}
    mechanism = tasks.prepare(task.parse_mapping({**TASK, "privacy": privacy})).mechanism
    assert 19.9 < accounting.price(events.from_json(mechanism.event(3)), 1e-5).epsilon <= 20.0


def test_secure_sums_carry_the_bits_as_vectors_of_their_own(tmp_path: Path) -> None:
    result = tutti.run(
        {**SECURE, "aggregation": {**SECURE["aggregation"], "ideal": True}}, store=str(tmp_path), workers=0, seed=1
    )
    committed = [body for body in bodies_of(tmp_path, "round-outcome") if body["result"] == "committed"]
    assert len(committed) == result["rounds"] > 0
    parts = committed[-1]["event"]["parts"]
    assert [part["dimension"] for part in parts] == [parts[0]["dimension"], 4, 1]
    assert "clip_norm" in {name for _, name, _ in followed(tmp_path)}


def test_a_device_scales_a_secure_update_and_the_server_scales_it_back() -> None:
    prepared = tasks.prepare(task.parse_mapping({**SECURE, "privacy": {**SECURE["privacy"], "noise_multiplier": 1e-4}}))
    assert isinstance(prepared.mechanism, DistributedMechanism)
    mechanism = prepared.mechanism.restored({"clip_norm": 0.125})
    body = mechanism.plan_bytes(
        spec=prepared.spec, run="r", round_index=0, leaf=0, model_digest="d", ledger_checkpoint="00" * 32
    )
    decoded = plan.decode(body)
    encoder = encoding.encoder_of(decoded)
    delta = stream(2, "delta").normal(size=encoder.dimension).astype(np.float32)
    coins = stream(3, "coins")
    vectors = [encoder.encode(delta * scale, coins.bytes) for scale in (1.0, 1e-4) * 8]
    total = np.sum(vectors, axis=0, dtype=np.int64)
    summed, _ = mechanism.decode(total, count=16, seed=plan.rotation_seed(decoded))
    norm = float(np.linalg.norm(delta.astype(np.float64)))
    expected = 8 * delta * (min(1.0, 0.125 / norm) + 1e-4 * min(1.0, 0.125 / (1e-4 * norm)))
    assert np.linalg.norm(summed - expected) < 0.02 * np.linalg.norm(expected)
    after = mechanism.after(total, count=16, seed=plan.rotation_seed(decoded), leaf=0)
    assert after.tuned["clip_norm"].value == pytest.approx(0.125, rel=0.07)  # half of them are below


def test_a_scale_follows_the_sum_and_the_charge_stays() -> None:
    privacy, aggregation = {**SECURE["privacy"], "noise_multiplier": 0.05}, {**SECURE["aggregation"], "bits": 8}
    mechanism = tasks.prepare(task.parse_mapping({**SECURE, "privacy": privacy, "aggregation": aggregation})).mechanism
    assert isinstance(mechanism, DistributedMechanism)
    quiet = stream(4, "noise").normal(0, mechanism.update.local_sigma * 20**0.5, mechanism.sum_length).round().astype(np.int64)
    after = mechanism.after(quiet, count=20, seed=bytes(32), leaf=0)
    assert after.update.scale > mechanism.update.scale
    assert after.events([20, 18]) == mechanism.events([20, 18])
    assert mechanism.restored({name: one.value for name, one in after.tuned.items()}) == after
    for count in (14, 20):
        for alpha in (2, 8, 64):
            tuned, base = (
                accounting.curves.curve(one.update.event(count, one.update.corrupt)).rdp(alpha) for one in (after, mechanism)
            )
            assert tuned <= base * (1 + 1e-9)


def test_poisson_cohorts_are_amplified_and_their_size_is_on_no_record(tmp_path: Path) -> None:
    result = tutti.run(POISSON, store=str(tmp_path), workers=0, seed=1)
    sampled = {key: POISSON["privacy"][key] for key in ("mechanism", "clip_norm", "noise_multiplier", "delta")}
    plain = tasks.prepare(task.parse_mapping({**POISSON, "privacy": sampled})).mechanism
    without = accounting.price(events.from_json(plain.event(3)), 1e-5).epsilon
    assert result["rounds"] == 3
    assert result["privacy"]["adjacency"] == "add-or-remove"
    assert result["privacy"]["epsilon"] < 0.6 * without
    bodies = bodies_of(tmp_path)
    assert {body["reported"] for body in bodies if body.get("result") == "committed"} == {0}
    assert {body["floor"] for body in bodies if body["kind"] == "round-charged"} == {0}
    assert [body["facts"]["adjacency"] for body in bodies if body["kind"] == "run-registered"] == ["add-or-remove"]
    assert not [body for body in bodies if body["kind"] == "assumption-checked"]
    assert not [body for body in bodies if body["kind"] == "run-registered" and "devices" in body["facts"]]
    with stores.opened(str(tmp_path)) as (database, _):
        for row in database.rounds(result["run"]):
            assert not {"cohort", "shapes", "smallest_separation", "most_participations"} & set(row.facts)
            assert row.reported == 0
            assert row.facts["virtual_s"] is None


def test_a_round_that_nobody_was_drawn_for_is_released_as_any_other(tmp_path: Path) -> None:
    privacy = {**POISSON["privacy"], "sampling_rate": 1e-9}
    assert tutti.run({**POISSON, "privacy": privacy}, store=str(tmp_path), workers=0, seed=1)["rounds"] == 3


def test_an_empty_cohort_without_noise_leaves_the_model_a_number() -> None:
    bare = {**POISSON, "privacy": {**POISSON["privacy"], "noise_multiplier": 0.0}}
    mechanism = tasks.prepare(task.parse_mapping(bare)).mechanism
    assert not mechanism.private
    assert mechanism.denominator(0) == 12.0


def test_poisson_sampling_is_refused_where_devices_come_by_themselves(tmp_path: Path) -> None:
    with pytest.raises(TuttiError, match="Poisson") as refused:
        tutti.run(POISSON, store=str(tmp_path), transport="grpc", workers=1)
    assert refused.value.code is ErrorCode.MECHANISM_UNSUPPORTED


@pytest.mark.slow
def test_bits_travel_over_grpc_too(tmp_path: Path) -> None:
    result = tutti.run({**TASK, "rounds": 2}, store=str(tmp_path), transport="grpc", seed=1, workers=1)
    assert result["rounds"] == 2
    assert [covered for covered, _, _ in followed(tmp_path)] == [0, 0, 1, 1]


@pytest.mark.slow
def test_the_protocol_carries_bits_and_tuned_scales(tmp_path: Path) -> None:
    result = tutti.run(SECURE, store=str(tmp_path), workers=0, seed=1)
    assert result["rounds"] > 0
    assert {name for _, name, _ in followed(tmp_path)} >= {"clip_norm"}
