"""What can be read over REST: runs, rounds, models, ledger, proofs."""

import base64
import hashlib
import json
from collections.abc import Callable
from typing import Any

import jsonschema
import pytest

from contract.errors import ErrorCode
from privacy import events, report
from privacy.ledger import checkpoint, entries, merkle, proofs
from privacy.ledger.notes import VerifierKey
from server.store.tables import ModelRow
from server.store.values import RunState

Api = Any
Task = Callable[[str], dict[str, Any]]


def _run(api: Api) -> str:
    return api.client.get("/v1/runs").json()["items"][0]["run"]


def test_a_run_tells_what_it_has_spent(played: Api) -> None:
    run = played.client.get("/v1/runs/latest").json()
    assert run["rounds"] == run["planned"] == 3
    assert run["state"] == "completed"
    assert run["privacy"]["epsilon"] > 0
    assert run["privacy"]["first_lines"]
    assert run["job"] is None


def test_runs_come_in_pages_that_new_runs_do_not_shift(played: Api, small: Task) -> None:
    first = played.client.post("/v1/runs", json={"task": small("a")}).json()["run"]
    second = played.client.post("/v1/runs", json={"task": small("b")}).json()["run"]
    page = played.client.get("/v1/runs", params={"limit": 1}).json()
    assert len(page["items"]) == 1
    rest = played.client.get("/v1/runs", params={"limit": 50, "cursor": page["next"]}).json()
    assert rest["next"] is None
    assert {page["items"][0]["run"]} | {item["run"] for item in rest["items"]} >= {first, second}
    assert len(rest["items"]) == 2


def test_a_cursor_that_no_page_gave_is_refused(played: Api) -> None:
    answer = played.client.get("/v1/ledger/entries", params={"cursor": "bm9uc2Vuc2U"})
    assert answer.status_code == 422
    assert answer.json()["code"] == "argument-invalid"


def test_rounds_carry_what_the_charts_need(played: Api) -> None:
    rounds = played.client.get(f"/v1/runs/{_run(played)}/rounds").json()["items"]
    committed = [row for row in rounds if row["state"] == "committed"]
    assert len(committed) == 3
    assert all({"loss", "accuracy", "rho", "epsilon", "selection_s", "virtual_s"} <= set(row["facts"]) for row in committed)
    assert [row["facts"]["rho"] for row in committed] == sorted(row["facts"]["rho"] for row in committed)
    shapes = played.client.get(f"/v1/runs/{_run(played)}/sessions").json()["shapes"]
    assert shapes["-v[]+^"] == sum(row["reported"] for row in committed)


