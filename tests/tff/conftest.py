"""One process of TensorFlow Federated for all cross-checks: it takes long to start."""

from collections.abc import Iterator

import pytest

from tutti.engines import environment
from tutti.engines.process import EngineProcess


@pytest.fixture(scope="session")
def engine() -> Iterator[EngineProcess]:
    if not environment.is_made():
        pytest.skip("TensorFlow Federated is not installed; `make test-tff` installs it")
    with EngineProcess(environment.interpreter()) as process:
        yield process
