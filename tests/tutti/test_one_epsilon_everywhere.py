"""Whoever says what a run has spent says the same: rounds' rows, progress, lists, pages' API, reports and pictures, on both transports."""

from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

import tutti
from contract.errors import ErrorCode, TuttiError
from privacy.report import run_report
from privacy.report.claims import up
from server.faults import FaultPoint
from server.keys import KeyDirectory
from server.rest import create_app
from server.store.signing import LedgerKey
from server.store.store import Store
from tutti import plots, results, stores
from tutti.launching import SimulatedRuns
from tutti.playing import Silence

pytestmark = pytest.mark.slow
TASK: dict[str, Any] = {
    "name": "secure",
    "population": "test",
    "model": {"name": "mlp"},
    "data": {"source": "synthetic", "devices": 400},
    "cohort": {"report_goal": 20, "over_selection": 1.4, "minimum_reports": 18, "max_participations": 3},
    "deadlines": {"selection_s": 60, "reporting_s": 30},
    "training": {"batch_size": 10, "max_examples": 10, "learning_rate": 0.1},
    "privacy": {"mechanism": "ddg", "clip_norm": 0.5, "noise_multiplier": 1.0, "delta": 1e-5},
    "aggregation": {"secure": True, "bits": 16, "minimum_survivors": 14, "corrupt_fraction": 0.05, "drop_fraction": 0.1},
    "rounds": 2,
}


class Told(Silence):
    """Keeps what progress shows."""

    def __init__(self) -> None:
        self.rows: list[Mapping[str, Any]] = []
        self.note = ""

    def started(self, *, committed: int, note: str) -> None:
        self.note = note

    def round_ended(self, facts: Mapping[str, Any]) -> None:
        self.rows.append(facts)


@contextmanager
def served(folder: Path) -> Generator[tuple[Store, TestClient]]:
    """A store, and its API as anybody on this machine may use it."""
    store = Store.open(str(folder))
    signer, launcher = LedgerKey(folder, store=str(folder)).signer(), SimulatedRuns(store, KeyDirectory(folder / "keys"))
    client = TestClient(create_app(store, signer=signer, launcher=launcher, open_access=True), base_url="http://localhost")
    yield store, client
    client.close()
    store.close()


def said_of(folder: Path) -> dict[str, float]:
    """The epsilon of the newest run as each place says it; reports round up, and so does this."""
    with served(folder) as (store, client):
        run = store.run("latest")
        shown, rounds = client.get("/v1/runs/latest").json(), client.get("/v1/runs/latest/rounds").json()["items"]
        ended = [row for row in rounds if row["outcome_entry"] is not None]
        told = {
            "list": results.run_line(store, run)["epsilon"],
            "result": results.result(store, run)["privacy"]["epsilon"],
            "tile": shown["privacy"]["epsilon"],
            "metrics of the API": shown["metrics"]["epsilon"],
            "row of the API": ended[-1]["facts"]["epsilon"],
            "picture": plots.history(store, run).epsilons[-1],
        }
        report = run_report([entry.body for entry in store.entries(run=run.id)])
        reported = {"report": report, "report of the API": client.get("/v1/runs/latest/report").json()}
    rounded = {name: up(epsilon) or 0.0 for name, epsilon in told.items()}
    return rounded | {name: one["guarantee"]["epsilon"] for name, one in reported.items()}


@pytest.mark.timeout(300)
@pytest.mark.parametrize("transport", ["inprocess", "grpc"])
def test_one_number_for_one_state_whoever_says_it(tmp_path: Path, transport: str) -> None:
    """Over gRPC rows once said what all had been charged at worst, the tile what the last round had, the report what happened."""
    told = Told()
    workers = 0 if transport == "inprocess" else 1
    result = tutti.run(TASK, store=str(tmp_path), transport=transport, workers=workers, progress=told)
    said = said_of(tmp_path) | {
        "progress": up(told.rows[-1]["epsilon"]),
        "what the run returns": up(result["privacy"]["epsilon"]),
    }
    assert len(set(said.values())) == 1, said
    assert result["privacy"]["open_round"] is None
    if transport == "grpc":
        with served(tmp_path) as (_, client):
            sessions = client.get("/v1/runs/latest/sessions").json()
        assert sessions["reasons"]["-v[#"] == {"server: goal-reached": sessions["shapes"]["-v[#"]}
        assert set(sessions["reasons"]) <= set(sessions["shapes"])
        assert not [shape for shape in sessions["shapes"] if shape.endswith("*")]
    assert "at most" in told.note
    assert worst_of(told.note) > result["privacy"]["epsilon"]  # more devices came than the plan counts on


def test_a_round_that_is_charged_and_open_counts_at_its_worst_case_and_is_named(tmp_path: Path) -> None:
    def crash(point: FaultPoint, round_index: int) -> None:
        if (point, round_index) == (FaultPoint.AFTER_CHARGE, 1):
            raise TuttiError(ErrorCode.INTERNAL, "crash")

    with pytest.raises(TuttiError, match="crash"):
        tutti.run(TASK, store=str(tmp_path), workers=0, faults=crash)
    said = said_of(tmp_path)
    of_a_round = {said.pop(name) for name in ("row of the API", "metrics of the API", "picture")}
    assert len(set(said.values())) == len(of_a_round) == 1, said
    assert min(said.values()) > max(of_a_round)  # the rows are of rounds that ended
    with stores.opened(str(tmp_path)) as (database, _):
        run = database.run("latest")
        assert results.run_line(database, run)["open_round"] == 1
        remarks = run_report([entry.body for entry in database.entries(run=run.id)])["guarantee"]["remarks"]
    assert "round 1 is charged and has no outcome yet: it counts at its worst case." in remarks


def worst_of(note: str) -> float:
    """The number in the line that says what all rounds will cost."""
    words = note.split()
    return float(words[words.index("epsilon") + 1])
