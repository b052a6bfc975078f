"""The pages: plain HTML, CSS and JavaScript modules from this folder, with no build step and nothing from elsewhere.

They show what the API answers and may do nothing that it does not. A page holds no data, so it needs no token; what it asks the API does.
"""

from collections.abc import Callable
from pathlib import Path

from fastapi import FastAPI
from fastapi.responses import FileResponse
from starlette.staticfiles import StaticFiles

FOLDER = Path(__file__).parent / "static"
ADDRESSES = {
    "/": "overview.html",
    "/runs/{run}": "run.html",
    "/runs/{run}/report": "report.html",
    "/populations/{population}/report": "report.html",
    "/ledger": "ledger.html",
    "/audits": "audits.html",
}
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {"Content-Security-Policy": _POLICY, "Referrer-Policy": "no-referrer", "Cache-Control": "no-cache"}


def install(app: FastAPI) -> None:
    """Serves the pages and their files."""
    for address, name in ADDRESSES.items():
        app.add_api_route(address, _page(name), include_in_schema=False, methods=["GET", "HEAD"])
    app.mount("/static", StaticFiles(directory=FOLDER), name="static")


def _page(name: str) -> Callable[[], FileResponse]:
    def show() -> FileResponse:
        return FileResponse(FOLDER / name, headers=HEADERS)

    return show
