"""Whether the server is well, what it counts, and what its errors mean."""

from html import escape

from fastapi import APIRouter, Response
from fastapi.responses import HTMLResponse

from contract.errors import ErrorCode, TuttiError
from server import pages
from server.rest import bodies
from server.rest.access import Reader, ServicesOf
from server.rest.problems import describes

router = APIRouter(tags=["health"])
_FRAME = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>Tutti: errors</title><link rel="icon" href="/static/icon.svg" type="image/svg+xml">
<link rel="stylesheet" href="/static/tutti.css"></head><body><header class="top"><a class="brand" href="/">Tutti</a>
<nav aria-label="Pages"><a href="/">Overview</a><a href="/ledger">Ledger</a><a href="/audits">Audits</a>
<a href="/errors" aria-current="page">Errors</a></nav></header><main id="main"><h1>Errors</h1>ROWS</main></body></html>"""
_LIMITED = describes(ErrorCode.RATE_LIMITED, ErrorCode.TOO_LARGE)


@router.get("/healthz", responses=_LIMITED | describes(ErrorCode.SCHEMA_MISMATCH))
def healthz(services: ServicesOf) -> bodies.Health:
    """The process answers, and its store does. Needs no token."""
    return bodies.Health(status="ok", entries=services.store.ledger.head().size)


@router.get(
    "/metrics",
    response_class=Response,
    responses={
        200: {"description": "Prometheus' text format.", "content": {"text/plain": {"schema": {"type": "string"}}}},
        **_LIMITED,
        **describes(ErrorCode.UNAUTHENTICATED, ErrorCode.FORBIDDEN),
    },
)
def metrics(services: ServicesOf, principal: Reader) -> Response:
    """Counts and durations of this server and its store, for tokens that are limited to no population: they are of all of them."""
    if principal.populations is not None:
        raise TuttiError(ErrorCode.FORBIDDEN, "metrics are of all populations, and this token is limited to some")
    return Response(services.metrics.exposition(), media_type="text/plain; version=0.0.4")


@router.get("/errors", response_class=HTMLResponse, responses=_LIMITED)
def errors() -> HTMLResponse:
    """Every error code with its meaning and its cure: where the `type` of a problem leads."""
    rows = "".join(
        f'<section id="{code.slug}"><h2>{code.slug}</h2><p>{escape(code.value.title)}.</p><p>{escape(code.value.cure)}</p>'
        f"<p>HTTP {code.value.http_status}, gRPC {code.value.grpc_status}, exit code {code.value.exit_code}</p></section>"
        for code in ErrorCode
    )
    return HTMLResponse(_FRAME.replace("ROWS", rows), headers=pages.HEADERS)
