"""`kill -9` at every fault point and at random moments, training stubbed: nothing is revealed uncharged, nothing is lost, runs resume."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from privacy import events
from privacy.ledger.notes import SignerKey
from privacy.ledger.spending import Budget, epsilon_of
from server import budgets
from server.faults import FaultPoint
from server.store.crosscheck import verify_store
from server.store.store import Store
from server.store.values import RunState

KEY = SignerKey("tutti-ledger/test", bytes(range(32)))
HERE = Path(__file__).parent
Order = Callable[..., dict[str, Any]]


@pytest.fixture(scope="module")
def stubbed() -> Iterator[Order]:
    """Sends orders to a server that may be killed."""
    with subprocess.Popen(
        [sys.executable, str(HERE / "stubbed_server.py")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": str(HERE.parents[2]), "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
    ) as server:  # fmt: skip
        assert server.stdin is not None
        assert server.stdout is not None
        assert server.stdout.readline() == "ready\n"

        def send(**order: Any) -> dict[str, Any]:
            assert server.stdin is not None
            assert server.stdout is not None
            server.stdin.write(json.dumps(order) + "\n")
            server.stdin.flush()
            return json.loads(server.stdout.readline())

        yield send
        server.stdin.close()


@pytest.fixture(scope="module")
def undisturbed(stubbed: Order, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, list[bytes]]:
    """Digest of the last model, and the entries, of a run that nobody killed."""
    folder = str(tmp_path_factory.mktemp("calm"))
    answer = stubbed(folder=folder, store=folder, rounds=4)
    store = Store.open(folder)
    bodies = [entry.body for entry in store.entries()]
    store.close()
    return answer["said"], bodies


def promises_hold(store_url: str, folder: Path, before: list[bytes]) -> list[bytes]:
    """What must be true of a store whose server was killed; the entries."""
    store = Store.open(store_url)
    bodies = [entry.body for entry in store.entries()]
    assert bodies[: len(before)] == before, "an entry was lost or changed"
    assert verify_store(store, key=KEY.verifier).problems == ()
    facts = [json.loads(body) for body in bodies]
    charged = {(each["run"], each["leaf"]) for each in facts if each["kind"] == "round-charged"}
    committed = {(each["run"], each["model_digest"]) for each in facts if each.get("result") == "committed"}
    sums: dict[tuple[str, int], str] = {}
    for line in (folder / "witness").read_text().splitlines() if (folder / "witness").exists() else []:
        kind, run, number, digest = line.split()
        if kind == "noise":
            assert (run, int(number)) in charged, "noise was drawn for a leaf that was never charged"
            assert sums.setdefault((run, int(number)), digest) == digest, "one leaf's noise was used for two sums"
        else:
            assert (run, digest) in committed, "a model was published without its entry"
    for run in store.runs():
        newest = store.model(run.id)
        assert newest.round == 0 or (run.id, newest.digest) in committed
    store.close()
    return bodies


@pytest.mark.parametrize("later", [False, True], ids=["settled-at-once", "settled-later"])
@pytest.mark.parametrize("point", FaultPoint, ids=lambda point: point.value)
def test_run_killed_at_a_fault_point_keeps_every_promise_and_reaches_the_same_model(
    stubbed: Order, undisturbed: tuple[str, list[bytes]], store_url: str, tmp_path: Path, point: FaultPoint, later: bool
) -> None:
    order = {"folder": str(tmp_path), "store": store_url, "rounds": 4, "later": later}
    assert stubbed(**order, point=point.value, round=1) == {"said": "", "killed": True}
    bodies = promises_hold(store_url, tmp_path, [])
    assert stubbed(**order) == {"said": undisturbed[0], "killed": False}
    assert promises_hold(store_url, tmp_path, bodies) == undisturbed[1]


@pytest.mark.parametrize("point", [FaultPoint.AFTER_CHARGE, FaultPoint.AFTER_NOISE, FaultPoint.BEFORE_COMMIT])
def test_charge_that_a_crash_left_behind_is_never_used_for_other_data(
    stubbed: Order, tmp_path: Path, point: FaultPoint
) -> None:
    order = {"folder": str(tmp_path), "store": str(tmp_path), "rounds": 3}
    assert stubbed(**order, point=point.value, round=1)["killed"]
    bodies = promises_hold(str(tmp_path), tmp_path, [])
    assert not stubbed(**order, salt=5)["killed"]
    whole = [json.loads(body) for body in promises_hold(str(tmp_path), tmp_path, bodies)]
    lost = [facts for facts in whole if facts.get("result") == "abandoned"]
    assert [(facts["round"], facts["leaf"], facts["reason"], facts["leaf_used"]) for facts in lost] == [
        (1, 1, "interrupted", True)
    ]
    assert [facts["leaf"] for facts in whole if facts.get("result") == "committed"] == [0, 2]


def test_run_pauses_before_the_round_that_its_budget_does_not_allow_and_goes_on_when_it_does(
    stubbed: Order, undisturbed: tuple[str, list[bytes]], tmp_path: Path
) -> None:
    order = {"folder": str(tmp_path), "store": str(tmp_path), "rounds": 4}
    facts = [json.loads(body) for body in undisturbed[1]]
    costs = [epsilon_of([events.from_json(each["event"])], delta=1e-6) for each in facts if each["kind"] == "round-charged"]
    store = Store.open(str(tmp_path))
    budgets.set_budget(store.ledger, "p", Budget(epsilon=(costs[1] + costs[2]) / 2, delta=1e-6), reason="policy", by="op")
    stopped = stubbed(**order)
    assert stopped["said"].startswith("error with this round population p would cost epsilon")
    kinds = [entry.kind for entry in store.entries()]
    assert kinds.count("round-charged") == kinds.count("round-outcome") == 2
    (run,) = store.runs()
    assert run.state is RunState.PAUSED
    budgets.set_budget(store.ledger, "p", Budget(epsilon=costs[3], delta=1e-6), reason="reviewed", by="op")
    store.set_run_state(run.id, RunState.RUNNING)
    assert stubbed(**order) == {"said": undisturbed[0], "killed": False}
    assert verify_store(store, key=KEY.verifier).problems == ()
    store.close()


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_two_hundred_kills_at_random_moments_break_no_promise(stubbed: Order, tmp_path: Path) -> None:
    struck, kills = 0, 0
    for lap in range(8):
        folder = tmp_path / str(lap)
        folder.mkdir()
        bodies: list[bytes] = []
        for _ in range(25):
            kills += 1
            moment_s = 0.03 + 0.25 * (kills * 0.6180339887 % 1)  # spread evenly, and never in step with anything
            answer = stubbed(folder=str(folder), store=str(folder), rounds=120, after_s=moment_s, later=kills % 2 == 1)
            struck += answer["killed"]
            if (folder / "tutti.db").exists():
                bodies = promises_hold(str(folder), folder, bodies)
        finished = stubbed(folder=str(folder), store=str(folder), rounds=120)
        assert not finished["killed"]
        assert len(finished["said"]) == 64, finished["said"]
        promises_hold(str(folder), folder, bodies)
    assert kills == 200
    assert struck > 100


@pytest.mark.slow
@pytest.mark.postgres
@pytest.mark.timeout(600)
def test_forty_kills_at_random_moments_break_no_promise_on_postgresql(
    stubbed: Order, postgres_url: str, tmp_path: Path
) -> None:
    order, bodies, struck = {"folder": str(tmp_path), "store": postgres_url, "rounds": 240}, list[bytes](), 0
    for kill in range(1, 41):
        struck += stubbed(**order, after_s=0.1 + 0.5 * (kill * 0.6180339887 % 1))["killed"]
        bodies = promises_hold(postgres_url, tmp_path, bodies)
    assert struck > 20
    finished = stubbed(**order)
    assert not finished["killed"]
    assert len(finished["said"]) == 64
    promises_hold(postgres_url, tmp_path, bodies)
