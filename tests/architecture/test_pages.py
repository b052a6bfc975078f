"""What the pages point at is there."""

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LINK = re.compile(r"\[[^]]*\]\(([^)\s]+)\)")
NAMED_TEST = re.compile(r"`(tests/[\w./-]+?)(?:::(\w+))?`")
NAMED_TARGET = re.compile(r"`make ([a-z-]+)")


def _pages() -> list[Path]:
    return sorted({*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("deploy/**/*.md"), *ROOT.glob("protos/**/*.md")})


def _found(pattern: re.Pattern[str]) -> Iterator[tuple[Path, re.Match[str]]]:
    for page in _pages():
        for match in pattern.finditer(page.read_text(encoding="utf-8")):
            yield page, match


def test_every_relative_link_leads_somewhere() -> None:
    relative = ((page, match[1].partition("#")[0]) for page, match in _found(LINK) if "://" not in match[1])
    assert not [(page.name, target) for page, target in relative if target and not (page.parent / target).exists()]


def test_every_test_that_a_page_names_exists() -> None:
    missing = []
    for page, match in _found(NAMED_TEST):
        path, name = ROOT / match[1], match[2]
        if not path.exists() or (name and f"def {name}(" not in path.read_text()):
            missing.append((page.name, match[0]))
    assert not missing


def test_every_make_target_that_a_page_names_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert not [(page.name, match[1]) for page, match in _found(NAMED_TARGET) if match[1] not in targets]


def test_every_decision_is_in_the_index_under_its_own_number() -> None:
    folder = ROOT / "docs" / "adr"
    records = sorted(path.name for path in folder.glob("[0-9]*.md"))
    assert [int(name[:4]) for name in records] == list(range(1, len(records) + 1))
    index = (folder / "README.md").read_text()
    assert not [name for name in records if f"({name})" not in index]


@pytest.mark.parametrize("script", [".ci/run"])
def test_script_is_executable_and_parses(script: str) -> None:
    path = ROOT / script
    assert path.stat().st_mode & 0o111
    assert subprocess.run(["bash", "-n", str(path)], check=False).returncode == 0
