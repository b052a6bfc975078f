"""A store that was tampered with past its triggers is found out, entry by entry and row by row; budgets hold across runs."""

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from sqlalchemy import text

from contract import canonical, task
from contract.errors import ErrorCode, TuttiError
from privacy import events
from privacy.ledger import entries
from privacy.ledger.problems import ProblemKind
from server import budgets
from server.budgets import Budget, BudgetGuard
from server.store.crosscheck import verify_store
from server.store.signing import LedgerKey
from server.store.store import Store, parameters_digest
from server.store.values import StoredModel
from tutti.commands import ledger as command

SPEC = task.parse_mapping(
    {
        "population": "p", "model": {"name": "a.stub:model"}, "cohort": {"report_goal": 20, "minimum_separation": 1}, "rounds": 3,
        "privacy": {"mechanism": "tree", "clip_norm": 1.0, "noise_multiplier": 7.0, "delta": 1e-6},
    }
)  # fmt: skip


def event(leaves: int, **changes: Any) -> dict[str, Any]:
    return events.to_json(events.TreeEvent(**{"noise_multiplier": 7.0, "leaves": leaves, "minimum_separation": 1} | changes))


def model(run: str, count: int) -> StoredModel:
    parameters = np.full(4, count, np.float32)
    return StoredModel(
        run=run, round=count, digest=parameters_digest(parameters.tobytes()), parameters=parameters, optimizer={}, entry=None
    )


def register(store: Store, *, seeded: tuple[str, ...] = ()) -> str:
    run, ordinal = store.next_run_id(SPEC)
    entry = entries.run_registered(
        population="p", run=run, task=_task(), task_digest=SPEC.digest, code_digest="c", planned=event(3), seeded=seeded,
        facts={"unit": "device", "adjacency": "zero-out", "not_covered": [], "start_digest": model(run, 0).digest},
    )  # fmt: skip
    store.register_run(spec=SPEC, ordinal=ordinal, settings={}, entry=entry, start=model(run, 0), noise_key_id=None)
    return run


def _task() -> Any:
    return canonical.plain(SPEC)


def play(store: Store, run: str, number: int) -> None:
    at = {"population": "p", "run": run, "round_index": number, "leaf": number, "event": event(number + 1)}
    store.charge(run=run, round_index=number, leaf=number, entry=entries.round_charged(**at, floor=16), sum_seal="s")
    after = model(run, number + 1)
    store.commit_round(
        run=run, round_index=number, entry=entries.round_committed(**at, reported=20, model_digest=after.digest), model=after,
        reported=20, facts={}, final=number == 2,
    )  # fmt: skip


@pytest.fixture
def played(tmp_path: Path) -> Iterator[Store]:
    """A store of one run with three rounds, whose triggers somebody dropped."""
    store = Store.open(str(tmp_path))
    run = register(store)
    for number in range(3):
        play(store, run, number)
    store.ledger.sign(LedgerKey(tmp_path).signer())
    with store.transactions.begin() as session:
        for (name,) in session.execute(text("SELECT name FROM sqlite_master WHERE type = 'trigger'")).all():
            session.execute(text(f"DROP TRIGGER {name}"))
    yield store
    store.close()


def kinds(store: Store, tmp_path: Path, *statements: str) -> set[ProblemKind]:
    with store.transactions.begin() as session:
        for statement in statements:
            session.execute(text(statement))
    return {problem.kind for problem in verify_store(store, key=LedgerKey(tmp_path).verifier()).problems}


def test_store_as_it_was_written_verifies(store: Store, tmp_path: Path) -> None:
    run = register(store)
    for number in range(3):
        play(store, run, number)
    store.ledger.sign(LedgerKey(tmp_path).signer())
    assert verify_store(store, key=LedgerKey(tmp_path).verifier()).problems == ()


