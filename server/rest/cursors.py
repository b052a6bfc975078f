"""Cursor pages: an opaque cursor says after which item a page begins, so that new items never shift a page."""

import base64
import binascii
from collections.abc import Callable, Sequence
from typing import Annotated, TypeVar

from fastapi import Query

from contract.errors import ErrorCode, TuttiError

Row = TypeVar("Row")
MOST_ITEMS = 500
Limit = Annotated[int, Query(ge=1, le=MOST_ITEMS, description="Items on a page.")]
Cursor = Annotated[
    str | None,
    Query(max_length=400, pattern="^[A-Za-z0-9_-]+$", description="`next` of the page before; the first page without it."),
]


def encode(position: str) -> str:
    """The cursor of a position.

    >>> encode("100")
    'MTAw'
    """
    return base64.urlsafe_b64encode(position.encode()).decode().rstrip("=")


def decode(cursor: str) -> str:
    """The position that `encode` wrote.

    Raises:
      TuttiError: ARGUMENT_INVALID for anything else.
    """
    try:
        return base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        raise TuttiError(ErrorCode.ARGUMENT_INVALID, "cursor: no page of ours ended there") from None


def number(cursor: str | None, *, default: int) -> int:
    """The position as a count of 32 bits, or `default` without a cursor.

    Raises:
      TuttiError: ARGUMENT_INVALID if it is no number.
    """
    if cursor is None:
        return default
    text = decode(cursor)
    if not (text.isascii() and text.isdigit()) or len(text) > 10 or int(text) >= 2**31 - 1:
        raise TuttiError(ErrorCode.ARGUMENT_INVALID, "cursor: no page of ours ended there")
    return int(text)


def cut(rows: Sequence[Row], limit: int, position: Callable[[Row], str]) -> tuple[Sequence[Row], str | None]:
    """The first `limit` of at least `limit + 1` rows that were read, and the cursor if there are more."""
    if len(rows) <= limit:
        return rows, None
    return rows[:limit], encode(position(rows[limit - 1]))
