"""The pages in headless Chromium: launch a run, watch it, read its report, verify the ledger, wide and at 360 pixels."""

import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import uvicorn

from server.keys import KeyDirectory
from server.rest import create_app
from server.store.signing import LedgerKey
from server.store.store import Store
from tutti.launching import SimulatedRuns
from tutti.runner import Runner

playwright = pytest.importorskip("playwright.sync_api")
pytestmark = [pytest.mark.browser, pytest.mark.slow]
WIDE, NARROW = {"width": 1200, "height": 900}, {"width": 360, "height": 740}
TASK = """{"name": "seen", "population": "people", "model": {"name": "mlp"}, "data": {"source": "synthetic", "devices": 60},
"cohort": {"report_goal": 6, "over_selection": 1.5, "minimum_reports": 3},
"training": {"batch_size": 10, "max_examples": 10, "learning_rate": 0.1},
"privacy": {"mechanism": "tree", "clip_norm": 0.5, "noise_multiplier": 5.0, "delta": 1e-5}, "rounds": 3}"""
AUDIT = """{"task": {"name": "words", "population": "audited", "model": {"name": "next_word_small"},
"data": {"source": "synthetic", "devices": 30}, "cohort": {"report_goal": 10, "over_selection": 1.2},
"training": {"batch_size": 16, "max_examples": 16, "learning_rate": 0.5},
"privacy": {"mechanism": "gaussian", "clip_norm": 0.3, "noise_multiplier": 4.0, "delta": 1e-5}, "rounds": 1},
"canaries": {"devices": [1, 2], "copies": [4], "per_cell": 2, "per_device": 16}, "references": 300, "treatments": [{"name": "z4"}]}"""
TIMEOUT_MS = 60_000


class Site:
    """A server on a loopback port with a runner beside it."""

    def __init__(self, folder: Path, *, open_access: bool = True) -> None:
        self.folder, self.store = folder, Store.open(str(folder))
        app = create_app(
            self.store,
            signer=LedgerKey(folder).signer(),
            launcher=SimulatedRuns(self.store, KeyDirectory(folder / "keys")),
            open_access=open_access,
        )
        listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"http://127.0.0.1:{listener.getsockname()[1]}"
        self._server = uvicorn.Server(uvicorn.Config(app, log_level="warning", access_log=False, lifespan="off"))
        self._thread = threading.Thread(target=self._server.run, kwargs={"sockets": [listener]})
        self._runner = Runner(str(folder), workers=0)
        self._runner_thread = threading.Thread(target=self._runner.run)
        self._thread.start()
        self._runner_thread.start()

    def close(self) -> None:
        self._runner.stop()
        self._server.should_exit = True
        self._thread.join()
        self._runner_thread.join()
        self.store.close()


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    made = Site(tmp_path / "store")
    yield made
    made.close()


@pytest.fixture(scope="module")
def browser(chromium: str) -> Iterator[Any]:
    # Not for the whole session: while it lives, Playwright's event loop runs in this thread, and nobody else may run one.
    with playwright.sync_playwright() as started:
        opened = started.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        yield opened
        opened.close()


class Watched:
    """A page, and everything that it complained of."""

    def __init__(self, browser: Any, viewport: dict[str, int]) -> None:
        self.page = browser.new_page(viewport=viewport)
        self.page.set_default_timeout(TIMEOUT_MS)
        self.complaints: list[str] = []
        self.page.on("console", self._heard)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))

    def _heard(self, message: Any) -> None:
        if message.type in ("error", "warning"):
            self.complaints.append(message.text)

    def shot(self, name: str) -> None:
        folder = os.environ.get("TUTTI_SCREENSHOTS")
        if folder:
            self.page.screenshot(path=str(Path(folder) / f"{name}.png"), full_page=True)

    def fits(self) -> bool:
        return self.page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")


