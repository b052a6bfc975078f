"""What tests of whole runs share."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from server.store.values import RunState
from tutti import stores
from tutti.playing import Progress


class Pausing:
    """Pauses the run after its second round."""

    def __init__(self, store: Path) -> None:
        self._store = store

    def started(self, *, committed: int, note: str) -> None: ...

    def round_ended(self, facts: Mapping[str, Any]) -> None:
        if facts["round"] == 1:
            with stores.opened(str(self._store)) as (database, _):
                database.set_run_state(database.run("latest").id, RunState.PAUSED)


@pytest.fixture
def pausing() -> Callable[[Path], Progress]:
    """What watches a run in a store and pauses it after its second round."""
    return Pausing
