"""What the simulator's oracle saw becomes entries, and the report says checked or violated accordingly."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from client_sim.oracle import ParticipationOracle
from contract import canonical, task
from privacy import events
from privacy.ledger import entries
from privacy.report import run_report
from server.store.store import Store, parameters_digest
from server.store.values import Run, RunState, StoredModel
from tutti.findings import record_findings

SPEC = task.parse_mapping(
    {
        "population": "p", "model": {"name": "mlp"}, "rounds": 4,
        "cohort": {"report_goal": 2, "minimum_separation": 1, "max_participations": 2},
        "privacy": {"mechanism": "tree", "clip_norm": 1.0, "noise_multiplier": 7.0, "delta": 1e-6},
    }
)  # fmt: skip


def event(leaves: int) -> dict[str, Any]:
    return events.to_json(events.TreeEvent(noise_multiplier=7.0, leaves=leaves, minimum_separation=1, max_participations=2))


def registered(store: Store) -> Run:
    name, ordinal = store.next_run_id(SPEC)
    start = np.zeros(2, np.float32)
    digest = parameters_digest(start.tobytes())
    body = canonical.plain(SPEC)
    assert isinstance(body, dict)
    entry = entries.run_registered(
        population="p", run=name, task=body, task_digest=SPEC.digest, code_digest="c", planned=event(4), seeded=("simulation",),
        facts={"unit": "device", "adjacency": "zero-out", "not_covered": [], "start_digest": digest},
    )  # fmt: skip
    model = StoredModel(run=name, round=0, digest=digest, parameters=start, optimizer={}, entry=None)
    run = store.register_run(spec=SPEC, ordinal=ordinal, settings={}, entry=entry, start=model, noise_key_id=None)
    store.charge(
        run=name, round_index=0, leaf=0, sum_seal=None,
        entry=entries.round_charged(population="p", run=name, round_index=0, leaf=0, event=event(4), floor=1),
    )  # fmt: skip
    return run


@pytest.mark.parametrize(
    ("releases", "statuses"),
    [
        ([[0, 1], [2, 3], [0, 1]], ["checked", "checked"]),
        ([[0, 1], [0, 2]], ["violated", "checked"]),
        ([[0], [1], [0], [1], [0]], ["checked", "violated"]),
        ([[0, 0]], ["violated", "checked"]),
    ],
)  # fmt: skip
def test_oracle_is_heard_once_the_run_is_over(tmp_path: Path, releases: list[list[int]], statuses: list[str]) -> None:
    store = Store.open(str(tmp_path))
    run = registered(store)
    oracle = ParticipationOracle(num_devices=4, minimum_separation=1, max_participations=2)
    for release, devices in enumerate(releases):
        oracle.observe(release, np.array(devices))
    record_findings(store, run, oracle)
    assert not list(store.ledger.entries(kind="assumption-checked"))
    store.set_run_state(run.id, RunState.COMPLETED)
    for _ in range(2):
        record_findings(store, run, oracle)
    found = [json.loads(entry.body) for entry in store.ledger.entries(kind="assumption-checked")]
    assert [facts["status"] for facts in found] == statuses
    assert {facts["evidence"] for facts in found} == {oracle.evidence}
    report = run_report([entry.body for entry in store.entries()])
    told = {line["name"]: line["status"] for line in report["assumptions"]}
    assert [told["minimum-separation"], told["max-participations"]] == statuses
    violated = [line for line in report["first_lines"] if line.startswith("VIOLATED")]
    assert len(violated) == statuses.count("violated")
    if statuses[0] == "violated":
        assert report["guarantee"]["epsilon"] is None
    store.close()


@pytest.mark.parametrize("reloaded", [False, True])
def test_a_rule_that_is_broken_after_a_thousand_others_is_on_the_record(tmp_path: Path, *, reloaded: bool) -> None:
    """What the oracle keeps of single violations is examples: the rule that is broken last counts as the first."""
    store = Store.open(str(tmp_path))
    run = registered(store)
    several = np.arange(ParticipationOracle.MOST_KEPT + 5)
    oracle = ParticipationOracle(num_devices=len(several), minimum_separation=1, max_participations=2)
    for release in (0, 10, 20):
        oracle.observe(release, several)
    assert oracle.broken == {"participations"}
    oracle.observe(21, several)
    if reloaded:
        again = ParticipationOracle(num_devices=len(several), minimum_separation=1, max_participations=2)
        again.load(oracle.dump())
        oracle = again
    assert {violation.rule for violation in oracle.violations} == {"participations"}
    assert oracle.broken == {"participations", "separation"}
    assert oracle.num_violations == 3 * len(several)
    store.set_run_state(run.id, RunState.COMPLETED)
    record_findings(store, run, oracle)
    report = run_report([entry.body for entry in store.entries()])
    assert report["first_lines"][0].startswith("NO GUARANTEE")
    assert {line["name"] for line in report["assumptions"] if line["status"] == "violated"} == {
        "minimum-separation",
        "max-participations",
    }
    store.close()


def test_a_dump_that_holds_examples_only_leaves_no_rule_out() -> None:
    oracle = ParticipationOracle(num_devices=2, minimum_separation=1, max_participations=2)
    oracle.observe(0, np.array([0]))
    oracle.observe(1, np.array([0]))
    head, _, body = oracle.dump().partition(b"\n")
    older = {name: value for name, value in json.loads(head).items() if name != "broken"}
    for num_violations, broken in ((1, {"separation"}), (2, {"separation", "participations"})):
        oracle.load(json.dumps({**older, "num_violations": num_violations}).encode() + b"\n" + body)
        assert oracle.broken == broken
