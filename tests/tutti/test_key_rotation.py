"""Rotating the ledger's key: whatever stops it, the store verifies and the next rotation works."""

from pathlib import Path

import pytest

from server import budgets
from server.store.crosscheck import verify_store
from server.store.signing import LedgerKey
from tutti import stores
from tutti.commands.ledger import rotate_key


def test_rotation_that_was_stopped_leaves_a_store_that_verifies_and_can_be_rotated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = str(tmp_path)
    with stores.opened(store) as (database, _):
        budgets.set_budget(database.ledger, "p", None, reason="test", by="op")

    def stopped(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(LedgerKey, "replace", stopped)
        with pytest.raises(KeyboardInterrupt):
            rotate_key(reason="yearly", store=store)
    for _ in range(2):
        with stores.existing(store) as (database, _):
            assert verify_store(database, key=stores.ledger_key(store).verifier()).problems == ()
        rotate_key(reason="yearly", store=store)
