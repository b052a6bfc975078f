"""Whether the rows of runs, rounds and models say what the entries of their run say: one run after another, each in one pass.

Of a run's settings, what its registration says is compared: what a seed fixes, the first index of shared records, the engine, the number
of devices. Nothing that is promised depends on the others (the seeds' values, the transport, which data), and no entry holds them: equal
runs leave equal entries, and a digest of data would tell of whoever is in it. Not covered either: the id of a run's key and when it was
made, the facts of a round (progress and plots), the seal of a sum, the values of an optimiser's state (only that they can be read), and
all tables of the service around the ledger.
"""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, cast

from sqlalchemy import select
from sqlalchemy.orm import Session

from contract import canonical, task
from contract.errors import TuttiError
from privacy.ledger import forms
from privacy.ledger.entries import EntryKind
from privacy.ledger.problems import LedgerProblem, ProblemKind
from server.store import blobs, filing
from server.store.tables import LedgerEntryRow, ModelRow, RoundRow, RunRow
from server.store.values import RunState

_SEEDS = (("simulation", "seed"), ("noise", "noise_seed"))
"""What is said to be fixed, and the setting that fixes it."""
_REGISTERED, _CHARGED, _OUTCOME = (
    kind.value for kind in (EntryKind.RUN_REGISTERED, EntryKind.ROUND_CHARGED, EntryKind.ROUND_OUTCOME)
)


@dataclass(frozen=True, slots=True)
class _Told:
    """What the entries of one run say, each with its index: its registration, and charge and outcome by round."""

    registered: dict[str, Any] = field(default_factory=dict[str, Any])
    charges: dict[int, tuple[int, dict[str, Any]]] = field(default_factory=dict[int, tuple[int, dict[str, Any]]])
    outcomes: dict[int, tuple[int, dict[str, Any]]] = field(default_factory=dict[int, tuple[int, dict[str, Any]]])

    def committed(self) -> dict[int, tuple[int, dict[str, Any]]]:
        """Outcomes with a model, by round."""
        return {number: found for number, found in self.outcomes.items() if found[1]["result"] == "committed"}


def runs(session: Session) -> Iterator[LedgerProblem]:
    """Every run that is registered or has a row."""
    registered = set(session.scalars(select(LedgerEntryRow.run).where(LedgerEntryRow.kind == _REGISTERED)))
    rows = set(session.scalars(select(RunRow.id)))
    for run in sorted(rows - registered):
        yield _problem(ProblemKind.ROW_WITHOUT_ENTRY, None, f"run {run[:12]} is in the store and was never registered")
    for run in sorted(name for name in registered - rows if name):
        yield _problem(ProblemKind.ENTRY_WITHOUT_ROW, None, f"run {run[:12]} was registered and is not in the store")
    for run in sorted(rows):
        told = _told(session, run)
        if told.registered:
            yield from _run(session.get_one(RunRow, run), told)
        yield from _rounds(session, run, told)
        yield from _models(session, run, told)


def _told(session: Session, run: str) -> _Told:
    told = _Told()
    query = select(LedgerEntryRow.index, LedgerEntryRow.body).where(LedgerEntryRow.run == run).order_by(LedgerEntryRow.index)
    for index, body in session.execute(query.execution_options(yield_per=filing.PAGE)):
        try:
            facts = forms.read(body)
        except ValueError:
            continue  # complained of where entries are verified
        kind, number = facts["kind"], facts.get("round")
        if kind == _REGISTERED and not told.registered:
            told.registered.update(facts)
        elif kind in (_CHARGED, _OUTCOME) and number is not None:
            slim = {name: value for name, value in facts.items() if name not in ("event", "colluding")}
            (told.charges if kind == _CHARGED else told.outcomes).setdefault(number, (index, slim))
    return told


def _run(row: RunRow, told: _Told) -> Iterator[LedgerProblem]:
    registered, planned = told.registered, told.registered["task"]
    rounds = planned["rounds"] if isinstance(planned.get("rounds"), int) else 0
    last = told.outcomes[max(told.outcomes)][1] if told.outcomes else None
    used = last is not None and (last.get("result") == "committed" or bool(last.get("leaf_used")))
    leaf = 0 if last is None else last.get("leaf", 0) + int(used)
    expected = {
        "population": registered["population"], "task_digest": registered["task_digest"],
        "task_name": planned.get("name"), "next_round": 0 if last is None else max(told.outcomes) + 1,
        "next_leaf": leaf, "attempts": len(told.outcomes),
    }  # fmt: skip
    if canonical.digest({"task": row.task_digest, "ordinal": row.ordinal}) != row.id:
        yield _differs(row.id, f"its row has ordinal {row.ordinal}, which does not give its id")
    for name, value in expected.items():
        if getattr(row, name) != value:
            yield _differs(row.id, f"its row has {name} {getattr(row, name)!r}, and the entries say {value!r}")
    if not _holds(_plain(row.spec), planned):
        yield _differs(row.id, "the task in its row is not the one that was registered")
    yield from (_differs(row.id, fault) for fault in _settings(row.settings, registered))
    over, states = leaf >= rounds, {state.value for state in RunState}
    if row.state not in states or (row.state == RunState.COMPLETED.value) > over:
        yield _differs(row.id, f"its row has state {row.state!r}, and the entries say that {leaf} of {rounds} rounds are over")