def test_a_model_is_its_digest(played: Api) -> None:
    run = played.client.get("/v1/runs/latest").json()
    count = played.client.get(f"/v1/runs/{run['run']}/rounds").json()["items"][-1]["round"] + 1
    answer = played.client.get(f"/v1/runs/{run['run']}/models/{count}")
    assert answer.status_code == 200
    digest = hashlib.sha256(answer.content)
    assert digest.hexdigest() == run["model_digest"]
    assert answer.headers["etag"] == f'"{digest.hexdigest()}"'
    assert answer.headers["repr-digest"] == f"sha-256=:{base64.b64encode(digest.digest()).decode()}:"
    again = played.client.get(f"/v1/runs/{run['run']}/models/{count}", headers={"If-None-Match": answer.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")


def test_a_model_answers_409_before_its_entry_is_committed(played: Api) -> None:
    run = _run(played)
    played.store.set_run_state(run, RunState.RUNNING)
    position = played.store.run(run).next_round
    answer = played.client.get(f"/v1/runs/{run}/models/{position + 1}")
    assert answer.status_code == 409
    assert answer.json()["code"] == "entry-not-committed"


def test_a_model_without_an_entry_of_its_own_digest_never_leaves(played: Api) -> None:
    run, position = _run(played), played.store.run(_run(played)).next_round
    with played.store.transactions.begin() as session:
        row = session.get_one(ModelRow, (run, position))
        digest, row.digest = row.digest, "0" * 64
    assert played.client.get(f"/v1/runs/{run}/models/{position}").json()["code"] == "ledger-broken"
    with played.store.transactions.begin() as session:
        row = session.get_one(ModelRow, (run, position))
        row.digest, row.entry = digest, None
    assert played.client.get(f"/v1/runs/{run}/models/{position}").status_code == 409


def test_entries_checkpoint_and_proofs_verify_with_the_public_key_alone(played: Api) -> None:
    told = played.client.get("/v1/ledger/checkpoint").json()
    head = checkpoint.open_checkpoint(told["note"], VerifierKey.parse(told["verifier_key"]))
    entries = _all(played, "/v1/ledger/entries?limit=4")
    assert merkle.frontier(merkle.leaf_hash(item["body"].encode()) for item in entries).root() == head.root
    assert [item["index"] for item in entries] == list(range(head.size))
    for index in range(head.size):
        proof = played.client.get("/v1/ledger/proofs/inclusion", params={"index": index}).json()
        leaf, path = bytes.fromhex(proof["leaf_hash"]), [bytes.fromhex(step) for step in proof["path"]]
        assert proofs.verify_inclusion(leaf=leaf, index=index, size=head.size, proof=path, root=head.root)
    for size in range(1, head.size + 1):
        proof = played.client.get("/v1/ledger/proofs/consistency", params={"first": size}).json()
        path = [bytes.fromhex(step) for step in proof["path"]]
        old = bytes.fromhex(proof["first_root_hash"])
        assert proofs.verify_consistency(old_size=size, old_root=old, size=head.size, root=head.root, proof=path)


def test_entries_are_found_by_kind_run_and_population(played: Api) -> None:
    charged = _all(played, "/v1/ledger/entries?kind=round-charged&limit=1")
    assert {item["kind"] for item in charged} == {"round-charged"}
    assert len(_all(played, f"/v1/ledger/entries?run={_run(played)[:8]}")) == played.store.ledger.head().size
    assert not _all(played, "/v1/ledger/entries?population=nobody")


def test_an_entry_never_changes_so_it_has_an_etag(played: Api) -> None:
    answer = played.client.get("/v1/ledger/entries/0")
    assert answer.json()["entry"]["kind"] == "run-registered"
    again = played.client.get("/v1/ledger/entries/0", headers={"If-None-Match": answer.headers["etag"]})
    assert again.status_code == 304
    assert played.client.get("/v1/ledger/entries/99999").status_code == 404


def test_events_of_a_finished_run_replay_and_end(played: Api) -> None:
    text = played.client.get(f"/v1/runs/{_run(played)}/events").text.replace("\r\n", "\n")
    blocks = [dict(line.split(": ", 1) for line in block.splitlines()) for block in text.strip().split("\n\n")]
    assert [block["event"] for block in blocks if block["event"] != "round"] == ["state", "end"]
    rounds = [block for block in blocks if block["event"] == "round"]
    assert sum(json.loads(block["data"])["state"] == "committed" for block in rounds) == 3
    later = played.client.get(f"/v1/runs/{_run(played)}/events", headers={"Last-Event-ID": rounds[0]["id"]})
    assert later.text.count("event: round") == len(rounds) - 1


def test_a_report_follows_its_published_schema_and_its_entries(played: Api) -> None:
    schema = played.client.get("/v1/reports/schema").json()
    entries = [item["body"].encode() for item in _all(played, "/v1/ledger/entries?limit=100")]
    count = played.store.run(_run(played)).next_round
    for path in (
        f"/v1/runs/{_run(played)}/report",
        f"/v1/runs/{_run(played)}/models/{count}/report",
        "/v1/populations/people/report",
    ):
        told = played.client.get(path).json()
        jsonschema.validate(told, schema)
        assert report.check(told, entries) == []
        in_words = played.client.get(path, headers={"Accept": "text/markdown"})
        assert in_words.headers["content-type"].startswith("text/markdown")
        assert in_words.text.startswith("#")


def test_cost_is_told_before_anything_runs(played: Api, small: Task) -> None:
    whole = played.client.post("/v1/cost", json={"task": small("a")}).json()
    more = played.client.post("/v1/cost", json={"task": small("a"), "rounds": 30}).json()
    assert 0 < whole["epsilon"] < more["epsilon"]
    longer = played.client.post("/v1/cost", json={"run": "latest", "rounds": 5}).json()
    assert longer["rounds"] == 8
    assert played.client.post("/v1/cost", json={}).status_code == 422


@pytest.mark.parametrize(("mechanism", "rounds"), [("tree", 10_001), ("tree", 10_000_000), ("blt", 2_001)])
def test_as_many_rounds_as_take_long_to_price_are_left_to_the_command_line(
    played: Api, small: Task, mechanism: str, rounds: int
) -> None:
    asked = {**small("a"), "rounds": rounds}
    asked["privacy"] = {**asked["privacy"], "mechanism": mechanism}
    for question in ({"task": asked}, {"task": {**asked, "rounds": 3}, "rounds": min(rounds, 100_000)}):
        answer = played.client.post("/v1/cost", json=question)
        assert (answer.status_code, answer.json()["code"]) == (422, "argument-invalid")
        assert "`tutti cost` prices more" in answer.json()["detail"]
    assert played.client.post("/v1/cost", json={"run": "latest", "rounds": 100_000}).status_code == 422


def test_only_few_tasks_are_priced_at_once(played: Api, small: Task) -> None:
    pricing = played.app.state.services.pricing
    while pricing.acquire(blocking=False):
        pass
    for address in ("/v1/cost", "/v1/tasks:check"):
        answer = played.client.post(address, json={"task": small("a")})
        assert (answer.status_code, answer.headers["Retry-After"]) == (429, "1")
    pricing.release()
    for address in ("/v1/cost", "/v1/tasks:check", "/v1/cost"):
        assert played.client.post(address, json={"task": small("a")}).status_code == 200
    for _ in range(3):  # a fault gives the place back too
        assert played.client.post("/v1/cost", json={"task": {**small("a"), "rounds": 0}}).status_code == 422
    assert played.client.post("/v1/cost", json={"task": small("a")}).status_code == 200


def test_tasks_are_checked_with_key_and_cure(played: Api, small: Task) -> None:
    found = played.client.post("/v1/tasks:check", json={"task": {**small("a"), "rounds": 0}}).json()
    assert not found["ok"]
    assert found["problems"][0]["path"] == "rounds"
    assert played.client.get("/v1/tasks").json()["items"][0]["runs"] == 1
    assert played.client.get("/v1/tasks/schema").json()["properties"]


def test_every_error_code_that_http_can_tell_has_a_section(played: Api) -> None:
    page = played.client.get("/errors").text
    assert all(f'id="{code.slug}"' in page for code in ErrorCode)


def test_every_route_of_the_api_documents_its_problems_and_has_a_name_of_its_own(played: Api) -> None:
    document = played.client.get("/openapi.json").json()
    operations = [(path, operation) for path, item in document["paths"].items() for operation in item.values()]
    ours = [operation for path, operation in operations if path.startswith("/v1")]
    assert len(ours) > 20
    assert not [
        operation["operationId"] for operation in ours if not {"401", "403", "413", "429"} <= set(operation["responses"])
    ]
    ids = [operation["operationId"] for _, operation in operations]
    assert len(ids) == len(set(ids))


def test_metrics_count_what_is_in_the_store(played: Api) -> None:
    text = played.client.get("/metrics").text
    assert 'tutti_rounds_total{population="people",result="committed"} 3.0' in text
    assert 'tutti_runs{population="people",state="completed"} 1.0' in text


def _all(api: Api, path: str) -> list[dict[str, object]]:
    items, cursor = [], None
    while True:
        page = api.client.get(path + (f"&cursor={cursor}" if cursor else "")).json()
        items += page["items"]
        cursor = page["next"]
        if cursor is None:
            return items


def test_a_run_tells_what_was_measured_on_it_and_what_it_was_tuned_by(played: Api) -> None:
    run = _run(played)
    before = played.client.get("/v1/runs/latest").json()["privacy"]["epsilon"]
    look = events.to_json(events.GaussianEvent(noise_multiplier=1.0, releases=1))
    at = {"population": "people", "run": run}
    played.store.append_entry(
        entries.parameter_tuned(**at, parameter="clip_norm", value="1", statistic="noised norms", event=look, reason="first")
    )
    assert played.client.get("/v1/runs/latest").json()["privacy"]["epsilon"] > before
    played.store.append_entry(
        entries.assumption_checked(**at, assumption="bounded-contribution", status="violated", measured={}, evidence="e")
    )
    privacy = played.client.get("/v1/runs/latest").json()["privacy"]
    assert privacy["epsilon"] is None
    assert privacy["first_lines"][0].startswith("NO GUARANTEE: bounded-contribution was violated")
