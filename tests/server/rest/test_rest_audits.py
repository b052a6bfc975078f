"""Audits over REST: asked for as jobs, watched, approved, cancelled, resumed, and bound to the models that they attacked."""

import copy
import json
from typing import Any

import pytest

from contract.errors import ErrorCode
from privacy.ledger.entries import EntryKind
from server.audits import PlannedAudit
from server.jobs import JobKind, Jobs, JobState
from server.store.values import RunState
from server.tokens import Scope
from tutti import audit_jobs
from tutti.runner import Runner

Api = Any
AUDIT: dict[str, Any] = {
    "task": {
        "name": "words",
        "population": "audited",
        "model": {"name": "next_word_small"},
        "data": {"source": "synthetic", "devices": 30},
        "cohort": {"report_goal": 10, "over_selection": 1.2},
        "deadlines": {"selection_s": 36000.0},
        "training": {"batch_size": 16, "max_examples": 16, "learning_rate": 0.5},
        "privacy": {"mechanism": "gaussian", "clip_norm": 0.3, "noise_multiplier": 4.0, "delta": 1e-5},
        "rounds": 1,
    },
    "canaries": {"devices": [1, 2], "copies": [4], "per_cell": 2, "per_device": 16},
    "references": 300,
    "treatments": [{"name": "z4"}],
}


def _ask(api: Api, audit: dict[str, Any] | None = None, headers: dict[str, str] | None = None) -> Any:
    return api.client.post("/v1/audits", json={"audit": audit or AUDIT, "workers": 0}, headers=headers)


def _changed(**sections: Any) -> dict[str, Any]:
    return {**copy.deepcopy(AUDIT), **sections}


@pytest.mark.slow
def test_an_audit_is_a_job_with_progress_and_leaves_entries_bound_to_its_models(
    played: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit_jobs, "REPORT_S", 0.0)
    asked = _ask(played)
    assert asked.status_code == 201, asked.text
    audit = asked.json()["audit"]
    assert (asked.json()["state"], asked.headers["location"]) == ("queued", f"/v1/audits/{audit}")
    told: list[dict[str, Any]] = []
    report = played.app.state.services.audits.report
    monkeypatch.setattr(
        "server.audits.Audits.report", lambda _self, name, progress: (told.append(dict(progress)), report(name, progress))
    )
    played.play()
    assert {(one["stage"], one["arm"]) for one in told} == {
        ("training", "words-control"), ("scoring", "control"), ("training", "words-z4"), ("scoring", "z4"),
    }  # fmt: skip
    shown = played.client.get(f"/v1/audits/{audit[:12]}").json()
    assert (shown["job"]["state"], shown["job"]["verdict"]) == ("done", "passed")
    assert [row["name"] for row in shown["result"]["arms"]] == ["control", "z4"]
    assert "files" not in shown["result"]  # paths of the runner's machine
    models = [row["model_digest"] for row in shown["result"]["arms"]]
    assert [item["entry"]["model_digest"] for item in shown["items"]] == models
    for item, digest in zip(shown["items"], models, strict=True):
        outcome = list(played.store.ledger.entries(run=item["run"], kind=EntryKind.ROUND_OUTCOME.value))[-1]
        assert json.loads(outcome.body)["model_digest"] == digest
    assert played.client.get("/v1/audits").json()["items"] == shown["items"]
    assert played.client.get("/v1/audits/jobs").json()["items"] == [shown["job"]]
    events = played.client.get(f"/v1/audits/{audit}/events").text
    assert events.count("event: job") == 1
    assert "event: end" in events
    again = _ask(played)
    assert (again.status_code, again.json()["code"]) == (409, "conflict")


def test_the_same_key_asks_for_one_audit(played: Api) -> None:
    key = {"Idempotency-Key": "once"}
    first, second = _ask(played, headers=key), _ask(played, headers=key)
    assert (first.status_code, second.status_code) == (201, 201)
    assert first.json() == second.json()
    assert len(played.client.get("/v1/audits/jobs").json()["items"]) == 1