def _settings(written: str, registered: dict[str, Any]) -> Iterator[str]:
    """What the settings of a run's row say otherwise than its registration."""
    settings = filing.facts_of(written.encode())
    if settings is None:
        yield "the settings in its row cannot be read"
        return
    fixed = [name for name, key in _SEEDS if settings.get(key) is not None]
    if fixed != registered["seeded"]:
        yield f"by its row, seeds fix {fixed}, and the entries say {registered['seeded']}"
    facts = registered["facts"]
    for name in ("shared_records", "engine", *(("devices",) if "devices" in facts else ())):
        if settings.get(name) != facts.get(name):
            yield f"its row has {name} {settings.get(name)!r}, and the entries say {facts.get(name)!r}"


def _plain(spec: str) -> object:
    try:
        return canonical.plain(task.parse_mapping(json.loads(spec)))
    except (ValueError, TypeError, TuttiError):
        return None


def _holds(found: object, registered: object) -> bool:
    """Whether a task is the one that was registered; it may have keys that were added since."""
    if isinstance(found, dict) and isinstance(registered, dict):
        whole, part = cast(dict[str, object], found), cast(dict[str, object], registered)
        return all(name in whole and _holds(whole[name], value) for name, value in part.items())
    return found == registered


def _rounds(session: Session, run: str, told: _Told) -> Iterator[LedgerProblem]:
    seen = set[int]()
    for row in session.scalars(select(RoundRow).where(RoundRow.run == run).order_by(RoundRow.index)):
        seen.add(row.index)
        charge, outcome = told.charges.get(row.index), told.outcomes.get(row.index)
        for index, found, kind in ((row.charge_entry, charge, _CHARGED), (row.outcome_entry, outcome, _OUTCOME)):
            if index is not None and (found is None or found[0] != index):
                detail = f"round {row.index} of run {run[:12]} names it as its {kind} entry"
                yield _problem(ProblemKind.ROW_WITHOUT_ENTRY, index, detail)
            elif index is None and found is not None:
                detail = f"it is the {kind} entry of round {row.index} of run {run[:12]}, whose row names none"
                yield _problem(ProblemKind.ENTRY_WITHOUT_ROW, found[0], detail)
        if row.state == "committed" and (row.charge_entry is None or row.outcome_entry is None):
            detail = f"round {row.index} of run {run[:12]} is committed"
            yield _problem(ProblemKind.REVEAL_WITHOUT_CHARGE, row.outcome_entry, detail)
        yield from _round(row, charge, outcome)
    for found in (told.charges, told.outcomes):
        for number in sorted(set(found) - seen):
            detail = f"it is of round {number} of run {run[:12]}, which is not in the store"
            yield _problem(ProblemKind.ENTRY_WITHOUT_ROW, found[number][0], detail)


def _round(
    row: RoundRow, charge: tuple[int, dict[str, Any]] | None, outcome: tuple[int, dict[str, Any]] | None
) -> Iterator[LedgerProblem]:
    index, facts = outcome or charge or (None, {})
    expected: dict[str, Any] = {
        "state": "charged" if outcome is None else facts.get("result"), "leaf": facts.get("leaf"),
        "reported": facts.get("reported", 0), "model_digest": facts.get("model_digest"), "reason": facts.get("reason"),
    }  # fmt: skip
    for name, value in expected.items():
        if getattr(row, name) != value:
            detail = f"round {row.index} of run {row.run[:12]} has {name} {getattr(row, name)!r} in its row, and its entry says {value!r}"
            yield _problem(ProblemKind.ROW_DIFFERS, index, detail)


def _models(session: Session, run: str, told: _Told) -> Iterator[LedgerProblem]:
    committed, start = told.committed(), told.registered.get("facts", {}).get("start_digest")
    query = select(ModelRow).where(ModelRow.run == run).order_by(ModelRow.round).execution_options(yield_per=1)
    newest = -1
    for row in session.scalars(query):
        newest = row.round
        what = "the start" if row.round == 0 else f"the model after {row.round} rounds"
        index, facts = committed.get(row.round - 1, (None, None))
        if row.round == 0:
            named = not told.registered or row.digest == start
        else:
            named = facts is not None and (row.entry, row.digest) == (index, facts["model_digest"])
        if not named:
            detail = (
                f"{what} of run {run[:12]} has no committed entry"
                if row.round
                else f"{what} of run {run[:12]} was not registered"
            )
            yield _problem(ProblemKind.MODEL_WITHOUT_ENTRY, row.entry, detail)
        if hashlib.sha256(row.parameters).hexdigest() != row.digest:
            yield _problem(
                ProblemKind.MODEL_CHANGED, row.entry, f"the parameters of {what} of run {run[:12]} are not those of its digest"
            )
        if not _readable(row.optimizer):
            yield _problem(
                ProblemKind.MODEL_CHANGED,
                row.entry,
                f"the optimiser's state after {row.round} rounds of run {run[:12]} cannot be read",
            )
        session.expunge(row)
    expected = max(committed, default=-1) + 1
    if newest != expected:
        detail = (
            f"the newest model of run {run[:12]} is after {newest} rounds in the store, and after {expected} in its entries"
        )
        yield _problem(ProblemKind.ENTRY_WITHOUT_ROW, None, detail)


def _readable(state: bytes) -> bool:
    try:
        blobs.unpack_state(state)
    except ValueError:
        return False
    return True


def _differs(run: str, detail: str) -> LedgerProblem:
    return _problem(ProblemKind.ROW_DIFFERS, None, f"run {run[:12]}: {detail}")


def _problem(kind: ProblemKind, entry: int | None, detail: str) -> LedgerProblem:
    return LedgerProblem(kind=kind, entry=entry, detail=detail)
