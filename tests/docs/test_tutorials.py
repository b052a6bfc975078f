"""Every tutorial is executed, block by block, in an empty directory: `yaml` and `python` with a file name are written, the rest run."""

import re
import shlex
import sys
from pathlib import Path
from typing import Any

import pytest

from tutti import cli

PAGES = sorted((Path(__file__).parents[2] / "docs" / "tutorials").glob("*.md"))
BLOCK = re.compile(r"^```(?P<language>\w+)(?: file=(?P<file>\S+))?\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
EXECUTED = ("sh", "python", "yaml")


def executable(page: Path) -> bool:
    """Whether a page says of itself that the tests execute it."""
    text = page.read_text(encoding="utf-8")
    return "tutti serve" not in text


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("page", [page for page in PAGES if executable(page)], ids=lambda page: page.stem)
def test_a_tutorial_works_as_it_is_written(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    names: dict[str, Any] = {"__name__": "tutorial"}
    for block in BLOCK.finditer(page.read_text(encoding="utf-8")):
        if block["file"]:
            Path(block["file"]).write_text(block["text"], encoding="utf-8")
        elif block["language"] == "sh":
            for line in filter(None, block["text"].splitlines()):
                call(line, monkeypatch)
        elif block["language"] == "python":
            exec(compile(block["text"], str(page), "exec"), names)


def call(line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """One line of a shell block; only our own command line is understood."""
    words = shlex.split(line)
    assert words[0] == "tutti", line
    monkeypatch.setattr(sys, "argv", words)
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert not ended.value.code, line
