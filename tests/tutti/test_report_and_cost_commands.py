"""`tutti cost`, `tutti report --plan` and `--check`: what they print, and when they refuse."""

import json
from pathlib import Path

import jsonschema
import pytest
import typer

from contract.errors import ErrorCode, TuttiError
from privacy.ledger import entries
from privacy.report import json_schema, run_report
from server import budgets
from server.budgets import Budget
from tutti import stores
from tutti.commands import cost, ledger, report

ROOT = Path(__file__).parents[2]
MLP = ROOT / "deploy" / "tasks" / "mlp.yaml"
PRODUCTION = ROOT / "tests" / "vectors" / "ledger" / "production_es_2022.yaml"


def test_cost_is_told_for_the_task_and_for_its_population(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cost.cost(MLP, store=str(tmp_path), json_output=True)
    alone = json.loads(capsys.readouterr().out)
    assert alone["rounds"] == 10
    assert alone["population"]["after_epsilon"] == pytest.approx(alone["epsilon"])
    assert alone["population"]["fits"] is True
    with stores.opened(str(tmp_path)) as (database, _):
        budgets.set_budget(database.ledger, "demo-mlp", Budget(epsilon=alone["epsilon"], delta=1e-5), reason="policy", by="op")
    cost.cost(MLP, rounds=20, store=str(tmp_path), json_output=True)
    more = json.loads(capsys.readouterr().out)
    assert more["epsilon"] > alone["epsilon"]
    assert more["population"]["fits"] is False
    cost.cost(MLP, rounds=20, store=str(tmp_path))
    assert "does not fit" in capsys.readouterr().out


def test_published_production_case_is_reported_from_its_task_file(capsys: pytest.CaptureFixture[str]) -> None:
    report.report(plan=PRODUCTION, json_output=True)
    made = json.loads(capsys.readouterr().out)
    jsonschema.validate(made, json_schema(), cls=jsonschema.Draft202012Validator)
    guarantee = made["guarantee"]
    assert (round(guarantee["rho"], 2), round(guarantee["epsilons"]["generic"], 2), guarantee["delta"]) == (0.81, 8.90, 1e-10)
    assert (guarantee["unit"], guarantee["adjacency"]) == ("device", "zero-out")
    assert guarantee["remarks"][0].startswith("k is 6, not the 7")
    report.report(plan=PRODUCTION)
    text = capsys.readouterr().out
    assert "rho **0.81**" in text
    assert "generic 8.90" in text


def test_report_that_does_not_follow_from_its_entries_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    body = report.planned(MLP)
    with stores.opened(str(tmp_path)) as (database, _):
        database.append_entry(body)
    path = tmp_path / "report.json"
    made = run_report([body])
    path.write_text(json.dumps(made))
    report.report(check=path, store=str(tmp_path))
    made["guarantee"]["epsilon"] = 1.0
    path.write_text(json.dumps(made))
    with pytest.raises(TuttiError, match=r"guarantee\.epsilon is 1\.0") as refused:
        report.report(check=path, store=str(tmp_path))
    assert refused.value.code is ErrorCode.LEDGER_BROKEN
    path.write_text("[]")
    with pytest.raises(TuttiError, match="no report of this ledger"):
        report.report(check=path, store=str(tmp_path))
    report.report(schema=True)
    assert json.loads(capsys.readouterr().out) == json_schema()


def test_verification_says_what_it_rests_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "ledger.jsonl"
    ledger.set_budget("p", reason="policy", epsilon=2.0, delta=1e-6, store=str(tmp_path))
    ledger.export_ledger(out=out, store=str(tmp_path))
    ledger.verify_ledger(from_export=out)
    told = capsys.readouterr().out
    assert "no earlier checkpoint was given" in told
    assert "is what the export says" in told
    with stores.opened(str(tmp_path)) as (database, _):
        database.append_entry(entries.approval(population="p", run="unknown", what="start", model_digest=None, by="token 1"))
    with pytest.raises(typer.Exit):
        ledger.verify_ledger(store=str(tmp_path))
    assert "without-run entry 1" in capsys.readouterr().out
    with pytest.raises(TuttiError, match="either --epsilon and --delta, or --lift"):
        ledger.set_budget("p", reason="x", store=str(tmp_path))
