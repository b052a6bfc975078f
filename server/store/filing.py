"""Whether entries are filed under what their bodies say: the columns that lists are selected by are no part of what is hashed.

Each process checks every entry once, before its first list. The database does it, in a few microseconds an entry; where it finds anything
that it does not take for sound, every entry is read here, one by one, to say which and why.
"""

import json
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, cast

from sqlalchemy import Connection, TextClause, bindparam, func, select, text
from sqlalchemy.exc import DBAPIError

from contract.errors import ErrorCode, TuttiError
from privacy.ledger import merkle
from server.store.statements import Statement
from server.store.tables import LedgerEntryRow, TreeHeadRow, table

PAGE = 1_000
"""Entries that are read at once."""
_ENTRIES, _HEADS = table(LedgerEntryRow), table(TreeHeadRow)
_COLUMNS = (
    _ENTRIES.c.entry_index, _ENTRIES.c.kind, _ENTRIES.c.population, _ENTRIES.c.run, _ENTRIES.c.leaf_hash, _ENTRIES.c.body,
)  # fmt: skip
_FROM_START = select(*_COLUMNS).where(_ENTRIES.c.entry_index >= bindparam("start")).order_by(_ENTRIES.c.entry_index).limit(PAGE)
_STANDS = Statement(
    select(
        select(_HEADS.c.size).where(_HEADS.c.id == 0).scalar_subquery(),
        select(func.coalesce(func.max(_ENTRIES.c.entry_index) + 1, 0)).scalar_subquery(),
    )
)
"""How many entries there are by the tree's head, and by the last of them: in one statement, so of one moment."""
LEAF_HASH = "tutti_leaf_hash"
"""The function by which connections to SQLite reach SHA-256, which it has not of its own."""
_FILED: Mapping[str, TextClause] = MappingProxyType(
    {
        "sqlite": text(
            "SELECT count(*) FROM ledger_entries WHERE entry_index >= :start AND entry_index < :end "
            "AND json_extract(CAST(body AS TEXT), '$.kind', '$.population', '$.run') = json_array(kind, nullif(population, ''), run) "
            "AND json_valid(CAST(body AS TEXT)) AND (SELECT count(*) = count(DISTINCT key) FROM json_each(CAST(body AS TEXT)) "
            "WHERE key IN ('kind', 'population', 'run')) AND leaf_hash = tutti_leaf_hash(body)"
        ),
        "postgresql": text(
            "SELECT count(*) FROM ledger_entries AS entry, "
            "json_to_record(CAST(convert_from(body, 'UTF8') AS json)) AS said(kind text, population text, run text) "
            "WHERE entry_index >= :start AND entry_index < :end AND entry.kind = said.kind "
            "AND entry.population = coalesce(said.population, '') AND entry.run IS NOT DISTINCT FROM said.run "
            "AND leaf_hash = sha256(decode('00', 'hex') || body)"
        ),
    }
)
"""How many entries of a range are filed as their bodies say and have the hash of their bytes beside them.

Of a name that a body has twice, SQLite takes the first and Python, as PostgreSQL, the last; and some versions of SQLite read JSON5.
"""
_MOST_DIGITS = sys.get_int_max_str_digits()
_DIGITS = bytes.maketrans(b"123456789", b"0" * 9)


def text_hash(body: bytes) -> bytes | None:
    """The leaf hash of a body that is a text to SQLite and to Python alike; None for others, which are then read here.

    SQLite ends a text at its first NUL byte, takes any bytes for UTF-8, and reads numbers of any length.

    >>> text_hash(b'{}') == merkle.leaf_hash(b'{}'), text_hash(b'{}\\x00more'), text_hash(b'"\\xff"')
    (True, None, None)
    """
    try:
        if not body.isascii():
            body.decode()
    except UnicodeDecodeError:
        return None
    longer = len(body) > _MOST_DIGITS > 0 and b"0" * (_MOST_DIGITS + 1) in body.translate(_DIGITS)
    return None if longer or b"\x00" in body else merkle.leaf_hash(body)


