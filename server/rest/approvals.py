"""Approvals on the record: who let a run start, or a model leave."""

import json

from privacy.ledger import entries
from server.rest.services import Services
from server.store.values import Run
from server.tokens import Principal

APPROVAL = entries.EntryKind.APPROVAL.value


def record(services: Services, principal: Principal, run: Run, *, subject: str, reason: str) -> None:
    """Appends the approval of `subject` ("start", or "model DIGEST") by the holder of a token."""
    entry = entries.approval(
        population=run.spec.population, run=run.id, subject=subject, approved_by=f"{principal.name} ({principal.id})", reason=reason
    )
    services.store.ledger.append(entry)


def released(services: Services, run: Run, model_digest: str) -> bool:
    """Whether the model with this digest may leave: its approval is on the record, or none is needed."""
    if not services.policies.approval_required(run.spec.population):
        return True
    approvals = services.store.ledger.entries(run=run.id, kind=APPROVAL)
    return any(json.loads(entry.body)["subject"] == f"model {model_digest}" for entry in approvals)
