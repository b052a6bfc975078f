"""Rounds as rows: what is written of a round once it is fully aggregated, by statements that are made once and load nothing.

A statement that finds its row gone raises, and with it the transaction is undone.
"""

import json
from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, bindparam, delete, func, insert, select, update
from sqlalchemy.exc import NoResultFound

from server.store import blobs
from server.store.statements import Statement
from server.store.tables import ModelRow, RoundRow, RunRow, table
from server.store.values import RunState, StoredModel

KEEP_LAST = 3
KEEP_EVERY = 100
_RUNS, _ROUNDS, _MODELS = table(RunRow), table(RoundRow), table(ModelRow)
_THIS = (_ROUNDS.c.run == bindparam("of_run"), _ROUNDS.c.round_index == bindparam("of_round"))
_THIS_ROUND = update(_ROUNDS).where(*_THIS)
_ADD_ROUND = Statement(insert(_ROUNDS).inline(), columns=_ROUNDS.c.keys())
_ADD_MODEL = Statement(insert(_MODELS).inline(), columns=_MODELS.c.keys())
_COMMIT = Statement(_THIS_ROUND, columns=("state", "reported", "outcome_entry", "model_digest", "facts"))
_ABANDON = Statement(_THIS_ROUND, columns=("state", "reason", "outcome_entry", "facts"))
_KNOWN = Statement(select(_ROUNDS.c.facts).where(*_THIS).with_for_update())
_TELL = Statement(_THIS_ROUND, columns=("facts",))
_RUN = update(_RUNS).where(_RUNS.c.id == bindparam("of_run"))
_STATE, _SET_STATE = (
    Statement(select(_RUNS.c.state).where(_RUNS.c.id == bindparam("of_run"))),
    Statement(_RUN, columns=("state",)),
)
_LEAF = select(_ROUNDS.c.leaf).where(*_THIS).scalar_subquery()
_MOVE_ON = Statement(
    _RUN.values(
        next_round=bindparam("following"),
        next_leaf=_LEAF + bindparam("leaves_used", type_=_ROUNDS.c.leaf.type),
        attempts=_RUNS.c.attempts + 1,
        state=func.coalesce(bindparam("over", type_=_RUNS.c.state.type), _RUNS.c.state),
    )
)
_PRUNE = Statement(
    delete(_MODELS).where(
        _MODELS.c.run == bindparam("of_run"),
        _MODELS.c.round_count <= bindparam("until"),
        _MODELS.c.round_count % KEEP_EVERY != 0,
    )
)


def charge(connection: Connection, *, run: str, round_index: int, leaf: int, charge_entry: int, sum_seal: str | None) -> None:
    """A round whose worst case is on the record, and nothing else of it."""
    _insert(
        connection, run=run, round_index=round_index, leaf=leaf, state="charged", sum_seal=sum_seal, charge_entry=charge_entry,
        facts={},
    )  # fmt: skip


def commit(
    connection: Connection,
    *,
    run: str,
    round_index: int,
    outcome_entry: int,
    model: StoredModel,
    reported: int,
    facts: Mapping[str, Any],
    final: bool,
) -> None:
    """A charged round's outcome, its model and the run's position.

    Raises:
      NoResultFound: if the run or the charged round is not there.
    """
    this = {"of_run": run, "of_round": round_index}
    outcome = {
        "state": "committed", "reported": reported, "outcome_entry": outcome_entry, "model_digest": model.digest,
        "facts": json.dumps(dict(facts)),
    }  # fmt: skip
    _change(connection, _COMMIT, {**this, **outcome})
    add_model(connection, model, entry=outcome_entry)
    _move_on(connection, run=run, round_index=round_index, leaf_used=True, final=final)
    _PRUNE.on(connection, {"of_run": run, "until": model.round - KEEP_LAST})


def abandon(
    connection: Connection,
    *,
    run: str,
    round_index: int,
    leaf: int,
    outcome_entry: int,
    reason: str,
    leaf_used: bool,
    facts: Mapping[str, Any],
    final: bool,
) -> None:
    """A round without a model, charged before or not.

    Raises:
      NoResultFound: if the run is not there.
    """
    outcome = {"state": "abandoned", "reason": reason, "outcome_entry": outcome_entry}
    found = _ABANDON.on(connection, {"of_run": run, "of_round": round_index, "facts": json.dumps(dict(facts)), **outcome})
    if found.rowcount == 0:
        _insert(connection, run=run, round_index=round_index, leaf=leaf, facts=facts, **outcome)
    _move_on(connection, run=run, round_index=round_index, leaf_used=leaf_used, final=final)


def add_facts(connection: Connection, *, run: str, round_index: int, facts: Mapping[str, Any]) -> None:
    """More of a round's facts; nothing happens to a round that is not on the record."""
    this = {"of_run": run, "of_round": round_index}
    known = _KNOWN.on(connection, this).scalar()
    if known is not None:
        _TELL.on(connection, {**this, "facts": json.dumps({**json.loads(known), **facts})})


def add_model(connection: Connection, model: StoredModel, *, entry: int | None) -> None:
    """A model's parameters and its optimiser's state, as they lie in memory."""
    row = {
        "run": model.run, "round_count": model.round, "digest": model.digest,
        "parameters": blobs.parameters_bytes(model.parameters), "optimizer": blobs.pack_state(model.optimizer), "entry": entry,
    }  # fmt: skip
    _ADD_MODEL.on(connection, row)


def run_state(connection: Connection, run: str) -> RunState | None:
    """Whether a run goes on; None if there is no run of this id."""
    state = _STATE.on(connection, {"of_run": run}).scalar()
    return None if state is None else RunState(state)


def set_run_state(connection: Connection, run: str, state: RunState) -> None:
    """Pauses, resumes, ends a run.

    Raises:
      NoResultFound: if it is not there.
    """
    _change(connection, _SET_STATE, {"of_run": run, "state": state.value})


def _move_on(connection: Connection, *, run: str, round_index: int, leaf_used: bool, final: bool) -> None:
    """After a round whose row is there."""
    over = RunState.COMPLETED.value if final else None
    moved = {"of_run": run, "of_round": round_index, "following": round_index + 1, "leaves_used": int(leaf_used), "over": over}
    _change(connection, _MOVE_ON, moved)


def _insert(connection: Connection, *, facts: Mapping[str, Any], **told: str | int | None) -> None:
    nothing = dict.fromkeys(("reason", "sum_seal", "charge_entry", "outcome_entry", "model_digest"))
    _ADD_ROUND.on(connection, {**nothing, "reported": 0, **told, "facts": json.dumps(dict(facts))})


def _change(connection: Connection, statement: Statement, values: Mapping[str, Any]) -> None:
    if statement.on(connection, values).rowcount != 1:
        where = ", ".join(f"{name.removeprefix('of_')} {values[name]!r}" for name in ("of_run", "of_round") if name in values)
        raise NoResultFound(f"no row was found where one is required: {where}")
