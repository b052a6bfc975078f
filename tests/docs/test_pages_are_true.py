"""What the pages refer to is there: linked files and headings, commands with their options, make's targets, example tasks."""

import re
import shlex
import subprocess
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.core import TyperGroup
from typer.main import get_group

from tutti import cli

ROOT = Path(__file__).parents[2]
LINK = re.compile(r"\]\((?!https?:|mailto:)([^)#\s]*)(?:#([^)\s]*))?\)")
COMMAND = re.compile(r"(?:^|`)(?:\$ )?(?:uv run )?(tutti [a-z][^`\n#|>&;]*)", re.MULTILINE)
TARGET = re.compile(r"(?:^|`)make ([a-z-]+)", re.MULTILINE)


def tracked(*patterns: str) -> list[Path]:
    listed = subprocess.run(["git", "ls-files", *patterns], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return [ROOT / name for name in listed.splitlines() if (ROOT / name).exists()]


PAGES = tracked("*.md")


def headings(page: Path) -> set[str]:
    """Anchors of a page, as code hosts make them from headings."""
    lines = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", line.lower()).strip().replace(" ", "-") for line in lines}


@cache
def options(name: str) -> dict[str, set[str]]:
    """The options of a command, or of each command of a group."""
    group = typer.Typer()
    import_module(cli.COMMANDS[name].module).register(group)
    found: Any = get_group(group).commands[name]
    commands = dict(found.commands) if isinstance(found, TyperGroup) else {"": found}
    return {
        each: {"--help", "-h"}.union(*([*parameter.opts, *parameter.secondary_opts] for parameter in command.params))
        for each, command in commands.items()
    }


def faults(command: str) -> list[str]:
    """What of `tutti ...` is not there."""
    try:
        words = shlex.split(command.rstrip("\\ "))[1:]
    except ValueError:  # prose that breaks off in a quotation
        words = command.split()[1:]
    names = words[0].split("|")
    if unknown := [name for name in names if name not in cli.COMMANDS]:
        return [f"tutti {name}" for name in unknown]
    known = options(names[0])
    if "" not in known and len(words) > 1 and not words[1].startswith("-"):
        missing = [each for each in words[1].split("|") if each not in known]
        if missing:
            return [f"tutti {words[0]} {each}" for each in missing]
    allowed = known.get("") or (known.get(words[1].split("|")[0], set()) if len(words) > 1 else set[str]())
    given = [word.split("=")[0].rstrip(",.)") for word in words if word.startswith("--")]
    return [f"tutti {names[0]} {option}" for option in given if allowed and option not in allowed]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_what_a_page_links_to_is_there(page: Path) -> None:
    for name, anchor in LINK.findall(page.read_text(encoding="utf-8")):
        target = (page.parent / name) if name else page
        assert target.exists(), f"{name} is not there"
        if anchor and target.suffix == ".md":
            assert anchor in headings(target), f"{name} has no heading {anchor}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_the_commands_of_a_page_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert not [fault for command in COMMAND.findall(text) for fault in faults(command)]
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in TARGET.findall(text):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), f"make {target}"
    for name in re.findall(r"deploy/tasks/[a-z_]+\.yaml", text):
        assert (ROOT / name).exists(), name


def test_a_command_that_is_not_there_would_be_found() -> None:
    assert faults("tutti nonsense") == ["tutti nonsense"]
    assert faults("tutti runs begin") == ["tutti runs begin"]
    assert faults("tutti run TASK.yaml --fast") == ["tutti run --fast"]
    assert faults('tutti predict latest "how are" --top 5') == []
