"""The task file's form: every fault names its key, what is read is what is written, and digests stay."""

from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from contract import canonical, task
from contract.errors import ErrorCode, TuttiError

MINIMAL: dict[str, Any] = {"population": "keyboard-en", "model": {"name": "mlp"}, "cohort": {"report_goal": 10}, "rounds": 3}

# The example of the design, word for word in what it sets.
EXAMPLE = """
population: keyboard-en
model: {name: next_word, vocabulary: public-en}
data: {source: synthetic}
cohort: {report_goal: 100, over_selection: 1.3, minimum_reports: 80, minimum_separation: 30, max_participations: 4}
deadlines: {selection_s: 600, reporting_s: 600}
training: {batch_size: 16, epochs: 1, max_examples: 256, learning_rate: 0.5}
server: {optimizer: sgd, learning_rate: 1.0, momentum: 0.9}
privacy: {mechanism: tree, clip_norm: 0.3, noise_multiplier: 7.0, delta: 1.0e-6}
aggregation: {secure: false}
rounds: 300
"""

# A key that is added to the form with a default changes this digest, and with it the ids of runs to come, unless it is silent at its
# default (`canonical.SILENT_DEFAULT`). Then, and only then, put the new value here, with a CHANGELOG line under Protocol.
EXAMPLE_DIGEST = "77d5e25adf3518dacd606c3a665e4253731874e131e966c2e98177a3ea4ec6d5"


def _with(path: str, value: Any) -> dict[str, Any]:
    mapping: dict[str, Any] = {key: dict(item) if isinstance(item, dict) else item for key, item in MINIMAL.items()}
    *parents, last = path.split(".")
    place = mapping
    for parent in parents:
        place = place.setdefault(parent, {})
    place[last] = value
    return mapping


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("rounds", 0),
        ("rounds", "many"),
        ("population", "Key Board"),
        ("name", ""),
        ("model.name", "os.system('x')"),
        ("model.trainable", "tail"),
        ("cohort.report_goal", 0),
        ("cohort.over_selection", 0.9),
        ("cohort.minimum_separation", -1),
        ("cohort.max_participations", 0),
        ("deadlines.selection_s", 0),
        ("training.learning_rate", -0.1),
        ("training.epochs", 101),
        ("server.optimizer", "lion"),
        ("server.momentum", 1),
        ("privacy.mechanism", "laplace"),
        ("privacy.clip_norm", 0),
        ("privacy.clip_norm", float("inf")),
        ("privacy.noise_multiplier", -1),
        ("privacy.noise_multiplier", float("nan")),
        ("privacy.delta", 0.5),
        ("privacy.epsilon", 0),
        ("privacy.adaptive_clip", {"target_quantile": 1.0}),
        ("aggregation.bits", 7),
        ("aggregation.corrupt_fraction", 1),
        ("data.locale", "fr"),
        ("data.cache.most_examples", 0),
        ("data.cache.longest_days", 0),
        ("data.cache.arrival_days", float("inf")),
        ("data.cache.longest", 1),
        ("privacy.noise_multiplyer", 1),
        ("rouns", 3),
    ],
)
def test_fault_names_its_key_and_a_cure(path: str, value: Any) -> None:
    with pytest.raises(task.TaskFormError) as caught:
        task.parse_mapping(_with(path, value))
    assert caught.value.code is ErrorCode.TASK_INVALID
    (problem,) = caught.value.problems
    assert problem.path.startswith(path)
    assert problem.cure


@pytest.mark.parametrize("key", ["population", "model", "cohort", "rounds"])
def test_missing_key_is_named(key: str) -> None:
    with pytest.raises(task.TaskFormError) as caught:
        task.parse_mapping({name: value for name, value in MINIMAL.items() if name != key})
    assert [problem.path for problem in caught.value.problems] == [key]


