"""`tutti token`: a token is shown once, listed without its text, and ends when it is revoked."""

import json
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text
from typer.testing import CliRunner

from contract.errors import ErrorCode, TuttiError
from server.store.store import Store
from server.tokens import Scope, Tokens
from tutti.cli import app


def _call(*words: str) -> Any:
    return CliRunner().invoke(app, ["token", *words])


def test_a_token_is_shown_once_and_works_until_it_is_revoked(tmp_path: Path) -> None:
    store = ("--store", str(tmp_path))
    made = json.loads(_call("create", "alice", "--scope", "viewer", "--population", "people", "--json", *store).stdout)
    listed = _call("list", "--json", *store).stdout
    assert made["token"] not in listed
    assert json.loads(listed)["tokens"][0]["scopes"] == ["viewer"]
    database = Store.open(str(tmp_path))
    tokens = Tokens(database.transactions)
    assert tokens.principal(made["token"]).populations == {"people"}
    assert tokens.principal(made["token"]).may(Scope.VIEWER)
    assert _call("revoke", made["id"], *store).exit_code == 0
    with pytest.raises(TuttiError) as refusal:
        tokens.principal(made["token"])
    assert refusal.value.code is ErrorCode.UNAUTHENTICATED
    database.close()


def test_a_token_without_a_scope_or_with_an_unknown_one_is_refused(tmp_path: Path) -> None:
    assert _call("create", "bob", "--store", str(tmp_path)).exit_code == 2
    assert _call("create", "bob", "--scope", "root", "--store", str(tmp_path)).exit_code == 2
    assert isinstance(_call("create", " ", "--scope", "viewer", "--store", str(tmp_path)).exception, TuttiError)


@pytest.mark.parametrize("given", ["", " ", "a b", "a,b", "People", "*", "p\n"])
def test_what_is_no_population_takes_no_limit_away(tmp_path: Path, given: str) -> None:
    refused = _call("create", "eve", "--scope", "admin", "--population", given, "--store", str(tmp_path))
    assert isinstance(refused.exception, TuttiError)
    assert refused.exception.code is ErrorCode.ARGUMENT_INVALID
    database = Store.open(str(tmp_path))
    tokens = Tokens(database.transactions)
    for limits in ([given], [], ["people", given]):
        with pytest.raises(ValueError, match="limited to populations"):
            tokens.create(name="eve", scopes=[Scope.ADMIN], populations=limits)
    assert tokens.all() == []
    database.close()


@pytest.mark.parametrize(("kept", "sees"), [("*", True), ("others", False), ("others people", True)])
def test_limits_of_a_token_as_they_are_kept(tmp_path: Path, kept: str, sees: bool) -> None:
    database = Store.open(str(tmp_path))
    tokens = Tokens(database.transactions)
    made = tokens.create(name="alice", scopes=[Scope.VIEWER])
    assert tokens.principal(made.text).sees("people")
    _keep(database, kept)
    assert tokens.principal(made.text).sees("people") is sees
    database.close()


@pytest.mark.parametrize("kept", ["", " ", "  "])
def test_a_token_that_does_not_say_which_populations_it_is_for_counts_for_nothing(tmp_path: Path, kept: str) -> None:
    database = Store.open(str(tmp_path))
    tokens = Tokens(database.transactions)
    made = tokens.create(name="alice", scopes=[Scope.ADMIN])
    _keep(database, kept)
    with pytest.raises(TuttiError, match="tutti token create.*tutti token revoke " + made.token.id) as refused:
        tokens.principal(made.text)
    assert refused.value.code is ErrorCode.UNAUTHENTICATED
    assert tokens.exist()  # nor is the server open again
    with pytest.raises(TuttiError, match="not valid"):
        tokens.principal(made.text[:-1] + ("A" if made.text[-1] != "A" else "B"))
    database.close()
    assert "(unsaid)" in _call("list", "--store", str(tmp_path)).stdout
    assert json.loads(_call("list", "--json", "--store", str(tmp_path)).stdout)["tokens"][0]["populations"] == []


def test_a_token_without_a_limit_is_listed_so(tmp_path: Path) -> None:
    assert _call("create", "alice", "--scope", "viewer", "--store", str(tmp_path)).exit_code == 0
    assert json.loads(_call("list", "--json", "--store", str(tmp_path)).stdout)["tokens"][0]["populations"] is None
    assert " all " in _call("list", "--store", str(tmp_path)).stdout


def _keep(database: Store, kept: str) -> None:
    with database.transactions.begin() as session:
        session.execute(text("UPDATE tokens SET populations = :kept"), {"kept": kept})
