"""The command line as a whole: what it lists is there, is imported only when asked for, and tells errors by the catalogue."""

import gzip
import json
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.core import TyperGroup
from typer.main import get_group
from typer.testing import CliRunner

import tutti.commands
from contract.errors import ErrorCode
from server.store.store import Store
from tutti import cli

TUTTI = (sys.executable, "-c", "from tutti.cli import main; main()")
OWN_FORMAT = {("serve", "serve"), ("task", "schema"), ("ledger", "export"), ("ledger", "checkpoint")}


def commands(name: str) -> dict[str, Any]:
    """A listed command, or the commands of a listed group, by their names."""
    group = typer.Typer()
    import_module(cli.COMMANDS[name].module).register(group)
    found: Any = get_group(group).commands[name]
    return dict(found.commands) if isinstance(found, TyperGroup) else {name: found}


def test_every_command_is_listed() -> None:
    for path in Path(next(iter(tutti.commands.__path__))).glob("*.py"):
        module = import_module(f"tutti.commands.{path.stem}")
        if not hasattr(module, "register"):
            continue
        group = typer.Typer()
        module.register(group)
        for name in get_group(group).commands:
            assert cli.COMMANDS[name].module == f"tutti.commands.{path.stem}"


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_help_of_every_command_is_worth_reading(name: str) -> None:
    shown = CliRunner().invoke(cli.app, [name, "--help"], env={"COLUMNS": "80"})
    assert shown.exit_code == 0, shown.output
    for each, command in commands(name).items():
        assert command.help, each
        for parameter in command.params:
            assert getattr(parameter, "help", None), f"{each}: {parameter.name}"


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_every_command_with_an_answer_gives_it_as_json(name: str) -> None:
    for each, command in commands(name).items():
        if (name, each) not in OWN_FORMAT:
            assert any("--json" in parameter.opts for parameter in command.params), each


def test_the_list_needs_none_of_the_heavy_modules() -> None:
    heavy = "any(name in sys.modules for name in ('jax', 'scipy', 'matplotlib', 'sqlalchemy', 'fastapi'))"
    code = f"import sys, tutti.cli\ntry: tutti.cli.app(['--help'])\nfinally: print({heavy}, file=sys.stderr)"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert ended.stderr.strip() == "False"
    assert all(name in ended.stdout for name in cli.COMMANDS)


# -- errors ----------------------------------------------------------------------------------------------------------------------


def call(monkeypatch: pytest.MonkeyPatch, *words: object) -> int:
    """The exit code of the program."""
    monkeypatch.setattr(sys, "argv", ["tutti", *map(str, words)])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    return int(ended.value.code or 0)


@pytest.mark.parametrize("store", ["a-file", "foo://x", "sqlite:///no/such/dir/x.db", "postgresql://u:secret@127.0.0.1:1/x"])
def test_a_store_that_cannot_be_opened_is_said_so(
    store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a-file").write_text("not a store")
    monkeypatch.chdir(tmp_path)
    assert call(monkeypatch, "runs", "list", "--store", store) == ErrorCode.UNAVAILABLE.value.exit_code
    said = capsys.readouterr().err
    assert "cannot be opened: " in said
    assert "secret" not in said
    assert "Traceback" not in said


def test_a_database_that_is_none_is_said_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "tutti.db").write_bytes(b"no database at all" * 100)
    assert call(monkeypatch, "runs", "list", "--store", tmp_path) == ErrorCode.UNAVAILABLE.value.exit_code
    assert "file is not a database" in capsys.readouterr().err