def test_all_faults_are_told_at_once() -> None:
    with pytest.raises(task.TaskFormError) as caught:
        task.parse_mapping({**MINIMAL, "rounds": 0, "server": {"optimizer": "x"}, "colour": "red"})
    assert {problem.path for problem in caught.value.problems} == {"rounds", "server.optimizer", "colour"}


@pytest.mark.parametrize("document", [None, [], "text", 3])
def test_document_that_is_no_mapping_is_refused(document: Any) -> None:
    with pytest.raises(task.TaskFormError):
        task.parse_mapping(document)


def test_what_is_written_reads_back_as_the_same_task() -> None:
    spec = task.parse_mapping(yaml.safe_load(EXAMPLE))
    again = task.parse_mapping(task.to_mapping(spec))
    assert again == spec
    assert again.digest == spec.digest


def test_order_of_keys_and_stated_defaults_do_not_change_the_digest() -> None:
    spec = task.parse_mapping(MINIMAL)
    turned = task.parse_mapping(dict(reversed(MINIMAL.items())))
    stated = task.parse_mapping(
        {**MINIMAL, "training": {"batch_size": 16}, "server": {"learning_rate": 1}, "data": {"cache": {"longest_days": 30}}}
    )
    assert spec.digest == turned.digest == stated.digest


def test_every_changed_value_changes_the_digest() -> None:
    spec = task.parse_mapping(MINIMAL)
    others = [_with("rounds", 4), _with("privacy.clip_norm", 0.3), _with("data.seed", 1), _with("name", "other")]
    others.append(_with("data.cache.most_examples", 9))
    assert len({spec.digest, *(task.parse_mapping(other).digest for other in others)}) == 6


def test_digest_of_the_example_stays() -> None:
    assert task.parse_mapping(yaml.safe_load(EXAMPLE)).digest == EXAMPLE_DIGEST


def test_task_can_be_hashed_without_a_float_in_it() -> None:
    canonical.encode(canonical.plain(task.parse_mapping(yaml.safe_load(EXAMPLE))))


def test_scientific_numbers_without_a_point_are_numbers() -> None:
    # YAML 1.1 reads 1e-6 as text.
    spec = task.parse_mapping(
        yaml.safe_load("{population: p, model: {name: mlp}, cohort: {report_goal: 1}, rounds: 1, privacy: {delta: 1e-6}}")
    )
    assert spec.privacy.delta == 1e-6


def test_fewest_reports_is_four_fifths_of_the_goal_rounded_up() -> None:
    goals = {1: 1, 4: 4, 5: 4, 6: 5, 100: 80}
    found = {goal: task.parse_mapping(_with("cohort.report_goal", goal)).cohort.fewest_reports for goal in goals}
    assert found == goals


def test_replace_changes_one_value_and_checks_it() -> None:
    spec = task.parse_mapping(MINIMAL)
    changed = task.replace(spec, rounds=5, privacy={"noise_multiplier": 2.0})
    assert (changed.rounds, changed.privacy.noise_multiplier, changed.cohort) == (5, 2.0, spec.cohort)
    with pytest.raises(task.TaskFormError):
        task.replace(spec, rounds=-1)


def test_file_gives_its_stem_as_name(tmp_path: Path) -> None:
    path = tmp_path / "Next_Word.yaml"
    path.write_text(yaml.safe_dump(MINIMAL))
    assert task.read(path).name == "next-word"


def test_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(TuttiError, match=r"absent\.yaml"):
        task.read(tmp_path / "absent.yaml")


def test_text_that_is_no_yaml_is_named(tmp_path: Path) -> None:
    path = tmp_path / "broken.yaml"
    path.write_text("{population: [")
    with pytest.raises(task.TaskFormError, match="no YAML"):
        task.read(path)


def test_schema_accepts_what_parse_accepts_and_refuses_unknown_keys() -> None:
    schema = task.json_schema()
    jsonschema.validate(yaml.safe_load(EXAMPLE), schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**MINIMAL, "rouns": 3}, schema)
