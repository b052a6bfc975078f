"""An application over a store with one finished run, and tokens of every kind."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from contract import task
from contract.task import TaskSpec
from server.keys import KeyDirectory
from server.rest import create_app
from server.store.signing import LedgerKey
from server.store.store import Store
from server.tokens import Scope, Tokens
from tutti import runs
from tutti.launching import SimulatedRuns
from tutti.runner import Runner

TASK: dict[str, Any] = {
    "name": "small",
    "population": "people",
    "model": {"name": "mlp"},
    "data": {"source": "synthetic", "devices": 60},
    "cohort": {"report_goal": 6, "over_selection": 1.5, "minimum_reports": 3},
    "training": {"batch_size": 10, "max_examples": 10, "learning_rate": 0.1},
    "privacy": {"mechanism": "tree", "clip_norm": 0.5, "noise_multiplier": 5.0, "delta": 1e-5},
    "rounds": 3,
}


@pytest.fixture(scope="session")
def small_task() -> TaskSpec:
    return task.parse_mapping(TASK)


@pytest.fixture
def small() -> Callable[[str], dict[str, Any]]:
    """The task under another name, as JSON."""
    return lambda name: {**TASK, "name": name}


@pytest.fixture(scope="session")
def played_store(tmp_path_factory: pytest.TempPathFactory, small_task: TaskSpec) -> str:
    """A store with one completed run. Tests that write make a copy."""
    folder = tmp_path_factory.mktemp("played") / "store"
    runs.run(small_task, store=str(folder), seed=3, workers=0)
    return str(folder)


@pytest.fixture(scope="session")
def api_of() -> Callable[..., "Api"]:
    """Makes a server over a store."""
    return Api


class Api:
    """A client of an application, with a token for each scope."""

    def __init__(self, location: str, **options: Any) -> None:
        self.location = location
        self.folder: Path = options.pop("folder", None) or Path(location)
        self.store = Store.open(location)
        self.tokens = Tokens(self.store.transactions)
        self.keys = KeyDirectory(self.folder / "keys")
        self.app = create_app(
            self.store,
            signer=LedgerKey(self.folder, store=location).signer(),
            launcher=SimulatedRuns(self.store, self.keys),
            **options,
        )
        self.client = TestClient(self.app, base_url="http://localhost", raise_server_exceptions=False)

    def headers(self, *scopes: Scope, populations: tuple[str, ...] = ()) -> dict[str, str]:
        text = self.tokens.create(name="test", scopes=scopes, populations=populations or None).text
        return {"Authorization": f"Bearer {text}"}

    def play(self) -> None:
        """Plays every job that waits."""
        Runner(self.location).run(until_idle=True)

    def close(self) -> None:
        self.client.close()
        self.store.close()


@pytest.fixture
def played(played_store: str, tmp_path: Path) -> Iterator[Api]:
    """A server that anybody may use, over a copy of the played store."""
    shutil.copytree(played_store, tmp_path / "store")
    api = Api(str(tmp_path / "store"), open_access=True)
    yield api
    api.close()


@pytest.fixture
def guarded(played_store: str, tmp_path: Path) -> Iterator[Api]:
    """The same, but it asks for tokens."""
    shutil.copytree(played_store, tmp_path / "store")
    api = Api(str(tmp_path / "store"))
    yield api
    api.close()
