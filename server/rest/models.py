"""Models leave here, and only after the entry that carries their cost, and one that says that they left, are committed."""

import base64
from typing import Annotated

from fastapi import APIRouter, Path, Response

from contract.errors import ErrorCode
from server import releases
from server.rest import caching
from server.rest.access import Reader, ServicesOf, find_run
from server.rest.caching import IfNoneMatch
from server.rest.problems import describes
from server.rest.runs import READ_ONE, RunName
from server.store import blobs

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
    responses={**_OCTETS, **READ_ONE, **caching.NOT_MODIFIED, **describes(ErrorCode.ENTRY_NOT_COMMITTED, ErrorCode.LEASE_HELD)},
)
def download(
    services: ServicesOf,
    principal: Reader,
    run: RunName,
    count: Annotated[int, Path(alias="round", ge=0, le=10_000_000, description="Rounds behind the model; 0 is the start.")],
    if_none_match: IfNoneMatch = None,
) -> Response:
    """The parameters after a number of rounds; 409 until their ledger entry is committed (and the release approved, where asked).

    The first answer is on the record before it is given.
    """
    found = find_run(services, principal, run)
    model = releases.release(services.store, found, count, to="REST")
    if caching.matches(model.digest, if_none_match):
        return Response(status_code=304, headers=caching.headers(model.digest))
    digest = base64.b64encode(bytes.fromhex(model.digest)).decode()
    headers = {
        **caching.headers(model.digest),
        "Repr-Digest": f"sha-256=:{digest}:",
        "Content-Disposition": f'attachment; filename="{found.id[:12]}-{count}.f32"',
    }
    return Response(blobs.pack_parameters(model.parameters), media_type="application/octet-stream", headers=headers)
