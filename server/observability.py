"""What an operator can see of a server: Prometheus metrics, OpenTelemetry spans, structured logs. No device, update or secret in any.

Metrics of runs, rounds and the ledger are counted from the store when they are asked for, so that they are right whichever process
plays the rounds; those of requests and phases are counted where they happen.
"""

import os
import re
import sys
from collections.abc import Callable, Generator, Iterable, Mapping, MutableMapping
from contextlib import contextmanager
from functools import cache
from typing import Any

import numpy as np
import structlog
from numpy.typing import NDArray
from opentelemetry import trace
from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from sqlalchemy import Engine, event

from contract.clock import Clock, wall_time
from contract.simulation import RoundWork, SimulatedServer
from server.store.tallies import Tallies

REQUEST_SECONDS = (0.005, 0.02, 0.1, 0.5, 2.0, 10.0)
PHASE_SECONDS = (0.1, 1.0, 10.0, 60.0, 300.0, 600.0, 3600.0)
_TRACER = trace.get_tracer("tutti")
_SECRET = re.compile(r"tutti_[a-z2-7]{8}_[A-Za-z0-9_-]{43}")


class Metrics:
    """The metrics of one server. Each application has a registry of its own, so that tests do not share counts."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "tutti_http_requests", "Answered HTTP requests.", ("method", "route", "status"), registry=self.registry
        )
        self.request_seconds = Histogram(
            "tutti_http_request_seconds", "Time to answer.", ("route",), buckets=REQUEST_SECONDS, registry=self.registry
        )
        self.check_ins = Counter("tutti_check_ins", "Devices that asked for work.", ("outcome",), registry=self.registry)
        self.uploads = Counter("tutti_uploads", "Updates that devices sent.", ("outcome",), registry=self.registry)
        self.phase_seconds = Histogram(
            "tutti_phase_seconds", "Time of a round's phases.", ("phase",), buckets=PHASE_SECONDS, registry=self.registry
        )
        self.transactions = Counter("tutti_store_transactions", "Transactions of the store.", ("end",), registry=self.registry)

    def follow(self, tallies: Callable[[], Tallies], jobs: Callable[[], Mapping[str, int]]) -> None:
        """Adds the counts of a store and its job table."""
        self.registry.register(_StoreCounts(tallies, jobs))

    def exposition(self) -> bytes:
        """Everything in Prometheus' text format."""
        return generate_latest(self.registry)

    def names(self) -> set[str]:
        """The names of all metrics, as Prometheus knows them."""
        return {sample.name for metric in self.registry.collect() for sample in metric.samples} | {
            metric.name + suffix
            for metric in self.registry.collect()
            for suffix in ({"counter": ("_total",), "histogram": ("_bucket", "_count", "_sum")}.get(metric.type, ("",)))
        }


@cache
def of_process() -> Metrics:
    """The metrics of this process, for what has no application to belong to: a runner, a command."""
    return Metrics()


class _StoreCounts(Collector):
    def __init__(self, tallies: Callable[[], Tallies], jobs: Callable[[], Mapping[str, int]]) -> None:
        self._tallies, self._jobs = tallies, jobs

    def collect(self) -> Iterable[Metric]:
        tallies = self._tallies()
        runs = GaugeMetricFamily("tutti_runs", "Runs by state.", labels=("population", "state"))
        for (population, state), count in tallies.runs.items():
            runs.add_metric((population, state), count)
        rounds = CounterMetricFamily("tutti_rounds", "Rounds on the record.", labels=("population", "result"))
        for (population, state), count in tallies.rounds.items():
            rounds.add_metric((population, state), count)
        reports = CounterMetricFamily("tutti_reports", "Contributions in committed sums.", labels=("population",))
        for population, count in tallies.reports.items():
            reports.add_metric((population,), count)
        jobs = GaugeMetricFamily("tutti_jobs", "Jobs of the runners by state.", labels=("state",))
        for state, count in self._jobs().items():
            jobs.add_metric((state,), count)
        entries = GaugeMetricFamily("tutti_ledger_entries", "Entries in the ledger.", value=tallies.entries)
        return (runs, rounds, reports, jobs, entries)


