"""A central and a distributed run on real data: their ledgers verify, their reports are whole, and no change to either goes unnoticed."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jsonschema
import pytest

import tutti
from privacy.ledger import export
from privacy.ledger.notes import SignerKey
from privacy.ledger.problems import ProblemKind
from privacy.ledger.verification import LoggedEntry, verify
from privacy.report import check, json_schema, run_report, to_markdown
from server.store.crosscheck import verify_store
from tutti import stores

pytestmark = pytest.mark.slow
SMALL = {"report_goal": 12, "minimum_reports": 10, "over_selection": 1.5, "max_participations": 2}
RUNS: Mapping[str, dict[str, Any]] = {
    "tree": {
        "name": "chat", "population": "keyboard", "model": {"name": "next_word_small"}, "cohort": SMALL, "rounds": 2,
        "training": {"max_examples": 16}, "privacy": {"mechanism": "tree", "clip_norm": 0.3, "noise_multiplier": 2.0, "delta": 1e-5},
    },
    "ddg": {
        "name": "selection", "population": "selection", "model": {"name": "text_selection"}, "rounds": 2,
        "cohort": SMALL, "training": {"max_examples": 8},
        "privacy": {"mechanism": "ddg", "clip_norm": 0.05, "noise_multiplier": 1.0, "delta": 1e-5},
        "aggregation": {"secure": True, "ideal": True, "minimum_survivors": 10, "corrupt_fraction": 0.1},
    },
}  # fmt: skip
DATA = {"tree": "irc_chat.jsonl.gz", "ddg": "text_selection.jsonl.gz"}


@pytest.mark.timeout(600)
@pytest.mark.parametrize("mechanism", RUNS)
def test_real_run_is_reported_whole_and_every_tampering_is_found(shared_data: Path, tmp_path: Path, mechanism: str) -> None:
    tutti.run(RUNS[mechanism], data=str(shared_data / DATA[mechanism]), store=str(tmp_path), workers=0, seed=1)
    key = stores.ledger_key(str(tmp_path)).signer()
    with stores.opened(str(tmp_path)) as (database, _):
        kept = database.ledger.sign(key)
        assert verify_store(database, key=key.verifier, since=(kept,)).problems == ()
        bodies = [entry.body for entry in database.entries()]
    report = run_report(bodies, checkpoint=kept)
    jsonschema.validate(json.loads(json.dumps(report)), json_schema(), cls=jsonschema.Draft202012Validator)
    assert check(report, bodies) == []
    assert report["entries"]["known_head"]["size"] == 0
    assert report["guarantee"]["epsilon"] > 0
    assert (report["guarantee"]["colluding"] is not None) == (mechanism == "ddg")
    assert not [line for line in report["assumptions"] if line["status"] == "violated"]
    assert {line["name"]: line["status"] for line in report["assumptions"]}["max-participations"] == "checked"
    assert "TODO" not in to_markdown(report)
    report["guarantee"]["epsilon"] /= 2
    assert check(report, bodies) != []
    for place in range(len(bodies)):
        tampered = [*bodies[:place], bodies[place].replace(b'"population"', b'"Population"'), *bodies[place + 1 :]]
        for forged in (tampered, [*bodies[:place], *bodies[place + 1 :]]):
            assert found(forged, key, kept)
    swapped = [bodies[1], bodies[0], *bodies[2:]]
    assert found(swapped, key, kept)
    assert found(bodies, SignerKey(key.name, bytes(32)), kept)


def found(bodies: list[bytes], key: SignerKey, kept: str) -> set[ProblemKind]:
    """What is wrong with a forged ledger that its forger signed, for somebody who kept a checkpoint."""
    from privacy.ledger import merkle
    from privacy.ledger.checkpoint import Checkpoint

    note = Checkpoint(key.name, len(bodies), merkle.frontier(map(merkle.leaf_hash, bodies)).root()).sign(key)
    exported = export.read(export.lines(key.verifier, bodies, [note]))
    entries = [LoggedEntry(entry.index, entry.body, entry.leaf) for entry in exported.entries]
    verdict = verify(entries, key=exported.key, checkpoints=exported.checkpoints, since=[kept])
    return {problem.kind for problem in verdict.problems} & {ProblemKind.FORKED, ProblemKind.REMOVED, ProblemKind.RESIGNED}
