"""What can be done over REST: launch, pause, resume, cancel, approve, set budgets; and who may."""

import json
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from contract import task
from contract.errors import ErrorCode, TuttiError
from server.faults import FaultPoint
from server.jobs import LEASE_S, Jobs, JobState
from server.rest import create_app
from server.store.signing import LedgerKey
from server.store.values import RunState
from server.tokens import Scope
from tutti import device_runs, runs
from tutti.runner import Runner

Api = Any
Task = Callable[[str], dict[str, Any]]


def _launch(api: Api, task: dict[str, Any], **headers: str) -> Any:
    return api.client.post("/v1/runs", json={"task": task, "workers": 0, "seed": 1}, headers=headers)


def test_a_launched_run_is_registered_and_played_by_a_runner(played: Api, small: Task) -> None:
    answer = _launch(played, small("launched"))
    assert answer.status_code == 201
    run = answer.json()
    assert answer.headers["location"] == f"/v1/runs/{run['run']}"
    assert (run["state"], run["job"]["state"]) == ("running", "queued")
    Runner(played.location).run(until_idle=True)
    after = played.client.get(f"/v1/runs/{run['run']}").json()
    assert (after["state"], after["rounds"], after["job"]["state"]) == ("completed", 3, "done")
    assert after["privacy"]["epsilon"] > 0
    assert "event: end" in played.client.get(f"/v1/runs/{run['run']}/events").text


def test_the_same_idempotency_key_launches_one_run(played: Api, small: Task) -> None:
    answers = [_launch(played, small("once"), **{"Idempotency-Key": "k1"}) for _ in range(3)]
    assert len({answer.text for answer in answers}) == 1
    assert len({answer.headers["location"] for answer in answers}) == 1
    other = _launch(played, small("other"), **{"Idempotency-Key": "k1"})
    assert (other.status_code, other.json()["code"]) == (409, "conflict")


