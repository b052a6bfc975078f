"""The database checks how entries are filed; what it does not take for sound is read entry by entry, and said."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import text

from contract.errors import ErrorCode, TuttiError
from privacy.ledger import entries, merkle
from server.store import filing
from server.store.filing import FiledEntry
from server.store.store import Store

REASONS = ("plain", 'a " quote \\ and \n a line', "Grüße, 数 and \U0001f512", '"kind":"approval","population":"q"')


@pytest.fixture
def filed(store: Store) -> Store:
    """Entries of several populations, with and without run, in words of all kinds."""
    for number in range(12):
        name = ("p", "q", "")[number % 3]
        body = entries.budget_set(population=name or "r", budget=None, reason=REASONS[number % 4], by="op")
        store.append_entry(body if name else entries.key_rotated(retired="a", current="b", endorsement="c", reason="yearly"))
    return store


@pytest.fixture
def read_one_by_one(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The indices of entries that were read here instead of in the database."""
    read = list[int]()
    as_it_is = filing.filed_entries

    def counted(*given: Any, **named: Any) -> Iterator[FiledEntry]:
        for entry in as_it_is(*given, **named):
            read.append(entry.index)
            yield entry

    monkeypatch.setattr(filing, "filed_entries", counted)
    return read


def test_entries_as_they_were_written_are_checked_by_the_database_alone(filed: Store, read_one_by_one: list[int]) -> None:
    assert [entry.index for entry in filed.ledger.entries(population="p")] == [0, 3, 6, 9]
    assert read_one_by_one == []
    filed.append_entry(entries.budget_set(population="p", budget=None, reason="later", by="op"))
    assert [entry.index for entry in filed.ledger.entries(population="p", start=9)] == [9, 12]
    assert read_one_by_one == []


def test_what_the_database_cannot_read_is_read_one_by_one(filed: Store, read_one_by_one: list[int]) -> None:
    body = json.dumps({"format": 1, "kind": "budget-set", "population": "p"}).replace("p", "\\u0070").encode()
    _append(filed, body, kind="budget-set", population="p")
    assert len(list(filed.ledger.entries(population="p"))) == 5
    assert read_one_by_one in ([], list(range(13)))  # PostgreSQL reads any spelling


@pytest.mark.parametrize("body", [b"\xff\x00", b"[]", b"{", b'{"kind":"budget-set","population":"p"}x'])
def test_a_body_that_is_no_entry_is_found_and_named(filed: Store, body: bytes) -> None:
    _append(filed, body, kind="budget-set", population="p")
    _refused(filed, r"entry 12 of the ledger was changed")


@pytest.mark.parametrize(
    "body",
    [
        b'{"kind":"budget-set","kind":"approval","population":"p"}',
        b'{"kind":"budget-set","population":"p","population":"q"}',
        b'{"kind":"budget-set","population":"p","p\\u006fpulation":"q"}',
        b'{"kind":"budget-set","population":"p","run":null,"run":"x"}',
        b'{"kind":"budget-set","population":"p"}\x00more',
        b'{"kind":"budget-set","population":"p","reason":"\xff"}',
        b"{kind:'budget-set',population:'p'}",
        b'{"kind":"budget-set","population":"p",}',
    ],
)
def test_a_body_that_says_one_thing_to_the_database_and_another_here_is_found(filed: Store, body: bytes) -> None:
    _append(filed, body, kind="budget-set", population="p")
    _refused(filed, "entry 12 of the ledger was changed")


def test_a_number_that_only_the_database_can_read_is_found(filed: Store) -> None:
    if filed.transactions.engine.dialect.name != "sqlite":
        pytest.skip("readers refuse it, lists do not look for it")
    _append(filed, b'{"kind":"budget-set","n":' + b"9" * 5_000 + b',"population":"p"}', kind="budget-set", population="p")
    _refused(filed, "entry 12 of the ledger was changed")


def test_an_entry_missing_in_the_middle_is_found_though_the_last_one_is_there(filed: Store) -> None:
    _without_triggers(filed, "DELETE FROM ledger_entries WHERE entry_index = 5")
    _refused(filed, "entry 6 of the ledger was changed: it stands where entry 5 belongs")


def test_an_entry_beyond_the_head_is_found(filed: Store) -> None:
    _without_triggers(filed, "UPDATE tree_head SET size = 11")
    _refused(filed, "it has 12 entries and a head of 11 entries")


@pytest.mark.parametrize(
    "change", ["kind = 'approval'", "population = 'q'", "population = ''", "run = 'x'", "leaf_hash = body"]
)
def test_every_column_is_held_to_the_body_and_the_body_to_its_hash(filed: Store, change: str) -> None:
    _without_triggers(filed, f"UPDATE ledger_entries SET {change} WHERE entry_index = 6")
    _refused(filed, "entry 6 of the ledger was changed")


def test_what_others_append_after_a_list_is_checked_whatever_this_process_appends_itself(filed: Store) -> None:
    own, misfiled = _body("own"), _body("theirs")
    assert len(list(filed.ledger.entries(population="p"))) == 4
    filed.append_entry(own)
    assert len(list(filed.ledger.entries(population="p"))) == 5
    _append(filed, misfiled, kind="budget-set", population="q")
    filed.append_entry(own)
    _refused(filed, "entry 13 of the ledger was changed")


def test_an_append_that_was_undone_vouches_for_nothing(filed: Store) -> None:
    assert len(list(filed.ledger.entries(population="p"))) == 4
    with pytest.raises(KeyError):
        filed.ledger.append(_body("undone"), b"{}")
    _append(filed, _body("theirs"), kind="budget-set", population="q")
    _refused(filed, "entry 12 of the ledger was changed")


def test_an_entry_that_goes_after_a_list_is_missed_by_the_next(filed: Store) -> None:
    assert len(list(filed.ledger.entries(population="p"))) == 4
    _without_triggers(filed, "DELETE FROM ledger_entries WHERE entry_index = 11")
    _refused(filed, "it has 11 entries and a head of 12 entries")


def _body(reason: str) -> bytes:
    return entries.budget_set(population="p", budget=None, reason=reason, by="op")


def _refused(store: Store, words: str) -> None:
    with pytest.raises(TuttiError, match=words) as told:
        list(store.ledger.entries(population="p"))
    assert told.value.code is ErrorCode.LEDGER_BROKEN


def _append(store: Store, body: bytes, *, kind: str, population: str) -> None:
    """Past everything that makes entries."""
    size = store.tree_head().size
    with store.transactions.begin() as session:
        values = {"i": size, "kind": kind, "population": population, "leaf": merkle.leaf_hash(body), "body": body}
        session.execute(text("INSERT INTO ledger_entries VALUES (:i, :kind, :population, NULL, :leaf, :body)"), values)
        session.execute(text("UPDATE tree_head SET size = :size"), {"size": size + 1})


def _without_triggers(store: Store, statement: str) -> None:
    with store.transactions.begin() as session:
        if session.get_bind().dialect.name == "postgresql":
            session.execute(text("SET LOCAL session_replication_role = replica"))
        else:
            for (name,) in session.execute(text("SELECT name FROM sqlite_master WHERE type = 'trigger'")).all():
                session.execute(text(f"DROP TRIGGER {name}"))
        session.execute(text(statement))