@pytest.mark.slow
def test_a_cancelled_audit_stops_after_its_round_and_ends_its_run(played: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    long = copy.deepcopy(AUDIT)
    long["task"] |= {"rounds": 4, "data": {"source": "synthetic", "devices": 80}}
    audit = _ask(played, long).json()["audit"]
    report = played.app.state.services.audits.report

    def cancel_at_first_round(_self: Any, name: str, progress: dict[str, Any]) -> None:
        report(name, progress)
        if progress["done"] == 1:
            assert played.client.post(f"/v1/audits/{audit}:cancel").json()["state"] == "cancelled"

    monkeypatch.setattr("server.audits.Audits.report", cancel_at_first_round)
    played.play()
    (run,) = [run for run in played.store.runs() if run.spec.population == "audited"]
    assert run.state is RunState.CANCELLED
    assert run.next_leaf <= 2
    assert not (played.folder / "keys" / f"{run.id}.key").exists()
    shown = played.client.get(f"/v1/audits/{audit}").json()
    assert (shown["job"]["state"], shown["items"]) == ("cancelled", [])
    assert played.client.post(f"/v1/audits/{audit}:resume").status_code == 409
    assert played.client.post(f"/v1/audits/{audit}:cancel").status_code == 409


@pytest.mark.slow
def test_an_audit_whose_runner_was_stopped_goes_on_with_its_runs(played: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    audit = _ask(played).json()["audit"]
    report = played.app.state.services.audits.report
    runner = Runner(played.location)

    def stop_when_scoring(_self: Any, name: str, progress: dict[str, Any]) -> None:
        report(name, progress)
        if progress["stage"] == "scoring":
            runner.stop()

    with monkeypatch.context() as patched:
        patched.setattr("server.audits.Audits.report", stop_when_scoring)
        runner.run(until_idle=True)
    jobs = Jobs(played.store.transactions)
    assert jobs.of(audit).state is JobState.QUEUED
    played.play()
    assert jobs.of(audit).state is JobState.DONE
    trained = [run.spec.name for run in played.store.runs() if run.spec.population == "audited"]
    assert sorted(trained) == ["words-control", "words-z4"]  # nothing was trained twice


def test_what_cannot_be_audited_is_refused_before_anything_is_kept(played: Api) -> None:
    elsewhere = _changed(treatments=[{"name": "other", "change": {"data": {"source": "/etc/passwd"}}}])
    model = _changed(treatments=[{"name": "other", "change": {"model": {"name": "os:system"}}}])
    no_task = {key: value for key, value in AUDIT.items() if key != "task"}
    unknown = _changed(canaries={"colour": 3})
    features = _changed(task={**AUDIT["task"], "model": {"name": "mlp"}})
    renamed, misspelt = (_changed(treatments=[{"name": "other", "change": {key: "x"}}]) for key in ("name", "spec"))
    beyond = _changed(seed=1 << 60)  # no canonical JSON holds it
    wrong = (elsewhere, model, no_task, unknown, features, renamed, misspelt, beyond, _changed(task=3), _changed(references=5))
    for audit in wrong:
        answer = _ask(played, audit)
        assert (answer.status_code, answer.headers["content-type"]) == (422, "application/problem+json"), answer.text
    assert played.client.get("/v1/audits/jobs").json()["items"] == []


def test_an_audit_in_the_same_devices_waits_for_the_first(played: Api) -> None:
    first = _ask(played).json()["audit"]
    second = _ask(played, _changed(references=400))
    assert (second.status_code, second.json()["code"]) == (409, "conflict")
    assert played.client.post(f"/v1/audits/{first}:cancel").status_code == 200
    assert _ask(played, _changed(references=400)).status_code == 201


def test_a_failed_audit_goes_on_only_when_no_other_one_is_in_its_devices(played: Api) -> None:
    jobs, failed = Jobs(played.store.transactions), _ask(played).json()["audit"]
    assert played.client.post(f"/v1/audits/{failed}:resume").status_code == 409  # it waits still
    assert jobs.take("one") is not None
    jobs.finish(failed, "one", problem=ErrorCode.INTERNAL, detail="it failed")
    second = _ask(played, _changed(references=400)).json()["audit"]
    refused = played.client.post(f"/v1/audits/{failed}:resume")
    assert (refused.status_code, refused.json()["code"]) == (409, "conflict")
    assert played.client.post(f"/v1/audits/{second}:cancel").status_code == 200
    assert played.client.post(f"/v1/audits/{failed}:resume").json()["state"] == "queued"
    assert jobs.take("two") is not None
    jobs.finish(failed, "two")
    assert played.client.post(f"/v1/audits/{failed}:resume").json()["code"] == "run-state"


def test_a_rule_that_is_turned_on_later_stops_an_audit_that_waits(guarded: Api) -> None:
    officer, rule = guarded.headers(Scope.PRIVACY_OFFICER), {"required": True, "reason": "quarterly review"}
    audit = _ask(guarded, headers=guarded.headers(Scope.OPERATOR)).json()["audit"]
    assert guarded.client.put("/v1/populations/audited/approval", json=rule, headers=officer).status_code == 200
    guarded.play()
    address = f"/v1/audits/{audit}"
    assert guarded.client.get(address, headers=officer).json()["job"]["state"] == "awaiting-approval"
    assert guarded.client.post(f"{address}:approve", headers=officer).json()["state"] == "queued"
    policies = guarded.app.state.services.policies
    assert policies.may_start("audited", audit=audit)
    assert not policies.may_start("audited", audit="ab" * 32)


def test_an_audit_waits_for_another_persons_approval_where_the_population_asks_for_it(guarded: Api) -> None:
    operator, officer = guarded.headers(Scope.OPERATOR), guarded.headers(Scope.PRIVACY_OFFICER)
    both = guarded.headers(Scope.OPERATOR, Scope.PRIVACY_OFFICER)
    rule = {"required": True, "reason": "quarterly review"}
    assert guarded.client.put("/v1/populations/audited/approval", json=rule, headers=officer).status_code == 200
    audit = _ask(guarded, headers=both).json()
    assert audit["state"] == "awaiting-approval"
    address = f"/v1/audits/{audit['audit']}:approve"
    assert guarded.client.post(address, headers=operator).status_code == 403
    assert guarded.client.post(address, headers=both).status_code == 403  # whoever asked
    assert guarded.client.post(address, headers=officer).json()["state"] == "queued"
    assert guarded.client.post(address, headers=officer).status_code == 409
    (approval,) = guarded.store.ledger.entries(population="audited", kind=EntryKind.APPROVAL.value)
    facts = json.loads(approval.body)
    assert (facts["what"], facts["audit"], facts["run"]) == ("audit", audit["audit"], None)


def test_whoever_asked_for_an_audit_cannot_release_the_models_that_it_trained(guarded: Api) -> None:
    both = guarded.tokens.create(name="test", scopes=(Scope.OPERATOR, Scope.PRIVACY_OFFICER))
    officer, services = guarded.headers(Scope.PRIVACY_OFFICER), guarded.app.state.services
    run = guarded.store.run("latest")
    planned = PlannedAudit(
        id="ab" * 32, name="audit", task=run.spec.name, population=run.spec.population, spec={},
        data_digests=(run.settings["data_digest"],),
    )  # fmt: skip
    asked = guarded.app.state.services.tokens.principal(both.text).id
    services.jobs.add(
        job=planned.id, kind=JobKind.AUDIT, population=planned.population, requested_by=asked, workers=0, approved=True,
        also=[services.audits.row(planned)],
    )  # fmt: skip
    rule = {"required": True, "reason": "quarterly review"}
    address = f"/v1/populations/{run.spec.population}/approval"
    assert guarded.client.put(address, json=rule, headers=officer).status_code == 200
    wish, address = {"what": "release", "round": run.next_round}, f"/v1/runs/{run.id}:approve"
    own = guarded.client.post(address, json=wish, headers={"Authorization": f"Bearer {both.text}"})
    assert own.status_code == 403, own.text
    assert guarded.client.post(address, json=wish, headers=officer).status_code == 200


def test_tokens_see_the_audits_of_their_populations_only(guarded: Api) -> None:
    audit = _ask(guarded, headers=guarded.headers(Scope.OPERATOR)).json()["audit"]
    inside, outside = (guarded.headers(Scope.OPERATOR, populations=(name,)) for name in ("audited", "people"))
    assert guarded.client.get(f"/v1/audits/{audit}", headers=inside).status_code == 200
    assert len(guarded.client.get("/v1/audits/jobs", headers=inside).json()["items"]) == 1
    assert guarded.client.get("/v1/audits/jobs", headers=outside).json()["items"] == []
    for method, address in (("GET", ""), ("GET", "/events"), ("POST", ":cancel"), ("POST", ":resume")):
        assert guarded.client.request(method, f"/v1/audits/{audit}{address}", headers=outside).status_code == 404
    assert _ask(guarded, headers=outside).status_code == 403


def test_audit_jobs_come_in_pages_by_cursor(played: Api) -> None:
    asked = [_ask(played, _changed(seed=seed)).json()["audit"] for seed in (5, 6, 7)]
    first = played.client.get("/v1/audits/jobs?limit=2").json()
    rest = played.client.get(f"/v1/audits/jobs?limit=2&cursor={first['next']}").json()
    assert rest["next"] is None
    assert sorted(item["audit"] for item in first["items"] + rest["items"]) == sorted(asked)
