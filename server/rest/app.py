"""The application: routes, middleware, problem details, pages. `tutti serve` mounts it beside gRPC in one event loop."""

import dataclasses
from pathlib import Path

from fastapi import FastAPI
from fastapi.routing import APIRoute

from contract.clock import Clock, SystemClock
from privacy.ledger.notes import SignerKey
from server import pages
from server.audits import Audits
from server.jobs import Jobs
from server.observability import Metrics, observe_store
from server.policies import Policies
from server.rest import audits, costs, events, health, ledger, models, populations, problems, reporting, runs
from server.rest.answered import AnsweredRequests
from server.rest.limits import BODY_LIMITS, BURST, REQUESTS_PER_S, BodyLimits, LimitsMiddleware, RateLimit
from server.rest.services import Launcher, Services
from server.rest.spendings import Spendings
from server.rest.watched import WatchedMiddleware
from server.store.store import Store
from server.store.tallies import tally
from server.tokens import Tokens

_ABOUT = """Runs, their privacy ledger and their models.

Nothing is revealed before its privacy cost is on the record: a model answers 409 until its entry is committed. Lists come in pages by
cursor, immutable things with an ETag, errors as RFC 9457 problem details."""


def create_app(
    store: Store,
    *,
    signer: SignerKey,
    launcher: Launcher | None = None,
    open_access: bool = False,
    data_directory: Path | None = None,
    metrics: Metrics | None = None,
    clock: Clock | None = None,
    requests_per_s: float = REQUESTS_PER_S,
    burst: float = BURST,
    body_limits: BodyLimits = BODY_LIMITS,
    longest_stream_s: float = 3600.0,
) -> FastAPI:
    """The REST application over a store.

    Args:
      signer: signs the ledger's checkpoints.
      launcher: registers the runs that `POST /v1/runs` asks for; without one it answers 503.
      open_access: until the first token is made, whoever reaches the server may do everything: for loopback addresses only.
      data_directory: the files that a task may name as data or weights; none without it.
      metrics: shared with other faces of the same process.
    """
    clock, metrics = clock or SystemClock(), metrics or Metrics()
    rate = RateLimit(clock, per_s=requests_per_s, burst=burst)
    services = dataclasses.replace(
        _services(store, signer, launcher, metrics, rate, open_access, data_directory),
        longest_stream_s=longest_stream_s,
        body_limits=body_limits,
    )
    app = FastAPI(
        title="Tutti", version="1", description=_ABOUT, license_info={"name": "Apache-2.0"}, docs_url=None, redoc_url=None,
        generate_unique_id_function=_operation_id, redirect_slashes=False,
    )  # fmt: skip
    app.state.services = services
    problems.install(app)
    for module in (runs, events, models, reporting, populations, ledger, audits, costs, health):
        app.include_router(module.router)
    pages.install(app)
    front = RateLimit(clock, per_s=requests_per_s, burst=burst)
    app.add_middleware(LimitsMiddleware, rate=front, most_body_bytes=body_limits.most_bytes)
    app.add_middleware(WatchedMiddleware, metrics=metrics, clock=clock)
    return app


def _services(
    store: Store,
    signer: SignerKey,
    launcher: Launcher | None,
    metrics: Metrics,
    rate: RateLimit,
    open_access: bool,
    data_directory: Path | None,
) -> Services:
    transactions = store.transactions
    jobs = Jobs(transactions)
    metrics.follow(lambda: tally(transactions), jobs.counts)
    observe_store(transactions.engine, metrics)
    return Services(
        store=store, tokens=Tokens(transactions), jobs=jobs, audits=Audits(transactions), policies=Policies(transactions, store.ledger),
        answered=AnsweredRequests(transactions), rate=rate, metrics=metrics, launcher=launcher, signer=signer,
        open_access=open_access, data_directory=data_directory, spendings=Spendings(store.ledger),
    )  # fmt: skip


def _operation_id(route: APIRoute) -> str:
    return route.name