@pytest.mark.parametrize(
    ("statement", "found"),
    [
        (
            "UPDATE ledger_entries SET body = CAST(replace(body, '20', '21') AS BLOB) WHERE entry_index = 2",
            {ProblemKind.EDITED},
        ),
        ("DELETE FROM ledger_entries WHERE entry_index = 2", {ProblemKind.OUT_OF_PLACE, ProblemKind.REMOVED, ProblemKind.TREE}),
        ("DELETE FROM ledger_entries WHERE entry_index = 6", {ProblemKind.REMOVED, ProblemKind.MODEL_WITHOUT_ENTRY}),
        ("UPDATE ledger_nodes SET hashes = zeroblob(32) WHERE leaf = 1", {ProblemKind.TREE}),
        ("DELETE FROM ledger_nodes WHERE leaf = 3", {ProblemKind.TREE}),
        ("UPDATE tree_head SET size = 6", {ProblemKind.TREE}),
        ("UPDATE models SET entry = NULL WHERE round_count = 2", {ProblemKind.MODEL_WITHOUT_ENTRY}),
        ("UPDATE models SET digest = 'other' WHERE round_count = 3", {ProblemKind.MODEL_WITHOUT_ENTRY}),
        ("UPDATE rounds SET charge_entry = NULL WHERE round_index = 1", {ProblemKind.REVEAL_WITHOUT_CHARGE}),
        ("UPDATE rounds SET outcome_entry = 2 WHERE round_index = 1", {ProblemKind.ROW_WITHOUT_ENTRY}),
        ("UPDATE runs SET id = 'ghost'", {ProblemKind.ROW_WITHOUT_ENTRY, ProblemKind.ENTRY_WITHOUT_ROW}),
        ("UPDATE ledger_entries SET population = 'zzz' WHERE entry_index = 2", {ProblemKind.MISFILED}),
        ("UPDATE ledger_entries SET run = 'zzz' WHERE entry_index = 6", {ProblemKind.MISFILED}),
        ("UPDATE ledger_entries SET run = NULL WHERE entry_index = 1", {ProblemKind.MISFILED}),
        ("UPDATE ledger_entries SET kind = 'audit-recorded' WHERE entry_index = 3", {ProblemKind.MISFILED}),
        ("UPDATE ledger_entries SET body = x'ff00' WHERE entry_index = 4", {ProblemKind.EDITED, ProblemKind.MALFORMED}),
        ("UPDATE ledger_entries SET body = CAST('[]' AS BLOB) WHERE entry_index = 0", {ProblemKind.MALFORMED}),
        ("DELETE FROM tree_head", {ProblemKind.TREE}),
        ("UPDATE models SET parameters = zeroblob(16) WHERE round_count = 3", {ProblemKind.MODEL_CHANGED}),
        ("UPDATE models SET optimizer = x'00ff' WHERE round_count = 3", {ProblemKind.MODEL_CHANGED}),
        ("UPDATE models SET round_count = 1000 WHERE round_count = 3", {ProblemKind.MODEL_WITHOUT_ENTRY}),
        (
            "UPDATE models SET digest = m.digest, parameters = m.parameters FROM models m "  # noqa: ISC004 - one statement
            "WHERE models.round_count = 0 AND m.round_count = 3",
            {ProblemKind.MODEL_WITHOUT_ENTRY},
        ),
        ("DELETE FROM models WHERE round_count = 3", {ProblemKind.ENTRY_WITHOUT_ROW}),
        ("DELETE FROM rounds WHERE round_index = 1", {ProblemKind.ENTRY_WITHOUT_ROW}),
        ("UPDATE rounds SET state = 'abandoned', outcome_entry = NULL WHERE round_index = 2", {ProblemKind.ROW_DIFFERS}),
        ("UPDATE rounds SET reported = 5000 WHERE round_index = 1", {ProblemKind.ROW_DIFFERS}),
        ("UPDATE rounds SET model_digest = '00' WHERE round_index = 1", {ProblemKind.ROW_DIFFERS}),
        ("UPDATE runs SET state = 'running', next_round = 0", {ProblemKind.ROW_DIFFERS}),
        ("UPDATE runs SET next_leaf = 2", {ProblemKind.ROW_DIFFERS}),
        ("UPDATE runs SET population = 'mine'", {ProblemKind.ROW_DIFFERS}),
        ("UPDATE runs SET ordinal = 4", {ProblemKind.ROW_DIFFERS}),
        ("UPDATE runs SET spec = replace(spec, '7.0', '70.0')", {ProblemKind.ROW_DIFFERS}),
        ("UPDATE runs SET spec = 'no json'", {ProblemKind.ROW_DIFFERS}),
        ("UPDATE runs SET settings = 'no json'", {ProblemKind.ROW_DIFFERS}),
        ("""UPDATE runs SET settings = '{"noise_seed": 7}'""", {ProblemKind.ROW_DIFFERS}),
        ("""UPDATE runs SET settings = '{"shared_records": 3}'""", {ProblemKind.ROW_DIFFERS}),
        ("""UPDATE runs SET settings = '{"engine": "tff 0.87"}'""", {ProblemKind.ROW_DIFFERS}),
    ],
)
def test_tampering_past_the_triggers_is_found(played: Store, tmp_path: Path, statement: str, found: set[ProblemKind]) -> None:
    assert kinds(played, tmp_path) == set()
    assert found <= kinds(played, tmp_path, "PRAGMA defer_foreign_keys = ON", statement, *_mend(statement))


