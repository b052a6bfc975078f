"""Approvals on the record: who let a run start, or a model leave."""

from privacy.ledger import entries
from server.store.values import Run, StoredModel
from server.tokens import Principal

KIND = entries.EntryKind.APPROVAL.value


def entry(principal: Principal, run: Run, *, what: str, model: StoredModel | None = None) -> bytes:
    """The approval of a `start`, or of the `release` of a model, by the holder of a token."""
    return entries.approval(
        population=run.spec.population,
        run=run.id,
        what=what,
        model_digest=None if model is None else model.digest,
        by=f"token {principal.id}",
    )