@pytest.mark.parametrize("words", [("runs", "show"), ("report",), ("plot",), ("export",), ("runs", "resume"), ("sessions",)])
def test_an_empty_store_has_no_latest_run(
    words: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    Store.open(str(tmp_path)).close()
    assert call(monkeypatch, *words, "--store", tmp_path) == ErrorCode.NOT_FOUND.value.exit_code
    assert "there is no run yet" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words",
    [
        ("ledger", "verify"), ("ledger", "export"), ("ledger", "checkpoint"), ("ledger", "rotate-key", "--reason", "r"), ("report",),
        ("report", "--population", "p"), ("runs", "list"), ("runs", "show"), ("plot",), ("sessions",), ("export",), ("token", "list"),
    ],
)  # fmt: skip
def test_what_reads_a_store_makes_none(
    words: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for store in (str(tmp_path / "mistyped"), f"sqlite:///{tmp_path / 'mistyped.db'}"):
        assert call(monkeypatch, *words, "--store", store) == ErrorCode.NOT_FOUND.value.exit_code
        assert "is not there: name another with --store" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("numbers", [("1", "1"), ("1", "0"), ("inf", "1e-6")])
def test_a_budget_that_is_none_is_said_so(
    numbers: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    epsilon, delta = numbers
    words = ("ledger", "budget", "p", "--reason", "r", "--epsilon", epsilon, "--delta", delta, "--store", tmp_path)
    assert call(monkeypatch, *words) == ErrorCode.ARGUMENT_INVALID.value.exit_code
    assert "a budget's" in capsys.readouterr().err


@pytest.mark.parametrize("noise", ["1e308", "1e-300"])
def test_noise_that_no_event_holds_is_a_fault_of_the_task(
    noise: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "task.yaml"
    path.write_text(
        "population: p\nmodel: {name: mlp}\ncohort: {report_goal: 6}\nrounds: 3\n"
        f"privacy: {{mechanism: tree, clip_norm: 0.5, noise_multiplier: {noise}, delta: 1.0e-5}}\n"
    )
    assert call(monkeypatch, "cost", path, "--store", tmp_path) == ErrorCode.TASK_INVALID.value.exit_code
    assert "privacy.noise_multiplier" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"population: p\nfoo: 1\nmodel: {name: mlp}\n", "foo: there is no such key"),
        (b"population: p\n", "model: this key is missing"),
        (b"[1]", "$: is no mapping of keys to values"),
        (b"", "$: is no mapping of keys to values"),
        (b"a: [1\nb: }", "is no YAML"),
        (b"\xff", "is not UTF-8"),
        (None, "cannot be read: No such file or directory"),
    ],
)
def test_a_task_file_is_told_what_is_wrong_with_it(
    text: bytes | None, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "task.yaml"
    if text is not None:
        path.write_bytes(text)
    assert call(monkeypatch, "task", "check", path) == ErrorCode.TASK_INVALID.value.exit_code
    assert said in capsys.readouterr().err
    assert call(monkeypatch, "task", "check", path, "--json") == ErrorCode.TASK_INVALID.value.exit_code
    assert json.loads(capsys.readouterr().out)["ok"] is False


def test_every_faulty_line_of_a_data_file_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "chat.jsonl.gz"
    good = [json.dumps({"client_id": f"u{index}", "text": "hello there"}) for index in range(5)]
    path.write_bytes(gzip.compress("\n".join([*good, "{broken", '{"client_id": "a"}', *good]).encode() + b"\n"))
    assert call(monkeypatch, "data", "check", path) == ErrorCode.DATA_INVALID.value.exit_code
    assert capsys.readouterr().out.splitlines() == [
        f"{path}:6: is not JSON: Expecting property name enclosed in double quotes at column 2",
        f'{path}:7: "text" is missing',
    ]
    path.write_bytes(gzip.compress("\n".join(good).encode()))
    assert call(monkeypatch, "data", "check", path, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["ok"], found["users"] + found["held_out"]) == (True, 5)


def test_templates_overwrite_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "task.yaml").write_text("mine")
    (tmp_path / "file").write_text("mine")
    for place, said in (("", "is left as it is"), ("file", "cannot be made")):
        assert call(monkeypatch, "init", tmp_path / place) == ErrorCode.ARGUMENT_INVALID.value.exit_code
        assert said in capsys.readouterr().err
    assert (tmp_path / "task.yaml").read_text() == "mine"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("devices", "--server", "nonsense", "--count", 3, "--population", "p"), "is no HOST:PORT"),
        (("devices", "--server", "127.0.0.1:1", "--count", 3, "--population", "p", "--data", "gone"), "there is no such file"),
        (("serve", "--tls-cert", "task.yaml"), "TLS needs both"),
        (("serve", "--tls-cert", "task.yaml", "--tls-key", "task.yaml"), "are no PEM certificate with its key"),
        (("serve", "--tls-cert", "gone.pem", "--tls-key", "gone.pem"), "cannot be read: No such file or directory"),
        (("run", "task.yaml", "--data", "one.jsonl"), "one.jsonl has 1 devices, but 2 rounds of task need 6 at least"),
    ],
    ids=str,
)
def test_what_cannot_work_is_refused_before_anything_starts(
    words: tuple[object, ...], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    cohort = "{report_goal: 4, minimum_reports: 3, minimum_separation: 1}"
    (tmp_path / "task.yaml").write_text(f"population: p\nmodel: {{name: next_word_small}}\ncohort: {cohort}\nrounds: 2\n")
    (tmp_path / "one.jsonl").write_text('{"client_id": "a", "text": "hi there"}\n')
    assert call(monkeypatch, *words) not in (0, 1)
    assert said in capsys.readouterr().err
    assert not (tmp_path / ".tutti").exists()


@pytest.mark.parametrize("words", [("run", "task.yaml"), ("runs", "resume")])
def test_more_workers_than_a_machine_bears_are_refused(
    words: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("task.yaml").write_text("population: p\nmodel: {name: mlp}\ncohort: {report_goal: 6}\nrounds: 3\n")
    assert (
        call(monkeypatch, *words, "--workers", "10000", "--store", tmp_path / "s") == ErrorCode.ARGUMENT_INVALID.value.exit_code
    )
    assert "--workers: at most" in capsys.readouterr().err