def test_a_seed_that_was_taken_out_of_the_settings_is_found(store: Store, tmp_path: Path) -> None:
    register(store, seeded=("noise",))
    found = verify_store(store, key=LedgerKey(tmp_path).verifier()).problems
    assert [problem.kind for problem in found] == [ProblemKind.ROW_DIFFERS]
    assert found[0].detail.endswith("by its row, seeds fix [], and the entries say ['noise']")


def _mend(statement: str) -> list[str]:
    return ["UPDATE models SET run = 'ghost'", "UPDATE rounds SET run = 'ghost'"] if "ghost" in statement else []


def test_the_length_of_anybodys_model_is_that_of_the_start_in_the_store(played: Store, tmp_path: Path) -> None:
    key = LedgerKey(tmp_path).verifier()
    assert verify_store(played, key=key, length_of=lambda _: 4).ok
    told = [problem.detail for problem in verify_store(played, key=key, length_of=lambda _: 5).problems]
    assert told == ["the start has 4 parameters, and the task's model 5"]

    spec = task.replace(SPEC, model={"name": "somebody.elses:model"})
    run, ordinal = played.next_run_id(spec)
    drawn = {"law": events.Law.ROUNDED_GAUSSIAN, "distance_log2": -128}
    short = event(3, draws=4, **drawn)  # numbers of one node, and a tree of three leaves has more
    entry = entries.run_registered(
        population="p", run=run, task=canonical.plain(spec), task_digest=spec.digest, code_digest="c", planned=short, seeded=(),
        facts={"unit": "device", "adjacency": "zero-out", "not_covered": [], "start_digest": model(run, 0).digest},
    )  # fmt: skip
    played.register_run(spec=spec, ordinal=ordinal, settings={}, entry=entry, start=model(run, 0), noise_key_id=None)
    assert any("a model of 4 parameters takes" in problem.detail for problem in verify_store(played, key=key).problems)


@pytest.mark.parametrize("change", ["run = 'zzz'", "population = 'zzz'", "kind = 'audit-recorded'", "body = x'ff00'"])
def test_no_list_overlooks_an_entry_that_is_filed_under_something_else(played: Store, tmp_path: Path, change: str) -> None:
    budgets.set_budget(played.ledger, "p", Budget(epsilon=1e-9, delta=1e-6), reason="policy", by="op")
    with played.transactions.begin() as session:
        session.execute(text(f"UPDATE ledger_entries SET {change} WHERE entry_index = 7"))
    fresh = Store.open(str(tmp_path))
    run = fresh.runs()[0].id
    for looked in (
        lambda: BudgetGuard(fresh.ledger, population="p", run=run).check_round({"event": event(3)}),
        lambda: budgets.spending(fresh.ledger, "p"),
        lambda: list(fresh.entries(run=run)),
        lambda: list(fresh.ledger.entries(kind="approval")),
        lambda: fresh.ledger.append_once(b"{}", run=run, kind="approval", same=lambda _: False),
    ):
        with pytest.raises(TuttiError, match="entry 7 of the ledger was changed") as told:
            looked()
        assert told.value.code is ErrorCode.LEDGER_BROKEN
    assert len(list(fresh.entries())) == 8  # what is there can still be exported
    fresh.close()


@pytest.mark.parametrize("change", ["DELETE FROM ledger_entries WHERE entry_index = 7", "DELETE FROM tree_head"])
def test_no_list_is_of_fewer_entries_than_there_were(played: Store, tmp_path: Path, change: str) -> None:
    budgets.set_budget(played.ledger, "p", Budget(epsilon=1e-9, delta=1e-6), reason="policy", by="op")
    with played.transactions.begin() as session:
        session.execute(text(change))
    fresh = Store.open(str(tmp_path))
    with pytest.raises(TuttiError, match="the ledger was changed") as told:
        budgets.spending(fresh.ledger, "p")
    assert told.value.code is ErrorCode.LEDGER_BROKEN
    fresh.close()


