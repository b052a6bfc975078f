"""No parameters leave the store but by a committed entry, an approval where one is asked for, and an entry that says that they left."""

import json
from pathlib import Path

import pytest
from sqlalchemy import text

from contract import task
from contract.errors import ErrorCode, TuttiError
from privacy.ledger.entries import EntryKind
from server import releases
from server.policies import Policies
from server.store.store import Store
from tutti import exports, runs, stores

SPEC = task.parse_mapping(
    {
        "name": "small",
        "population": "people",
        "model": {"name": "mlp"},
        "data": {"source": "synthetic", "devices": 40},
        "cohort": {"report_goal": 5, "over_selection": 1.5, "minimum_reports": 3},
        "training": {"batch_size": 10, "max_examples": 10, "learning_rate": 0.1},
        "privacy": {"mechanism": "tree", "clip_norm": 0.5, "noise_multiplier": 5.0, "delta": 1e-5},
        "rounds": 2,
    }
)


SWAP = "UPDATE models SET digest = n.digest, parameters = n.parameters FROM models n"


def released(store: Store, run: str) -> list[tuple[int, str]]:
    found = store.ledger.entries(run=run, kind=EntryKind.MODEL_RELEASED.value)
    return [(facts["round"], facts["to"]) for facts in (json.loads(entry.body) for entry in found)]


def test_the_first_way_out_to_each_place_is_an_entry(tmp_path: Path) -> None:
    run = runs.run(SPEC, store=str(tmp_path / "store"), workers=0, seed=1)["run"]
    with stores.opened(str(tmp_path / "store")) as (store, _):
        found = store.run(run)
        assert released(store, run) == []
        for _ in range(2):
            assert releases.release(store, found, 2, to="REST").round == 2
            exports.export(store, found, tmp_path / "model")
        assert releases.release(store, found, 0, to="REST").round == 0  # a function of the public task
        assert released(store, run) == [(1, "REST"), (1, "export")]


def test_nothing_is_exported_and_no_run_starts_here_where_another_person_must_agree(tmp_path: Path) -> None:
    run = runs.run(SPEC, store=str(tmp_path / "store"), workers=0, seed=1)["run"]
    with stores.opened(str(tmp_path / "store")) as (store, _):
        policies = Policies(store.transactions, store.ledger)
        policies.set_approval("people", required=True, reason="policy", by="token abcdefgh")
        with pytest.raises(TuttiError) as refused:
            exports.export(store, store.run(run), tmp_path / "model")
        assert refused.value.code is ErrorCode.ENTRY_NOT_COMMITTED
        assert not (tmp_path / "model").exists()
        assert released(store, run) == []
        before = store.tree_head().size
    with pytest.raises(TuttiError) as refused:
        runs.run(SPEC, store=str(tmp_path / "store"), workers=0, seed=1)
    assert refused.value.code is ErrorCode.FORBIDDEN
    with stores.opened(str(tmp_path / "store")) as (store, _):
        assert store.tree_head().size == before
        policies = Policies(store.transactions, store.ledger)
        policies.set_approval("people", required=False, reason="over", by="token abcdefgh")
        assert not policies.approval_required("people")
        exports.export(store, store.run(run), tmp_path / "model")


def test_a_release_that_cannot_be_put_on_the_record_does_not_happen(tmp_path: Path) -> None:
    run = runs.run(SPEC, store=str(tmp_path / "store"), workers=0, seed=1)["run"]
    with stores.opened(str(tmp_path / "store")) as (store, _), stores.opened(str(tmp_path / "store")) as (other, _):
        other.leases.take("people", "another server")
        with pytest.raises(TuttiError) as refused:
            releases.release(store, store.run(run), 2, to="REST")
        assert refused.value.code is ErrorCode.LEASE_HELD


@pytest.mark.parametrize(
    ("change", "count"),
    [
        ("UPDATE models SET parameters = zeroblob(length(parameters)) WHERE round_count = 2", 2),
        ("UPDATE models SET optimizer = x'00ff' WHERE round_count = 2", 2),
        ("UPDATE models SET round_count = 7 WHERE round_count = 1", 7),
        (f"{SWAP} WHERE models.round_count = 1 AND n.round_count = 2", 1),
        (f"{SWAP} WHERE models.round_count = 0 AND n.round_count = 2", 0),
    ],
)  # fmt: skip
def test_a_model_that_was_changed_in_the_store_does_not_leave(tmp_path: Path, change: str, count: int) -> None:
    run = runs.run(SPEC, store=str(tmp_path / "store"), workers=0, seed=1)["run"]
    with stores.opened(str(tmp_path / "store")) as (store, _):
        found = store.run(run)
        assert releases.committed(store, found, 0).round == 0
        with store.transactions.begin() as session:
            session.execute(text(change))
        with pytest.raises(TuttiError) as refused:
            releases.release(store, found, count, to="REST")
        assert refused.value.code in (ErrorCode.LEDGER_BROKEN, ErrorCode.ENTRY_NOT_COMMITTED)
        assert released(store, run) == []