@dataclass(frozen=True, slots=True)
class FiledEntry:
    """One row of the table."""

    index: int
    kind: str
    population: str
    run: str | None
    leaf_hash: bytes
    body: bytes


def filed_entries(connection: Connection, *, start: int = 0) -> Iterator[FiledEntry]:
    """All rows from index `start` on, page by page."""
    while True:
        rows = connection.execute(_FROM_START, {"start": start}).all()
        for row in rows:
            yield FiledEntry(row[0], row[1], row[2], row[3], row[4], row[5])
        if len(rows) < PAGE:
            return
        start = rows[-1][0] + 1


def columns(facts: dict[str, Any]) -> tuple[str, str, str | None]:
    """Kind, population and run under which an entry is filed; the population of one that belongs to none is empty.

    >>> columns({"kind": "key-rotated", "population": None, "run": None})
    ('key-rotated', '', None)
    """
    return facts["kind"], str(facts.get("population") or ""), facts.get("run")


def facts_of(body: bytes) -> dict[str, Any] | None:
    """What a body says; None unless it is a JSON object."""
    try:
        value = json.loads(body)
    except ValueError:
        return None
    return cast(dict[str, Any], value) if isinstance(value, dict) else None


def misfiled(entry: FiledEntry) -> str | None:
    """What is wrong with the columns of an entry whose body can be read; None if nothing is.

    >>> body = b'{"kind":"budget-set","population":"p","run":null}'
    >>> misfiled(FiledEntry(0, "budget-set", "p", None, b"", body))
    >>> misfiled(FiledEntry(0, "budget-set", "q", None, b"", body))
    "it is filed under population 'q', and its body says 'p'"
    """
    facts = facts_of(entry.body)
    if facts is None or "kind" not in facts:
        return None  # a body that is no entry is complained of as such
    told = (entry.kind, entry.population, entry.run)
    for name, filed, said in zip(("kind", "population", "run"), told, columns(facts), strict=True):
        if filed != said:
            return f"it is filed under {name} {filed!r}, and its body says {said!r}"
    return None


def require_filed(connection: Connection, *, start: int) -> int:
    """Checks the entries from `start` on and returns where the next ones begin: a list by column overlooks none of what it checked.

    Where there are no new ones this is one small query.

    Raises:
      TuttiError: LEDGER_BROKEN with the first entry that is not filed as its body says, or whose body is not the one that was hashed;
        or if there are others than the tree's head says.
    """
    size, end = _STANDS.on(connection).one()
    if size == end and (end == start or (end > start and _all_filed(connection, start=start, end=end))):
        return end
    for entry in filed_entries(connection, start=start):
        if entry.index >= end:
            break  # appended meanwhile
        fault = _fault(entry, place=start)
        if fault is not None:
            raise TuttiError(ErrorCode.LEDGER_BROKEN, f"entry {entry.index} of the ledger was changed: {fault}")
        start = entry.index + 1
    if size != end or end != start:
        told = "no head" if size is None else f"a head of {size} entries"
        raise TuttiError(ErrorCode.LEDGER_BROKEN, f"the ledger was changed: it has {end} entries and {told}")
    return start


def _all_filed(connection: Connection, *, start: int, end: int) -> bool:
    """Whether the database itself finds every entry from `start` to before `end`, with nothing wrong with any."""
    try:
        with connection.begin_nested():
            found = connection.scalar(_FILED[connection.dialect.name], {"start": start, "end": end})
    except DBAPIError:
        return False  # a body that is no JSON, or a database without these functions
    return found == end - start


def _fault(entry: FiledEntry, *, place: int) -> str | None:
    if entry.index != place:
        return f"it stands where entry {place} belongs"
    fault = misfiled(entry)
    if fault is None and (entry.leaf_hash != merkle.leaf_hash(entry.body) or facts_of(entry.body) is None):
        return "its bytes are not those whose hash was stored beside them"
    return fault
