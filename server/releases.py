"""Models leave the store here: by a committed entry that carries their cost, by an approval where one is asked for, and on the record.

Guarantee: whoever gets parameters from `release` gets them after the outcome entry that names their digest, and after a `model-released`
entry, is committed.
"""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from contract.errors import ErrorCode, TuttiError
from privacy.ledger import entries
from server.policies import Policies
from server.store import filing
from server.store.ledger import Ledger
from server.store.store import Store
from server.store.values import Run, RunState, StoredModel

APPROVAL, RELEASED, REGISTERED = (
    kind.value for kind in (entries.EntryKind.APPROVAL, entries.EntryKind.MODEL_RELEASED, entries.EntryKind.RUN_REGISTERED)
)


def release(store: Store, run: Run, count: int | None, *, to: str) -> StoredModel:
    """The model after `count` rounds (the newest unless given), once it may leave; its first way out to each place is an entry.

    Args:
      to: where it goes, such as "REST" or "export"; never to whom.

    Raises:
      TuttiError: ENTRY_NOT_COMMITTED before its entry is committed or its release approved; NOT_FOUND if there will be none or it was
        not kept; LEASE_HELD if its release cannot be put on the record here, since another server owns the population.
    """
    model = committed(store, run, count)
    if model.round == 0:
        return model  # the start is a function of the public task
    if not approved(store, run, model.digest):
        raise TuttiError(
            ErrorCode.ENTRY_NOT_COMMITTED, f"the model after {model.round} rounds waits for a privacy officer's approval"
        )
    record(store, run, model, to=to)
    return model


def committed(store: Store, run: Run, count: int | None = None) -> StoredModel:
    """The model after `count` rounds, once its entry is in the ledger.

    Raises:
      TuttiError: ENTRY_NOT_COMMITTED before, NOT_FOUND if there will be none or it was not kept; LEDGER_BROKEN if what is kept is not
        what was registered (the start) or committed.
    """
    going_on = run.state in (RunState.RUNNING, RunState.PAUSED)
    if count is not None and going_on and count > run.next_round:
        raise TuttiError(ErrorCode.ENTRY_NOT_COMMITTED, f"run {run.id[:12]} has not committed {count} rounds")
    model = store.model(run.id, count)
    if model.round == 0:
        _require_start(store.ledger, run, model)
    elif not _on_record(store.ledger, run, model):
        raise TuttiError(ErrorCode.ENTRY_NOT_COMMITTED, f"the model after {model.round} rounds has no ledger entry")
    return model


def approved(store: Store, run: Run, digest: str) -> bool:
    """Whether the model with this digest may leave: its approval is on the record, or none is needed."""
    if not Policies(store.transactions, store.ledger).approval_required(run.spec.population):
        return True
    found = _facts(store.ledger, run, APPROVAL)
    return any(facts["what"] == "release" and facts["model_digest"] == digest for facts in found)


def record(store: Store, run: Run, model: StoredModel, *, to: str) -> None:
    """Puts a release on the record unless it is there; returns when it is committed.

    Raises:
      TuttiError: LEASE_HELD if another server owns the population.
    """

    def same(facts: Mapping[str, Any]) -> bool:
        return facts["model_digest"] == model.digest and facts["to"] == to

    if any(map(same, _facts(store.ledger, run, RELEASED))):
        return  # most releases are not the first, and read without the ledger's lock
    entry = entries.model_released(
        population=run.spec.population, run=run.id, round_index=model.round - 1, model_digest=model.digest, to=to
    )
    store.ledger.append_once(entry, run=run.id, kind=RELEASED, same=same)


def _facts(ledger: Ledger, run: Run, kind: str) -> Iterator[dict[str, Any]]:
    return (json.loads(entry.body) for entry in ledger.entries(run=run.id, kind=kind))


def _require_start(ledger: Ledger, run: Run, model: StoredModel) -> None:
    """The start needs no approval, so nothing else may stand in its place."""
    if not any(facts["facts"].get("start_digest") == model.digest for facts in _facts(ledger, run, REGISTERED)):
        raise TuttiError(ErrorCode.LEDGER_BROKEN, f"the start of run {run.id[:12]} is not the one that it was registered with")


def _on_record(ledger: Ledger, run: Run, model: StoredModel) -> bool:
    if model.entry is None:
        return False
    facts = filing.facts_of(ledger.entry(model.entry).body) or {}
    expected = (entries.EntryKind.ROUND_OUTCOME.value, run.id, model.round - 1, model.digest)
    return expected == tuple(facts.get(name) for name in ("kind", "run", "round", "model_digest"))
