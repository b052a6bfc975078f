"""Schemathesis over the whole OpenAPI document, on both engines: no 5xx, no answer that is not documented."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import checks

from contract import task
from contract.task import TaskSpec

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
EXAMPLES = 25
checks.load_all_checks()
CHECKS = [
    checks.CHECKS.get_one(name)
    for name in (
        "not_a_server_error",
        "status_code_conformance",
        "content_type_conformance",
        "response_headers_conformance",
        "response_schema_conformance",
        "unsupported_method",
    )
]


def _served(api_of: Any, location: str, folder: Path, spec: TaskSpec) -> Iterator[Any]:
    api = api_of(location, folder=folder, open_access=True, requests_per_s=1e9, burst=1e9, longest_stream_s=0.0)
    mapping = {**task.to_mapping(spec), "name": "first"}
    assert api.client.post("/v1/runs", json={"task": mapping, "workers": 0}).status_code == 201
    api.play()
    yield api
    api.close()


@pytest.fixture
def on_sqlite(api_of: Any, small_task: TaskSpec, tmp_path: Path) -> Iterator[Any]:
    yield from _served(api_of, str(tmp_path / "store"), tmp_path / "store", small_task)


@pytest.fixture
def on_postgres(
    api_of: Any, small_task: TaskSpec, tmp_path: Path, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Any]:
    monkeypatch.chdir(tmp_path)
    yield from _served(api_of, postgres_url, tmp_path / ".tutti", small_task)


def test_every_answer_on_sqlite_is_documented_and_none_is_our_fault(on_sqlite: Any) -> None:
    _try_everything(on_sqlite)


@pytest.mark.postgres
def test_every_answer_on_postgres_is_documented_and_none_is_our_fault(on_postgres: Any) -> None:
    _try_everything(on_postgres)


def _try_everything(api: Any) -> None:
    schema = schemathesis.openapi.from_asgi("/openapi.json", api.app)
    faults, tried = list[str](), 0
    for result in schema.get_all_operations():
        operation = result.ok()
        tried += 1
        for mode in (schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE):
            faults += _faults(operation, mode)
    assert tried > 25
    assert not faults, "\n\n".join(faults[:10])


def _faults(operation: Any, mode: Any) -> list[str]:
    faults: list[str] = []

    @given(case=operation.as_strategy(generation_mode=mode))
    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.generate],
    )
    def check(case: Any) -> None:
        response = case.call()
        try:
            case.validate_response(response, checks=CHECKS)
        except (AssertionError, ExceptionGroup) as error:
            faults.append(f"{case.method} {case.formatted_path}: {error!r} {getattr(error, 'exceptions', '')}"[:1500])

    try:
        check()
    except Unsatisfiable:
        # Nothing can be sent wrong to an operation that takes nothing.
        assert mode is schemathesis.GenerationMode.NEGATIVE
    return faults[:2]
