"""What holds for every file of the tree."""

import ast
import re
import subprocess
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
GENERATED = ("_pb2.py", "_pb2.pyi", "_pb2_grpc.py", "_pb2_grpc.pyi")
TEXT = {
    ".py",
    ".md",
    ".toml",
    ".yaml",
    ".yml",
    ".html",
    ".css",
    ".js",
    ".json",
    ".proto",
    ".cfg",
    ".ini",
    ".mako",
    ".sh",
    ".txt",
}
LONGEST_FILE = 400
VAGUE_NAMES = {"utils", "util", "helpers", "helper", "manager", "base", "common", "misc"}
# Written in two halves, so that this file does not name them itself.
MACHINE_PATHS = ("/wo" + "rk/", "/ro" + "ot/", "/ho" + "me/", "/Us" + "ers/")


def _tracked() -> list[Path]:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=False)
    if listed.returncode:
        pytest.skip("not a git checkout")
    paths = [ROOT / name for name in listed.stdout.decode().split("\0") if name]
    return [path for path in paths if path.is_file() and not path.name.endswith(GENERATED)]


def _relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def test_no_source_file_is_longer_than_400_lines() -> None:
    lengths = {_relative(path): path.read_text().count("\n") for path in _tracked() if path.suffix in {".py", ".js", ".proto"}}
    assert not {name: length for name, length in lengths.items() if length > LONGEST_FILE}


def test_no_file_names_a_path_of_one_machine() -> None:
    found = {
        _relative(path): word
        for path in _tracked()
        if path.suffix in TEXT or path.name in {"Makefile", "run", "Dockerfile"}
        for word in MACHINE_PATHS
        if word in path.read_text(encoding="utf-8")
    }
    assert not found


def test_module_names_say_what_they_hold() -> None:
    assert not [_relative(path) for path in _tracked() if path.suffix == ".py" and path.stem in VAGUE_NAMES]


def test_faults_of_every_kind_are_swallowed_at_the_two_boundaries_only() -> None:
    # A handler that ends in a bare `raise` undoes something on the way and swallows nothing.
    found = [_relative(path) for path in _tracked() if path.suffix == ".py" and _swallows_everything(path)]
    boundaries = ("server/rpc", "server/grpc", "server/rest")
    assert not [name for name in found if not name.startswith(boundaries)]


def test_lock_file_knows_every_dependency_as_it_is_declared() -> None:
    # `uv sync --frozen` installs what the lock says, so a dependency that was only declared would never arrive.
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    lock = tomllib.loads((ROOT / "uv.lock").read_text())
    ours = next(package for package in lock["package"] if package["name"] == project["project"]["name"])
    locked = {(entry["name"], entry.get("specifier", "")) for entry in ours["metadata"]["requires-dist"]}
    locked |= {(entry["name"], entry.get("specifier", "")) for entry in ours["metadata"]["requires-dev"]["dev"]}
    declared = [*project["project"]["dependencies"], *project["dependency-groups"]["dev"]]
    for extra in project["project"]["optional-dependencies"].values():
        declared.extend(extra)
    assert {_split(requirement) for requirement in declared} == locked


def _swallows_everything(path: Path) -> bool:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ExceptHandler):
            names = {name.id for name in ast.walk(node.type) if isinstance(name, ast.Name)} if node.type else {"Exception"}
            last = node.body[-1]
            if names & {"Exception", "BaseException"} and not (isinstance(last, ast.Raise) and last.exc is None):
                return True
    return False


def _split(requirement: str) -> tuple[str, str]:
    match = re.fullmatch(r"([A-Za-z0-9._-]+)(?:\[[^]]*\])?\s*(.*)", requirement)
    assert match
    return match[1].lower(), match[2]