def test_export_of_a_rewritten_store_is_found_by_the_checkpoint_that_was_kept(
    played: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kept, out = tmp_path / "kept.txt", tmp_path / "export.jsonl"
    command.sign_checkpoint(out=kept, store=str(tmp_path))
    command.export_ledger(out=out, store=str(tmp_path))
    command.verify_ledger(from_export=out, since=[kept], json_output=True)
    assert json.loads(capsys.readouterr().out)["ok"] is True

    lines = out.read_text().splitlines()
    facts = json.loads(lines[2])
    facts["body"] = facts["body"].replace('"floor":16', '"floor":17')
    out.write_text("\n".join([*lines[:2], json.dumps(facts), *lines[3:]]) + "\n")
    with pytest.raises(typer.Exit) as ended:
        command.verify_ledger(from_export=out, since=[kept], json_output=True)
    verdict = json.loads(capsys.readouterr().out)
    assert ended.value.exit_code == ErrorCode.LEDGER_BROKEN.value.exit_code
    assert verdict["ok"] is False
    assert {"kind": "edited", "entry": 1} in [
        {name: problem[name] for name in ("kind", "entry")} for problem in verdict["problems"]
    ]


def test_rotated_key_still_verifies_what_the_old_one_signed(
    played: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kept, old_key = tmp_path / "kept.txt", tmp_path / "known.pub"
    command.sign_checkpoint(out=kept, store=str(tmp_path))
    old_key.write_text(str(LedgerKey(tmp_path).verifier()))
    command.rotate_key(reason="yearly", store=str(tmp_path))
    capsys.readouterr()
    for key in (None, old_key):
        command.verify_ledger(since=[kept], key=key, store=str(tmp_path), json_output=True)
        assert json.loads(capsys.readouterr().out)["ok"] is True


# -- budgets -----------------------------------------------------------------------------------------------------------------------


def refused(guard: BudgetGuard, charge: dict[str, Any], *, planned: bool = False) -> bool:
    try:
        guard.check_run({"event": charge}) if planned else guard.check_round({"event": charge})
    except TuttiError as error:
        if error.code is not ErrorCode.BUDGET_EXCEEDED:
            raise
        return True
    return False


def test_run_that_cannot_fit_is_refused_before_it_is_registered(store: Store) -> None:
    guard = BudgetGuard(store.ledger, population="p")
    assert not refused(guard, event(3, noise_multiplier=0.1), planned=True)
    budgets.set_budget(store.ledger, "p", Budget(epsilon=2.0, delta=1e-6), reason="policy", by="op")
    cost = guard.statement(event(3))
    assert cost.spent == 0
    assert cost.fits == (cost.after is not None and cost.after <= 2.0)
    assert not refused(guard, event(3, noise_multiplier=10.0), planned=True)
    assert refused(guard, event(3, noise_multiplier=1.0), planned=True)
    assert refused(guard, {"kind": "unbounded", "reason": "none", "unit": "device", "adjacency": "zero-out"}, planned=True)
    assert refused(guard, event(3, unit=events.Unit.EXAMPLE), planned=True)
    assert not refused(BudgetGuard(store.ledger, population="q"), event(3, noise_multiplier=0.1), planned=True)


def test_rounds_of_all_runs_of_a_population_share_one_budget(store: Store) -> None:
    first, second = register(store), register(store)
    alone = BudgetGuard(store.ledger, population="p").statement(event(3), delta=1e-6).after
    assert alone is not None
    budgets.set_budget(store.ledger, "p", Budget(epsilon=1.2 * alone, delta=1e-6), reason="policy", by="op")
    guards = {run: BudgetGuard(store.ledger, population="p", run=run) for run in (first, second)}
    for number in range(3):
        assert not refused(guards[first], event(number + 1))
        play(store, first, number)
    assert refused(guards[second], event(3), planned=True)
    allowed = 0
    while not refused(guards[second], event(allowed + 1)):
        play(store, second, allowed)
        allowed += 1
    assert allowed < 3
    spent = BudgetGuard(store.ledger, population="p").statement(None)
    assert spent.spent is not None
    assert alone <= spent.spent <= 1.2 * alone
    budgets.set_budget(store.ledger, "p", Budget(epsilon=2 * alone, delta=1e-6), reason="reviewed", by="op")
    assert not refused(guards[second], event(allowed + 1))


def test_a_budget_that_another_process_sets_holds_from_the_next_look(store: Store, store_url: str) -> None:
    run = register(store)
    guard, other = BudgetGuard(store.ledger, population="p", run=run), Store.open(store_url)
    for number in range(2):
        assert not refused(guard, event(number + 1))
        play(store, run, number)
    tiny = Budget(epsilon=1e-9, delta=1e-6)
    for population, budget, expected in (("q", tiny, False), ("p", tiny, True), ("p", None, False)):
        budgets.set_budget(other.ledger, population, budget, reason="policy", by="op")
        assert refused(guard, event(3)) is expected
    other.close()


def test_of_rounds_charged_at_once_a_budget_admits_those_that_fit_together(store: Store, store_url: str) -> None:
    alone = BudgetGuard(store.ledger, population="p").statement(event(1), delta=1e-6).after
    assert alone is not None
    budgets.set_budget(store.ledger, "p", Budget(epsilon=1.1 * alone, delta=1e-6), reason="policy", by="op")
    stores = [Store.open(store_url) for _ in range(3)]
    runs, start, ends = [register(store) for _ in stores], threading.Barrier(3), list[str]()

    def charge(each: Store, run: str) -> None:
        guard = BudgetGuard(each.ledger, population="p", run=run)
        guard.check_round({"event": event(1)})
        body = entries.round_charged(population="p", run=run, round_index=0, leaf=0, event=event(1), floor=16)
        start.wait()
        try:
            each.charge(
                run=run, round_index=0, leaf=0, entry=body, sum_seal="s",
                admitted=lambda connection: guard.check_round({"event": event(1)}, within=connection),
            )  # fmt: skip
        except TuttiError as error:
            ends.append(error.code.slug)
        else:
            ends.append("charged")

    threads = [threading.Thread(target=charge, args=both) for both in zip(stores, runs, strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(ends) == ["budget-exceeded", "budget-exceeded", "charged"]
    assert len(list(store.ledger.entries(kind="round-charged"))) == 1
    assert sum(len(store.rounds(run)) for run in runs) == 1
    for each in stores:
        each.close()


def test_uncovered_access_breaks_every_budget(store: Store) -> None:
    budgets.set_budget(store.ledger, "p", Budget(epsilon=100.0, delta=1e-6), reason="policy", by="op")
    guard = BudgetGuard(store.ledger, population="p")
    assert not refused(guard, event(3), planned=True)
    store.append_entry(
        entries.parameter_tuned(
            population="p", run=None, parameter="clip_norm", value="0.3", statistic="norms", event=None, reason="first clip"
        )
    )
    assert refused(guard, event(3), planned=True)


def test_a_violation_that_no_price_covers_admits_no_further_round(store: Store) -> None:
    run = register(store)
    budgets.set_budget(store.ledger, "p", Budget(epsilon=100.0, delta=1e-6), reason="policy", by="op")
    guards = [BudgetGuard(store.ledger, population="p", run=name) for name in (run, "another")]
    play(store, run, 0)
    assert not any(refused(guard, event(2)) for guard in guards)
    store.append_entry(
        entries.assumption_checked(
            population="p", run=run, assumption="bounded-contribution", status="violated", measured={"longest": 9}, evidence="e"
        )
    )
    assert all(refused(guard, event(2)) for guard in guards)
    with pytest.raises(
        TuttiError, match=r"bounded-contribution was violated.*another population, or lift.*tutti ledger budget p --lift"
    ):
        guards[1].check_round({"event": event(2)})
    budgets.set_budget(store.ledger, "p", None, reason="devices that were promised nothing", by="op")
    assert not any(refused(guard, event(2)) for guard in guards)


def test_no_budget_has_room_for_noise_from_a_known_seed(store: Store) -> None:
    guard = BudgetGuard(store.ledger, population="p")
    guard.check_run({"event": event(3)}, seeded=("simulation", "noise"))
    budgets.set_budget(store.ledger, "p", Budget(epsilon=100.0, delta=1e-6), reason="policy", by="op")
    guard.check_run({"event": event(3)}, seeded=("simulation",))
    with pytest.raises(TuttiError, match=r"no bound at all.*a seed that is known"):
        guard.check_run({"event": event(3)}, seeded=("simulation", "noise"))
    run = register(store, seeded=("noise",))
    guard = BudgetGuard(store.ledger, population="p", run=run)
    assert refused(guard, event(1))
    play(store, run, 0)
    assert guard.statement(None).spent is None


def test_change_of_budget_needs_a_reason_and_is_on_the_record(store: Store) -> None:
    with pytest.raises(TuttiError, match="reason"):
        budgets.set_budget(store.ledger, "p", None, reason=" ", by="op")
    budgets.set_budget(store.ledger, "p", Budget(epsilon=1.0, delta=1e-6), reason="policy", by="op")
    budgets.set_budget(store.ledger, "p", None, reason="lifted", by="op")
    assert budgets.spending(store.ledger, "p").budget is None
    assert [json.loads(entry.body)["reason"] for entry in store.entries()] == ["policy", "lifted"]
