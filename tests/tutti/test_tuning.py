"""`tutti tune`: the search is priced, only its best settings are told, and the record says so first."""

import json

import pytest
from typer.testing import CliRunner

from contract import task
from contract.errors import ErrorCode, TuttiError
from privacy import accounting, events
from privacy.events import SelectionEvent
from server.budgets import Budget, set_budget
from tutti import stores, tuning
from tutti.cli import app
from tutti.tuning import Search

TASK = {
    "name": "tuned",
    "population": "tuners",
    "model": {"name": "mlp"},
    "data": {"source": "synthetic", "devices": 40},
    "cohort": {"report_goal": 6, "over_selection": 1.5, "minimum_reports": 3},
    "training": {"batch_size": 10, "max_examples": 20},
    "privacy": {"mechanism": "tree", "clip_norm": 0.5, "noise_multiplier": 3.0, "delta": 1e-5},
    "rounds": 2,
}
RATES = {"training.learning_rate": [0.01, 0.1]}


def entropy(count: int) -> bytes:
    """The first trial is the last: 0 lies below every stopping limit."""
    return bytes(count)


@pytest.mark.slow
def test_the_search_is_on_the_record_before_its_outcome_is_told(tmp_path):
    path, store = tmp_path / "task.yaml", str(tmp_path / "store")
    path.write_text(json.dumps(TASK))
    arguments = [
        "tune",
        str(path),
        "--choice",
        "training.learning_rate=0.01,0.1",
        "--metric",
        "held_out_accuracy",
        "--expected-trials",
        "1",
    ]
    found = CliRunner().invoke(app, [*arguments, "--workers", "0", "--store", store, "--json"], catch_exceptions=False)
    answer = json.loads(found.stdout.splitlines()[-1])
    assert set(answer) == {"settings", "entry", "privacy"}
    assert answer["settings"]["training.learning_rate"] in (0.01, 0.1)
    with stores.opened(store) as (database, _):
        (entry,) = [json.loads(row.body) for row in database.entries()]
        assert not database.runs()
    assert entry["kind"] == "parameter-tuned"
    assert "not covered" in entry["statistic"]
    event = events.from_json(entry["event"])
    assert isinstance(event, SelectionEvent)
    assert accounting.price(event, 1e-5).epsilon == answer["privacy"]["epsilon"]


def test_a_search_costs_more_than_a_trial():
    spec = task.parse_mapping(TASK)
    event = tuning.price(spec, Search(choices=RATES, expected_trials=5, metric="held_out_accuracy"))
    assert accounting.price(event.trial, 1e-5).epsilon < accounting.price(event, 1e-5).epsilon


def test_what_changes_the_price_of_a_trial_cannot_be_searched():
    spec = task.parse_mapping(TASK)
    search = Search(choices={"privacy.noise_multiplier": [1.0, 2.0]}, expected_trials=5, metric="held_out_accuracy")
    with pytest.raises(TuttiError) as error:
        tuning.price(spec, search)
    assert error.value.code is ErrorCode.MECHANISM_UNSUPPORTED


def test_a_search_over_unprotected_runs_is_refused():
    spec = task.parse_mapping({**TASK, "privacy": {"mechanism": "none"}})
    with pytest.raises(TuttiError) as error:
        tuning.price(spec, Search(choices=RATES, expected_trials=5, metric="held_out_accuracy"))
    assert error.value.code is ErrorCode.MECHANISM_UNSUPPORTED


def test_a_search_beyond_the_budget_is_refused_before_any_trial(tmp_path):
    spec, store = task.parse_mapping(TASK), str(tmp_path / "store")
    with stores.opened(store) as (database, _):
        set_budget(database.ledger, "tuners", Budget(epsilon=0.5, delta=1e-5), reason="test", by="test")
    with pytest.raises(TuttiError) as error:
        tuning.tune(
            spec,
            Search(choices=RATES, expected_trials=5, metric="held_out_accuracy"),
            data=None,
            workers=0,
            store=store,
            entropy=entropy,
        )
    assert error.value.code is ErrorCode.BUDGET_EXCEEDED


def test_unknown_keys_and_forms_are_named():
    with pytest.raises(TuttiError, match=r"training\.speed"):
        tuning.with_settings(task.parse_mapping(TASK), {"training.speed": 1})
    for wrong in ("training.learning_rate", "=3", "a="):
        with pytest.raises(ValueError, match="KEY=VALUE"):
            tuning.parse_choices([wrong])
    with pytest.raises(ValueError, match="expected_trials"):
        Search(choices=RATES, expected_trials=0.5, metric="held_out_loss")
    with pytest.raises(ValueError, match="train_loss"):
        Search(choices=RATES, expected_trials=2, metric="train_loss")