class ObservedServer:
    """A round server under observation: the same answers, with a span and a count for each of them.

    Args:
      secret_cohorts: under Poisson sampling the number of devices in a round is secret: nothing counts or names it.
    """

    def __init__(self, server: SimulatedServer, metrics: Metrics, clock: Clock, *, secret_cohorts: bool = False) -> None:
        self._server, self._metrics, self._clock, self._secret_cohorts = server, metrics, clock, secret_cohorts
        self.position, self.retry_window = server.position, server.retry_window
        self.reporting_deadline_s = server.reporting_deadline_s

    def check_in(self, times_s: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Counts who was accepted and who was turned away."""
        with _TRACER.start_as_current_span("check-in", attributes=self._devices(times_s)):
            accepted = self._server.check_in(times_s)
        self._count(self._metrics.check_ins, accepted, "accepted", "turned-away")
        return accepted

    def start(self, at_s: float) -> RoundWork | None:
        """A span over the configuration of the cohort."""
        with self.phase("configuring"):
            return self._server.start(at_s)

    def report(self, times_s: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Counts which updates were in time."""
        with _TRACER.start_as_current_span("report", attributes=self._devices(times_s)):
            taken = self._server.report(times_s)
        self._count(self._metrics.uploads, taken, "accepted", "late")
        return taken

    def contribute(self, contribution: Any) -> None:
        """A span over the addition of a sum."""
        with self.phase("adding"):
            self._server.contribute(contribution)

    def finish(self, at_s: float, *, settled: bool = True) -> Mapping[str, Any]:
        """A span over charge, noise, outcome and, unless it is left for later, commit."""
        with self.phase("aggregating") as span:
            facts = self._server.finish(at_s, settled=settled)
            span.set_attributes({"tutti.round": int(facts["round"]), "tutti.result": str(facts["state"])})
        return facts

    def settle(self) -> None:
        """A span over a commit that was left for later."""
        with self.phase("committing"):
            self._server.settle()

    @contextmanager
    def phase(self, name: str) -> Generator[trace.Span]:
        """A span and a duration for a phase of a round."""
        began = self._clock.now_s()
        with _TRACER.start_as_current_span(name) as span:
            yield span
        self._metrics.phase_seconds.labels(name).observe(self._clock.now_s() - began)

    def _devices(self, times_s: NDArray[np.float64]) -> dict[str, int]:
        return {} if self._secret_cohorts else {"tutti.devices": len(times_s)}

    def _count(self, counter: Counter, mask: NDArray[np.bool_], yes: str, no: str) -> None:
        if self._secret_cohorts:
            return
        taken = int(mask.sum())
        counter.labels(yes).inc(taken)
        counter.labels(no).inc(len(mask) - taken)


def observe_store(engine: Engine, metrics: Metrics) -> None:
    """Counts the transactions of an engine and gives each a span."""

    def begin(connection: Any) -> None:
        connection.info["tutti_span"] = _TRACER.start_span("store transaction")

    def ended(end: str) -> Callable[[Any], None]:
        def close(connection: Any) -> None:
            metrics.transactions.labels(end).inc()
            span = connection.info.pop("tutti_span", None)
            if span is not None:
                span.set_attribute("tutti.end", end)
                span.end()

        return close

    event.listen(engine, "begin", begin)
    event.listen(engine, "commit", ended("commit"))
    event.listen(engine, "rollback", ended("rollback"))


def span(name: str, **attributes: str | float) -> Any:
    """A span of ours around a block; it costs next to nothing while nobody listens."""
    return _TRACER.start_as_current_span(name, attributes={f"tutti.{key}": value for key, value in attributes.items()})


def configure_spans(service: str) -> None:
    """Sends spans by OTLP over HTTP to `OTEL_EXPORTER_OTLP_ENDPOINT`; without that variable nothing is recorded.

    Args:
      service: the name of this process among the operator's services.
    """
    if not os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT"):
        return
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import SERVICE_NAME, Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    provider = TracerProvider(resource=Resource.create({SERVICE_NAME: service}))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(provider)


def configure_logs(*, as_json: bool = True) -> None:
    """Structured logs on stderr, one line an event; the text of a token never gets through."""
    render = structlog.processors.JSONRenderer() if as_json else structlog.dev.ConsoleRenderer()
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            _dated,
            without_secrets,
            render,
        ],
        logger_factory=structlog.WriteLoggerFactory(sys.stderr),
        cache_logger_on_first_use=False,
    )


def without_secrets(_logger: object, _name: str, facts: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Blackens what looks like a token.

    >>> without_secrets(None, "", {"event": "tutti_abcdefgh_" + "x" * 43})
    {'event': 'tutti_…'}
    """
    for key, value in facts.items():
        if isinstance(value, str):
            facts[key] = _SECRET.sub("tutti_…", value)
    return facts


def _dated(_logger: object, _name: str, facts: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    facts["at"] = wall_time().isoformat(timespec="milliseconds")
    return facts