def test_requests_for_one_task_at_the_same_time_get_runs_of_their_own(played: Api, small: Task) -> None:
    answers: list[Any] = []
    threads = [threading.Thread(target=lambda: answers.append(_launch(played, small("crowd")))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [answer.status_code for answer in answers] == [201] * 4
    assert len({answer.json()["run"] for answer in answers}) == 4


def test_a_refused_request_leaves_its_idempotency_key_free(played: Api, small: Task) -> None:
    assert _launch(played, {**small("bad"), "rounds": 0}, **{"Idempotency-Key": "k2"}).status_code == 422
    assert _launch(played, small("good"), **{"Idempotency-Key": "k2"}).status_code == 201


@pytest.mark.parametrize(
    ("change", "path"),
    [
        ({"model": {"name": "os:getcwd"}}, "model.name"),
        ({"data": {"source": "os:getcwd"}}, "data.source"),
        ({"data": {"source": "/etc/passwd"}}, "data.source"),
        ({"data": {"source": "../data.gz"}}, "data.source"),
        ({"model": {"name": "text_selection", "init_from": "/etc/passwd"}}, "model.init_from"),
        ({"privacy": {"mechanism": "tree"}}, "privacy.clip_norm"),
        ({"data": {"source": "synthetic", "devices": 60, "seed": 2**60}}, "$"),
    ],
)
def test_what_a_task_may_not_name_over_rest_is_refused_by_key(
    played: Api, small: Task, change: dict[str, Any], path: str
) -> None:
    answer = _launch(played, {**small("bad"), **change})
    assert answer.status_code == 422
    assert path in [problem["path"] for problem in answer.json()["problems"]]


def test_a_paused_run_goes_on_where_it_was(played: Api, small: Task) -> None:
    run = _launch(played, small("paused")).json()["run"]
    assert played.client.post(f"/v1/runs/{run}:pause").json()["state"] == "paused"
    Runner(played.location).run(until_idle=True)
    assert played.client.get(f"/v1/runs/{run}").json()["rounds"] == 0
    assert played.client.post(f"/v1/runs/{run}:pause").status_code == 409
    assert played.client.post(f"/v1/runs/{run}:resume").json()["job"]["state"] == "queued"
    assert played.client.post(f"/v1/runs/{run}:resume").json()["code"] == "run-state"
    Runner(played.location).run(until_idle=True)
    assert played.client.get(f"/v1/runs/{run}").json()["rounds"] == 3


def test_a_run_that_devices_play_goes_on_without_a_runner(played: Api, small: Task) -> None:
    run = device_runs.register(played.store, played.keys, task.parse_mapping(small("devices"))).id
    assert played.client.post(f"/v1/runs/{run}:pause").json()["state"] == "paused"
    assert played.client.post(f"/v1/runs/{run}:resume").json()["state"] == "running"
    assert played.client.post(f"/v1/runs/{run}:resume").json()["code"] == "run-state"
    assert played.client.post(f"/v1/runs/{run}:cancel").json()["state"] == "cancelled"


def test_a_run_from_the_command_line_is_followed_to_its_end(played: Api, small: Task) -> None:
    launcher = played.app.state.services.launcher
    run = launcher.register(task.parse_mapping(small("plain")), seed=1, seed_noise=None).id
    began = threading.Event()

    def play() -> None:
        began.wait()
        runs.resume(run, store=played.location, workers=0)

    player = threading.Thread(target=play)
    player.start()
    with played.client.stream("GET", f"/v1/runs/{run}/events") as stream:
        began.set()
        told = "".join(stream.iter_text())
    player.join()
    assert told.count("event: round") == 3
    assert told.index('"state":"running"') < told.index("event: round") < told.index("event: end")


def test_a_cancelled_run_is_over(played: Api, small: Task) -> None:
    run = _launch(played, small("cancelled")).json()["run"]
    key = played.folder / "keys" / f"{run}.key"
    assert key.exists()
    assert played.client.post(f"/v1/runs/{run}:cancel").json()["state"] == "cancelled"
    assert not key.exists(), "the noise key outlived its run"
    Runner(played.location).run(until_idle=True)
    assert played.client.get(f"/v1/runs/{run}").json()["rounds"] == 0
    for verb in ("pause", "resume", "cancel"):
        assert played.client.post(f"/v1/runs/{run}:{verb}").status_code == 409


def test_a_run_that_needs_approval_waits_for_another_person(guarded: Api, small: Task) -> None:
    both = guarded.headers(Scope.OPERATOR, Scope.PRIVACY_OFFICER)
    officer = guarded.headers(Scope.PRIVACY_OFFICER)
    required = guarded.client.put("/v1/populations/people/approval", json={"required": True}, headers=officer)
    assert required.json()["approval_required"]
    run = _launch(guarded, small("approved"), **both).json()
    assert run["job"]["state"] == "awaiting-approval"
    Runner(guarded.location).run(until_idle=True)
    assert guarded.store.run(run["run"]).next_round == 0
    start, address = {"what": "start"}, f"/v1/runs/{run['run']}:approve"
    assert guarded.client.post(address, json=start, headers=both).json()["code"] == "forbidden"
    assert guarded.client.post(address, json=start, headers=officer).json()["job"]["state"] == "queued"
    assert guarded.client.post(address, json=start, headers=officer).json()["code"] == "run-state"
    Runner(guarded.location).run(until_idle=True)
    count = guarded.store.run(run["run"]).next_round
    model = f"/v1/runs/{run['run']}/models/{count}"
    assert guarded.client.get(model, headers=officer).json()["code"] == "entry-not-committed"
    release = {"what": "release", "round": count}
    assert guarded.client.post(address, json=release, headers=both).status_code == 403
    assert guarded.client.post(address, json=release, headers=officer).status_code == 200
    assert guarded.client.get(model, headers=officer).status_code == 200
    left = guarded.client.get(f"/v1/ledger/entries?kind=model-released&run={run['run']}", headers=officer).json()["items"]
    assert [item["entry"]["round"] for item in left] == [count - 1]
    kinds = guarded.client.get(f"/v1/ledger/entries?kind=approval&run={run['run']}", headers=officer).json()["items"]
    assert [item["entry"]["what"] for item in kinds] == ["start", "release"]


def test_a_budget_is_an_entry_with_a_reason(guarded: Api) -> None:
    officer, viewer = guarded.headers(Scope.PRIVACY_OFFICER), guarded.headers(Scope.VIEWER)
    change = {"epsilon": 20.0, "delta": 1e-5, "reason": "yearly review"}
    assert guarded.client.put("/v1/populations/people/budget", json=change, headers=viewer).status_code == 403
    told = guarded.client.put("/v1/populations/people/budget", json=change, headers=officer).json()
    assert told["budget_epsilon"] == 20.0
    assert told["remaining_epsilon"] == pytest.approx(20.0 - told["spent_epsilon"])
    entry = guarded.client.get("/v1/ledger/entries?kind=budget-set", headers=viewer).json()["items"][0]["entry"]
    assert entry["reason"] == "yearly review"
    without = {key: value for key, value in change.items() if key != "reason"}
    assert guarded.client.put("/v1/populations/people/budget", json=without, headers=officer).status_code == 422


def test_a_run_that_does_not_fit_its_budget_is_refused_and_leaves_nothing(played: Api, small: Task) -> None:
    spent = played.client.get("/v1/populations/people/budget").json()["spent_epsilon"]
    change = {"epsilon": spent + 0.01, "delta": 1e-5, "reason": "nearly used up"}
    played.client.put("/v1/populations/people/budget", json=change)
    before = played.store.ledger.head().size
    answer = _launch(played, small("greedy"))
    assert (answer.status_code, answer.json()["code"]) == (409, "budget-exceeded")
    assert played.store.ledger.head().size == before
    assert len(played.client.get("/v1/runs").json()["items"]) == 1


def test_tokens_are_asked_for_and_told_apart_from_nothing(guarded: Api) -> None:
    assert guarded.client.get("/v1/runs").status_code == 401
    assert guarded.client.get("/v1/runs").headers["www-authenticate"] == "Bearer"
    wrong = {"Authorization": "Bearer tutti_aaaaaaaa_" + "A" * 43}
    malformed = {"Authorization": "Bearer nonsense"}
    answers = [guarded.client.get("/v1/runs", headers=headers) for headers in (wrong, malformed)]
    assert answers[0].json() == answers[1].json()
    assert guarded.client.get("/healthz").status_code == 200


def test_a_token_limited_to_a_population_sees_no_other(guarded: Api, small: Task) -> None:
    admin = guarded.headers(Scope.ADMIN)
    elsewhere = _launch(guarded, {**small("far"), "population": "others"}, **admin).json()["run"]
    limited = guarded.headers(Scope.VIEWER, Scope.OPERATOR, populations=("people",))
    runs = guarded.client.get("/v1/runs", headers=limited).json()["items"]
    assert {run["population"] for run in runs} == {"people"}
    assert guarded.client.get(f"/v1/runs/{elsewhere}", headers=limited).status_code == 404
    assert guarded.client.post(f"/v1/runs/{elsewhere}:cancel", headers=limited).status_code == 404
    assert guarded.client.get("/v1/populations/others/budget", headers=limited).status_code == 404
    assert guarded.client.get("/v1/ledger/entries?population=others", headers=limited).status_code == 403
    entries = guarded.client.get("/v1/ledger/entries?limit=500", headers=limited).json()["items"]
    assert {item["entry"]["population"] for item in entries} == {"people"}
    assert _launch(guarded, {**small("x"), "population": "others"}, **limited).status_code == 403
    assert guarded.client.get("/metrics", headers=limited).status_code == 403
    assert guarded.client.get("/v1/populations", headers=limited).json()["items"][0]["population"] == "people"
    hidden = guarded.store.ledger.head().size - 1
    assert guarded.client.get(f"/v1/ledger/entries/{hidden}", headers=limited).status_code == 404


def test_revoked_and_expired_tokens_are_refused(guarded: Api) -> None:
    fresh = guarded.tokens.create(name="gone", scopes=[Scope.VIEWER])
    headers = {"Authorization": f"Bearer {fresh.text}"}
    assert guarded.client.get("/v1/runs", headers=headers).status_code == 200
    guarded.tokens.revoke(fresh.token.id)
    assert guarded.client.get("/v1/runs", headers=headers).status_code == 401
    brief = guarded.tokens.create(name="brief", scopes=[Scope.VIEWER], valid_s=1e-6)
    assert guarded.client.get("/v1/runs", headers={"Authorization": f"Bearer {brief.text}"}).status_code == 401


def test_a_token_is_in_the_store_as_a_hash_only(guarded: Api) -> None:
    fresh = guarded.tokens.create(name="secret", scopes=[Scope.VIEWER])
    secret = fresh.text.rpartition("_")[2] if "_" not in fresh.text[15:] else fresh.text[15:]
    assert secret not in repr(fresh)
    for file in guarded.folder.rglob("*"):
        if file.is_file():
            assert secret.encode() not in file.read_bytes()


def test_a_request_that_is_too_large_is_refused_before_it_is_read(played: Api) -> None:
    answer = played.client.post("/v1/cost", content=b"x" * (1 << 20) + b"x", headers={"Content-Type": "application/json"})
    assert (answer.status_code, answer.json()["code"]) == (413, "too-large")

    def stream() -> Any:
        for _ in range(40):
            yield b"x" * 65536

    assert played.client.post("/v1/cost", content=stream()).status_code == 413


def test_too_many_requests_are_told_to_wait(played: Api) -> None:
    app = create_app(
        played.store,
        signer=LedgerKey(played.folder, store=played.location).signer(),
        open_access=True,
        requests_per_s=0.001,
        burst=3,
    )
    client = type(played.client)(app, base_url="http://localhost")
    statuses = [client.get("/v1/tasks/schema") for _ in range(5)]
    assert [answer.status_code for answer in statuses] == [200, 200, 200, 429, 429]
    assert statuses[-1].headers["retry-after"] == "1"


def test_an_open_server_answers_to_its_own_name_only(played: Api) -> None:
    assert played.client.get("/v1/runs", headers={"Host": "evil.example:7311"}).status_code == 403
    assert played.client.get("/v1/runs", headers={"Host": "localhost:7311"}).status_code == 200


def test_an_open_server_is_open_until_the_first_token_is_made(played: Api) -> None:
    assert played.client.get("/v1/runs").status_code == 200
    viewer = played.headers(Scope.VIEWER)
    assert played.client.get("/v1/runs").status_code == 401
    assert played.client.get("/v1/runs", headers=viewer).status_code == 200
    assert played.client.get("/v1/runs", headers={**viewer, "Host": "fl.example"}).status_code == 200


def test_a_form_that_any_page_could_send_changes_nothing(played: Api, small: Task) -> None:
    body = json.dumps({"task": small("forged")})
    answer = played.client.post("/v1/runs", content=body, headers={"Content-Type": "text/plain"})
    assert answer.status_code == 422
    for origin in (
        "https://evil.example",
        "null",
        "http://localhost:1",
        "http://127.0.0.1",
        "http://evil.example//localhost",
        "",
    ):
        assert played.client.post("/v1/runs/latest:cancel", headers={"Origin": origin}).status_code == 403, origin
    for host in ("evil.example", "testserver", "localhost.evil.example", "localhost:80:80"):
        assert played.client.get("/v1/runs", headers={"Host": host}).status_code == 403, host
    assert played.client.get("/v1/runs", headers={"Origin": "http://localhost"}).status_code == 200


def test_no_answer_is_taken_for_something_else(played: Api) -> None:
    for address in ("/", "/static/api.js", "/v1/runs", "/v1/nothing"):
        assert played.client.get(address).headers["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize("name", ["x" * 300, "x" * 101, "a\0b"])
def test_a_file_with_a_name_that_no_file_has_is_a_fault_of_the_task(
    api_of: Any, played_store: str, tmp_path: Path, small: Task, name: str
) -> None:
    shutil.copytree(played_store, tmp_path / "store")
    api = api_of(str(tmp_path / "store"), open_access=True, data_directory=tmp_path)
    answer = api.client.post("/v1/cost", json={"task": {**small("a"), "data": {"source": name}}})
    assert (answer.status_code, answer.json()["problems"][0]["path"]) == (422, "data.source")
    api.close()


def test_one_of_two_runners_gets_a_job_and_a_dead_ones_lease_runs_out(played: Api, small: Task) -> None:
    run = _launch(played, small("leased")).json()["run"]
    now = 1_000_000.0
    jobs = Jobs(played.store.transactions, now_s=lambda: now)
    taken = jobs.take("one")
    assert taken is not None
    assert (taken.id, taken.state) == (run, JobState.LEASED)
    assert jobs.take("two") is None
    assert jobs.renew(run, "one")
    now += LEASE_S + 1
    again = jobs.take("two")
    assert again is not None
    assert not jobs.renew(run, "one")
    jobs.finish(run, "one")  # too late: it is not the holder any more
    assert jobs.of(run).state is JobState.LEASED
    jobs.release(run, "two")
    assert jobs.of(run).state is JobState.QUEUED
    jobs.withdraw(run)
    assert jobs.take("three") is None


def test_a_job_that_kills_its_runners_is_given_up(played: Api, small: Task) -> None:
    run = _launch(played, small("deadly")).json()["run"]
    now = 1_000_000.0
    jobs = Jobs(played.store.transactions, now_s=lambda: now)
    while jobs.take("mortal") is not None:
        now += LEASE_S + 1
    job = jobs.of(run)
    assert (job.state, job.problem) == (JobState.FAILED, "internal")
    with pytest.raises(TuttiError) as refusal:
        jobs.approve(run)
    assert refusal.value.code is ErrorCode.RUN_STATE


def test_the_next_runner_resumes_what_a_killed_one_left(played: Api, small: Task) -> None:
    run = _launch(played, small("orphan")).json()["run"]
    long_ago = Jobs(played.store.transactions, now_s=lambda: 0.0)
    assert long_ago.take("killed") is not None

    def kill(point: FaultPoint, index: int) -> None:
        if point is FaultPoint.AFTER_CHARGE and index == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        runs.resume(run, store=played.location, workers=0, faults=kill)
    assert played.store.run(run).next_leaf == 1
    Runner(played.location).run(until_idle=True)
    assert played.store.run(run).state is RunState.COMPLETED
    told = played.client.get(f"/v1/runs/{run}").json()
    assert (told["rounds"], told["job"]["state"]) == (3, "done")


def test_two_runners_play_two_runs_at_once(played: Api, small: Task) -> None:
    launched = [_launch(played, small(name)).json()["run"] for name in ("one", "two")]
    threads = [threading.Thread(target=Runner(played.location).run, kwargs={"until_idle": True}) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {played.store.run(run).state for run in launched} == {RunState.COMPLETED}
