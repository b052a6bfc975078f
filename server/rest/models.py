"""Models leave here, and only after the entry that carries their cost is committed."""

import base64
import json
from typing import Annotated

from fastapi import APIRouter, Path, Response

from contract.errors import ErrorCode, TuttiError
from privacy.ledger.entries import EntryKind
from server.rest import approvals, caching
from server.rest.access import Reader, ServicesOf, find_run
from server.rest.caching import IfNoneMatch
from server.rest.problems import describes
from server.rest.runs import READ_ONE, RunName
from server.rest.services import Services
from server.store import blobs
from server.store.values import Run, RunState, StoredModel

router = APIRouter(prefix="/v1", tags=["models"])
_OCTETS = {
    200: {
        "description": "Parameters as little-endian float32, shape (d,).",
        "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
    }
}


@router.get(
    "/runs/{run}/models/{round}",
    response_class=Response,
    responses={**_OCTETS, **READ_ONE, **caching.NOT_MODIFIED, **describes(ErrorCode.ENTRY_NOT_COMMITTED)},
)
def download(
    services: ServicesOf,
    principal: Reader,
    run: RunName,
    count: Annotated[int, Path(alias="round", ge=0, le=10_000_000, description="Rounds behind the model; 0 is the start.")],
    if_none_match: IfNoneMatch = None,
) -> Response:
    """The parameters after a number of rounds; 409 until their ledger entry is committed (and the release approved, where asked)."""
    found = find_run(services, principal, run)
    model = committed_model(services, found, count)
    if caching.matches(model.digest, if_none_match):
        return Response(status_code=304, headers=caching.headers(model.digest))
    digest = base64.b64encode(bytes.fromhex(model.digest)).decode()
    headers = {
        **caching.headers(model.digest),
        "Repr-Digest": f"sha-256=:{digest}:",
        "Content-Disposition": f'attachment; filename="{found.id[:12]}-{count}.f32"',
    }
    return Response(blobs.pack_parameters(model.parameters), media_type="application/octet-stream", headers=headers)


def committed_model(services: Services, run: Run, count: int) -> StoredModel:
    """The model after `count` rounds, once its entry is in the ledger.

    Guarantee: no parameters leave before the entry that names their digest is committed.

    Raises:
      TuttiError: ENTRY_NOT_COMMITTED before, NOT_FOUND if there will be none or it was not kept.
    """
    going_on = run.state in (RunState.RUNNING, RunState.PAUSED)
    if going_on and count > run.next_round:
        raise TuttiError(ErrorCode.ENTRY_NOT_COMMITTED, f"run {run.id[:12]} has not committed {count} rounds")
    model = services.store.model(run.id, count)
    if count and not _on_record(services, run, model):
        raise TuttiError(ErrorCode.ENTRY_NOT_COMMITTED, f"the model after {count} rounds has no ledger entry")
    if count and not approvals.released(services, run, model.digest):
        raise TuttiError(
            ErrorCode.ENTRY_NOT_COMMITTED, f"the model after {count} rounds waits for a privacy officer's approval"
        )
    return model


def _on_record(services: Services, run: Run, model: StoredModel) -> bool:
    if model.entry is None:
        return False
    entry = services.store.ledger.entry(model.entry)
    facts = json.loads(entry.body)
    outcome = entry.kind == EntryKind.ROUND_OUTCOME.value and facts["result"] == "committed"
    return outcome and facts["run"] == run.id and facts["model_digest"] == model.digest
