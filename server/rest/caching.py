"""ETags on what never changes: entries, proofs, models of a round, rounds with an outcome."""

from typing import Annotated, Any

from fastapi import Header, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel

IfNoneMatch = Annotated[str | None, Header(max_length=1000, description="An ETag that the client has.")]
NOT_MODIFIED: dict[int | str, dict[str, Any]] = {304: {"description": "The client has it."}}


def immutable(body: BaseModel, *, tag: str, if_none_match: str | None) -> Response:
    """`body` under the strong ETag `tag`, or 304 if the client has it."""
    if matches(tag, if_none_match):
        return Response(status_code=304, headers=headers(tag))
    return JSONResponse(body.model_dump(), headers=headers(tag))


def headers(tag: str) -> dict[str, str]:
    """The headers of something that never changes, for whoever was allowed to see it."""
    return {"ETag": f'"{tag}"', "Cache-Control": "private, max-age=31536000, immutable", "Vary": "Authorization"}


def matches(tag: str, if_none_match: str | None) -> bool:
    """Whether the client has the thing with this tag.

    >>> matches("a", 'W/"b", "a"'), matches("a", None)
    (True, False)
    """
    if if_none_match is None:
        return False
    known = [part.strip().removeprefix("W/") for part in if_none_match.split(",")]
    return f'"{tag}"' in known or "*" in known
