"""What is written of a round, on both engines: one transaction or nothing, and of old models those that are kept."""

from typing import Any

import numpy as np
import pytest
from sqlalchemy import select
from sqlalchemy.exc import NoResultFound

from contract import task
from contract.errors import ErrorCode, TuttiError
from privacy.ledger import entries
from server.store import round_rows
from server.store.store import Store, parameters_digest
from server.store.tables import ModelRow
from server.store.values import RunState, StoredModel

SPEC = task.parse_mapping({"population": "p", "model": {"name": "mlp"}, "cohort": {"report_goal": 4}, "rounds": 1_000})
EVENT: dict[str, Any] = {"kind": "unbounded", "reason": "none"}


def model(run: str, count: int) -> StoredModel:
    parameters = np.full(4, count, np.float32)
    digest = parameters_digest(parameters.tobytes())
    return StoredModel(run=run, round=count, digest=digest, parameters=parameters, optimizer={}, entry=None)


def body(run: str, number: int) -> bytes:
    return entries.round_charged(population="p", run=run, round_index=number, leaf=number, event=EVENT, floor=1)


@pytest.fixture
def run(store: Store) -> str:
    """A run without rounds; nothing is checked of its entries."""
    name, ordinal = store.next_run_id(SPEC)
    store.register_run(
        spec=SPEC, ordinal=ordinal, settings={}, entry=body(name, 0), start=model(name, 0), noise_key_id=None
    )  # fmt: skip
    return name


def charge(store: Store, run: str, number: int, *, leaf: int) -> None:
    store.charge(run=run, round_index=number, leaf=leaf, entry=body(run, number), sum_seal="s")


def commit(store: Store, run: str, number: int, *, final: bool = False) -> None:
    store.commit_round(
        run=run, round_index=number, entry=body(run, number), model=model(run, number + 1), reported=4, facts={"loss": 1.5},
        final=final,
    )  # fmt: skip


def kept(store: Store) -> list[int]:
    with store.transactions.read() as session:
        return list(session.scalars(select(ModelRow.round).order_by(ModelRow.round)))


def test_the_next_leaf_follows_the_one_that_was_charged(store: Store, run: str) -> None:
    charge(store, run, 0, leaf=0)
    commit(store, run, 0)
    charge(store, run, 2, leaf=1)  # round 1 was abandoned before its charge
    commit(store, run, 2)
    found = store.run(run)
    assert (found.next_round, found.next_leaf, found.attempts, found.state) == (3, 2, 2, RunState.RUNNING)
    rounds = store.rounds(run)
    assert [(row.index, row.leaf, row.state, row.reported, row.facts) for row in rounds] == [
        (0, 0, "committed", 4, {"loss": 1.5}), (2, 1, "committed", 4, {"loss": 1.5}),
    ]  # fmt: skip
    assert (rounds[1].charge_entry, rounds[1].outcome_entry, rounds[1].sum_seal) == (3, 4, "s")
    assert store.model(run).entry == 4


@pytest.mark.parametrize("charged", [False, True])
def test_an_abandoned_round_keeps_the_charge_that_it_has(store: Store, run: str, *, charged: bool) -> None:
    if charged:
        charge(store, run, 0, leaf=0)
    store.abandon_round(
        run=run, round_index=0, leaf=0, entry=body(run, 0), reason="internal", leaf_used=charged, facts={"a": 1}, final=charged
    )
    (row,) = store.rounds(run)
    assert (row.state, row.reason, row.leaf, row.facts) == ("abandoned", "internal", 0, {"a": 1})
    assert (row.charge_entry, row.sum_seal) == ((1, "s") if charged else (None, None))
    found = store.run(run)
    assert (found.next_round, found.next_leaf, found.attempts) == (1, int(charged), 1)
    assert found.state is (RunState.COMPLETED if charged else RunState.RUNNING)


def test_a_round_that_was_never_charged_is_not_committed_and_leaves_nothing(store: Store, run: str) -> None:
    with pytest.raises(NoResultFound):
        commit(store, run, 0)
    assert (store.tree_head().size, kept(store), store.run(run).attempts) == (1, [0], 0)
    charge(store, run, 0, leaf=0)
    commit(store, run, 0, final=True)
    assert store.run_state(run) is RunState.COMPLETED


def test_a_run_that_is_not_there_has_no_state(store: Store) -> None:
    with pytest.raises(NoResultFound):
        store.set_run_state("nobody", RunState.PAUSED)
    with pytest.raises(TuttiError) as refused:
        store.run_state("nobody")
    assert refused.value.code is ErrorCode.NOT_FOUND


def test_facts_are_added_to_those_that_are_there(store: Store, run: str) -> None:
    store.add_facts(run, 0, {"lost": True})
    assert store.rounds(run) == []
    charge(store, run, 0, leaf=0)
    commit(store, run, 0)
    store.add_facts(run, 0, {"rho": None, "epsilon": 0.5})
    store.add_facts(run, 0, {"epsilon": 1.0})
    assert store.rounds(run)[0].facts == {"loss": 1.5, "rho": None, "epsilon": 1.0}


def test_models_that_go_are_told_by_their_rounds_alone_also_after_a_gap(store: Store, run: str) -> None:
    for number in (*range(6), 60, 99, 100, 101, 199, 203, 204):
        charge(store, run, number, leaf=number)
        commit(store, run, number)
        newest = number + 1
        assert kept(store) == [
            count
            for count in (*range(7), 61, 100, 101, 102, 200, 204, 205)
            if count <= newest and (count > newest - round_rows.KEEP_LAST or count % round_rows.KEEP_EVERY == 0)
        ]
    assert kept(store) == [0, 100, 200, 204, 205]
