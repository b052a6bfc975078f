"""Approvals on the record: who let a run start, or a model leave."""

import json

from privacy.ledger import entries
from server.rest.services import Services
from server.store.values import Run, StoredModel
from server.tokens import Principal

APPROVAL = entries.EntryKind.APPROVAL.value


def record(services: Services, principal: Principal, run: Run, *, what: str, model: StoredModel | None = None) -> None:
    """Appends the approval of a `start`, or of the `release` of a model, by the holder of a token."""
    entry = entries.approval(
        population=run.spec.population,
        run=run.id,
        what=what,
        model_digest=None if model is None else model.digest,
        by=f"token {principal.id}",
    )
    released_now = (
        ()
        if model is None
        else (
            entries.model_released(
                population=run.spec.population, run=run.id, round_index=model.round - 1, model_digest=model.digest, to="REST"
            ),
        )
    )
    services.store.ledger.append(entry, *released_now)


def released(services: Services, run: Run, model_digest: str) -> bool:
    """Whether the model with this digest may leave: its approval is on the record, or none is needed."""
    if not services.policies.approval_required(run.spec.population):
        return True
    approvals = services.store.ledger.entries(run=run.id, kind=APPROVAL)
    facts = (json.loads(entry.body) for entry in approvals)
    return any(fact["what"] == "release" and fact["model_digest"] == model_digest for fact in facts)
