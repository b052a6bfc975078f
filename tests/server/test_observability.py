"""Metrics, spans and logs: what exists, what it counts, and what never gets into any of it."""

import io
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import structlog
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from contract.clock import VirtualClock
from contract.messages import RetryWindow
from contract.simulation import Contribution, RoundPosition, RoundWork
from server import observability
from server.observability import Metrics, ObservedServer, observe_store
from server.store.store import Store
from server.store.tallies import tally


class HalfServer:
    """Accepts every other device."""

    def position(self) -> RoundPosition | None:
        return None

    def check_in(self, times_s: np.ndarray) -> np.ndarray:
        return np.arange(len(times_s)) % 2 == 0

    def retry_window(self) -> RetryWindow:
        return RetryWindow(1.0, 2.0)

    def start(self, at_s: float) -> RoundWork | None:
        return None

    def reporting_deadline_s(self) -> float:
        return 1.0

    def report(self, times_s: np.ndarray) -> np.ndarray:
        return np.ones(len(times_s), dtype=np.bool_)

    def contribute(self, contribution: Contribution) -> None:
        return None

    def settle(self) -> None:
        return None

    def finish(self, at_s: float, *, settled: bool = True) -> dict[str, object]:
        return {"round": 3, "state": "committed"}


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> Iterator[InMemorySpanExporter]:
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(observability, "_TRACER", provider.get_tracer("tutti"))
    yield exporter
    provider.shutdown()


def _value(metrics: Metrics, name: str, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(name, labels)


def test_an_observed_server_answers_the_same_and_is_counted(spans: InMemorySpanExporter) -> None:
    metrics, server = Metrics(), HalfServer()
    observed = ObservedServer(server, metrics, VirtualClock())
    times = np.arange(5.0)
    assert (observed.check_in(times) == server.check_in(times)).all()
    assert observed.report(times).all()
    assert observed.start(0.0) is None
    observed.contribute(Contribution(total=np.zeros(1, np.int64), count=1, metrics={}))
    assert observed.finish(1.0) == {"round": 3, "state": "committed"}
    assert _value(metrics, "tutti_check_ins_total", outcome="accepted") == 3
    assert _value(metrics, "tutti_check_ins_total", outcome="turned-away") == 2
    assert _value(metrics, "tutti_uploads_total", outcome="accepted") == 5
    assert _value(metrics, "tutti_phase_seconds_count", phase="aggregating") == 1
    assert [span.name for span in spans.get_finished_spans()] == ["check-in", "report", "configuring", "adding", "aggregating"]


def test_cohorts_that_are_secret_are_neither_counted_nor_named(spans: InMemorySpanExporter) -> None:
    metrics, times = Metrics(), np.arange(5.0)
    observed = ObservedServer(HalfServer(), metrics, VirtualClock(), secret_cohorts=True)
    assert observed.check_in(times).sum() == 3
    assert observed.report(times).all()
    assert _value(metrics, "tutti_check_ins_total", outcome="accepted") is None
    assert _value(metrics, "tutti_uploads_total", outcome="accepted") is None
    assert [dict(span.attributes or {}) for span in spans.get_finished_spans()] == [{}, {}]


def test_transactions_of_the_store_are_counted_and_have_spans(tmp_path: Path, spans: InMemorySpanExporter) -> None:
    store, metrics = Store.open(str(tmp_path)), Metrics()
    observe_store(store.transactions.engine, metrics)
    with store.transactions.begin():
        pass
    store.runs()
    store.close()
    assert _value(metrics, "tutti_store_transactions_total", end="commit") is not None
    assert {span.name for span in spans.get_finished_spans()} == {"store transaction"}


def test_counts_of_the_store_are_those_of_its_tables(tmp_path: Path) -> None:
    store, metrics = Store.open(str(tmp_path)), Metrics()
    metrics.follow(lambda: tally(store.transactions), lambda: {"queued": 2})
    assert _value(metrics, "tutti_ledger_entries") == 0
    assert _value(metrics, "tutti_jobs", state="queued") == 2
    store.close()


def test_logs_are_json_and_blacken_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    monkeypatch.setattr("sys.stderr", stream)
    try:
        observability.configure_logs()
        token = "tutti_abcdefgh_" + "x" * 43
        structlog.get_logger().info("seen", header=f"Bearer {token}")
    finally:
        structlog.reset_defaults()
    line = json.loads(stream.getvalue())
    assert line["event"] == "seen"
    assert "x" * 43 not in stream.getvalue()


def test_spans_go_nowhere_unless_an_address_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OTEL_EXPORTER_OTLP_ENDPOINT", raising=False)
    before = trace.get_tracer_provider()
    observability.configure_spans("test")
    assert trace.get_tracer_provider() is before


def test_spans_cost_nothing_where_nobody_listens() -> None:
    assert not trace.get_tracer("tutti").start_span("x").is_recording()