@pytest.mark.timeout(240)
def test_a_run_is_launched_watched_reported_and_its_ledger_verified(site: Site, browser: Any) -> None:
    watched = Watched(browser, WIDE)
    page = watched.page
    page.goto(site.address)
    page.fill("#task", TASK)
    page.click("#ask-cost")
    page.wait_for_selector("#answer .notice.good")
    assert "epsilon" in page.inner_text("#answer")
    page.click("#start")
    page.wait_for_url("**/runs/*")
    page.wait_for_selector("h1 .state.completed")
    # By a locator: `wait_for_function` evaluates a string in the page whenever it has to wait, which the pages' policy forbids.
    page.locator("#rounds tbody tr").nth(2).wait_for()
    assert page.locator(".chart:not([hidden])").count() >= 5
    assert "-v[]+^" in page.inner_text("#shapes")
    watched.shot("run-wide")
    page.click("text=Privacy report")
    page.wait_for_selector("article[aria-busy=false]")
    assert "Epsilon" in page.inner_text("article")
    watched.shot("report-wide")
    page.goto(f"{site.address}/ledger")
    page.wait_for_selector(".entries details")
    page.click("#verify")
    page.wait_for_selector("#verify:enabled")
    checks = page.locator("#checks li")
    assert "hash to the signed root" in page.inner_text("#checks")
    assert not [
        checks.nth(place).inner_text() for place in range(checks.count()) if "bad" in checks.nth(place).get_attribute("class")
    ]
    page.click("#verify")
    page.wait_for_selector("#verify:enabled")
    assert "extends the checkpoint" in page.inner_text("#checks")
    watched.shot("ledger-wide")
    page.goto(site.address)
    page.wait_for_selector("#runs table")
    page.wait_for_selector("#populations .panel")
    watched.shot("overview-wide")
    page.goto(f"{site.address}/audits")
    page.wait_for_selector("#audits")
    assert not watched.complaints


@pytest.mark.timeout(240)
def test_an_audit_is_asked_for_watched_and_read(site: Site, browser: Any) -> None:
    watched = Watched(browser, WIDE)
    page = watched.page
    page.goto(f"{site.address}/audits")
    page.fill("#audit", AUDIT)
    page.click("#start")
    page.wait_for_selector("#jobs [role=progressbar]")
    page.wait_for_selector("#jobs .state.done", timeout=3 * TIMEOUT_MS)  # two runs and their scores
    page.wait_for_selector("#jobs table")
    page.wait_for_selector("#audits article")
    assert page.locator("#jobs tbody tr").count() == 2
    assert page.locator("#audits article").count() == 2
    watched.shot("audits-wide")
    page.set_viewport_size(NARROW)
    assert watched.fits()
    watched.shot("audits-done-narrow")
    assert not watched.complaints


@pytest.mark.timeout(240)
def test_every_page_is_readable_at_360_pixels_and_by_keyboard(site: Site, browser: Any) -> None:
    watched = Watched(browser, NARROW)
    page = watched.page
    page.goto(site.address)
    page.fill("#task", TASK)
    page.click("#start")
    page.wait_for_url("**/runs/*")
    page.wait_for_selector("h1 .state.completed")
    run = page.url
    for name, address in (
        ("overview", "/"), ("run", run), ("report", f"{run}/report"), ("ledger", "/ledger"), ("audits", "/audits"), ("errors", "/errors")
    ):  # fmt: skip
        page.goto(address if address.startswith("http") else site.address + address)
        page.wait_for_load_state("networkidle")
        assert watched.fits(), name
        watched.shot(f"{name}-narrow")
    page.goto(site.address)
    page.wait_for_selector("#runs table")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to content"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"
    assert not watched.complaints


@pytest.mark.timeout(240)
def test_the_page_itself_finds_a_changed_entry(site: Site, browser: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    launcher = SimulatedRuns(site.store, KeyDirectory(site.folder / "keys"))
    import json

    from contract import task

    launcher.register(task.parse_mapping(json.loads(TASK)), seed=1, seed_noise=None)
    watched = Watched(browser, WIDE)
    watched.page.route("**/v1/ledger/entries*", _with_changed_body)
    watched.page.goto(f"{site.address}/ledger")
    watched.page.click("#verify")
    watched.page.wait_for_selector("#verify:enabled")
    assert "do not hash to the signed root" in watched.page.inner_text("#checks li.bad")


@pytest.mark.timeout(240)
def test_a_guarded_server_asks_for_a_token_and_forgets_it_with_the_tab(tmp_path: Path, browser: Any) -> None:
    from server.tokens import Scope, Tokens

    site = Site(tmp_path / "store", open_access=False)
    try:
        token = Tokens(site.store.transactions).create(name="viewer", scopes=[Scope.VIEWER])
        watched = Watched(browser, WIDE)
        watched.page.goto(site.address)
        watched.page.fill("#token", token.text)
        watched.page.click("dialog button")
        watched.page.wait_for_selector("text=No runs yet.")
        assert watched.page.evaluate("localStorage.getItem('tutti-token')") is None
        # A browser notes every 401 by itself; nothing else may be complained of.
        assert not [line for line in watched.complaints if "401" not in line]
    finally:
        site.close()


def _with_changed_body(route: Any) -> None:
    answer = route.fetch()
    facts = answer.json()
    if facts["items"]:
        facts["items"][0]["body"] = facts["items"][0]["body"].replace('"format":1', '"format":2')
    route.fulfill(response=answer, json=facts)
