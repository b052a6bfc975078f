"""Approvals: a rule that comes later, runs without a job, two officers at once."""

import threading
from collections.abc import Callable
from typing import Any

import pytest

from contract.errors import ErrorCode, TuttiError
from contract.task import TaskSpec
from server.jobs import Jobs
from server.store.values import RunState
from server.tokens import Scope
from tutti import runs
from tutti.launching import SimulatedRuns

Api = Any
Task = Callable[[str], dict[str, Any]]


def _launch(api: Api, task: dict[str, Any], **headers: str) -> Any:
    return api.client.post("/v1/runs", json={"task": task, "workers": 0, "seed": 1}, headers=headers)


def test_a_rule_that_is_turned_on_later_stops_jobs_that_wait_and_runs_that_are_resumed(guarded: Api, small: Task) -> None:
    operator, officer = guarded.headers(Scope.OPERATOR), guarded.headers(Scope.PRIVACY_OFFICER)
    run = _launch(guarded, small("queued"), **operator).json()
    assert run["job"]["state"] == "queued"
    rule = {"required": True, "reason": "quarterly review"}
    assert guarded.client.put("/v1/populations/people/approval", json=rule, headers=officer).status_code == 200
    guarded.play()
    assert guarded.store.run(run["run"]).next_round == 0
    address = f"/v1/runs/{run['run']}"
    assert guarded.client.get(address, headers=operator).json()["job"]["state"] == "awaiting-approval"
    with pytest.raises(TuttiError) as refused:
        runs.resume(run["run"], store=guarded.location, workers=0)
    assert refused.value.code is ErrorCode.FORBIDDEN
    assert guarded.client.post(f"{address}:approve", json={"what": "start"}, headers=officer).status_code == 200
    guarded.play()
    assert guarded.store.run(run["run"]).state is RunState.COMPLETED


def test_a_run_without_a_job_goes_on_once_it_is_approved(guarded: Api, small_task: TaskSpec) -> None:
    officer, rule = guarded.headers(Scope.PRIVACY_OFFICER), {"required": True, "reason": "quarterly review"}
    run = SimulatedRuns(guarded.store, guarded.keys).register(small_task, seed=1, seed_noise=None).id
    assert guarded.client.put("/v1/populations/people/approval", json=rule, headers=officer).status_code == 200
    with pytest.raises(TuttiError, match="asks for another person's approval"):
        runs.resume(run, store=guarded.location, workers=0)
    wish, address = {"what": "start"}, f"/v1/runs/{run}:approve"
    assert [guarded.client.post(address, json=wish, headers=officer).status_code for _ in range(2)] == [200, 409]
    assert runs.resume(run, store=guarded.location, workers=0)["rounds"] == 3


def test_a_run_whose_approval_is_asked_for_no_more_goes_on_when_it_is_resumed(guarded: Api, small: Task) -> None:
    operator, officer = guarded.headers(Scope.OPERATOR), guarded.headers(Scope.PRIVACY_OFFICER)
    rule, policy = {"required": True, "reason": "quarterly review"}, "/v1/populations/people/approval"
    assert guarded.client.put(policy, json=rule, headers=officer).status_code == 200
    address = f"/v1/runs/{_launch(guarded, small('lifted'), **operator).json()['run']}"
    assert guarded.client.post(f"{address}:resume", headers=operator).status_code == 409
    assert guarded.client.put(policy, json={**rule, "required": False}, headers=officer).status_code == 200
    assert guarded.client.post(f"{address}:resume", headers=operator).json()["job"]["state"] == "queued"
    assert guarded.client.post(f"{address}:resume", headers=operator).status_code == 409


@pytest.mark.parametrize("what", ["start", "release"])
def test_of_two_officers_at_once_one_approves_and_one_entry_is_left(guarded: Api, small: Task, what: str) -> None:
    operator, officer = guarded.headers(Scope.OPERATOR), guarded.headers(Scope.PRIVACY_OFFICER)
    rule = {"required": True, "reason": "quarterly review"}
    assert guarded.client.put("/v1/populations/people/approval", json=rule, headers=officer).status_code == 200
    finished = guarded.store.run("latest")
    run = finished.id if what == "release" else _launch(guarded, small("two"), **operator).json()["run"]
    wish = {"what": what} if what == "start" else {"what": what, "round": finished.next_round}
    both, answers = threading.Barrier(4), list[int]()

    def approve() -> None:
        both.wait()
        answers.append(guarded.client.post(f"/v1/runs/{run}:approve", json=wish, headers=officer).status_code)

    threads = [threading.Thread(target=approve) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(answers) == [200, 409, 409, 409]
    assert len(list(guarded.store.ledger.entries(run=run, kind="approval"))) == 1


def test_a_late_officer_leaves_no_approval_behind(guarded: Api, small: Task) -> None:
    run = _launch(guarded, small("late"), **guarded.headers(Scope.OPERATOR)).json()["run"]
    said: list[object] = []
    with pytest.raises(TuttiError) as refused:
        Jobs(guarded.store.transactions).approve(run, said.append)
    assert (refused.value.code, said) == (ErrorCode.RUN_STATE, [])
