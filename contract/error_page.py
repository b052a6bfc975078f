"""Writes docs/errors.md from the catalogue (`python -m contract.error_page`), or says that it is stale (`--check`)."""

import sys
from pathlib import Path

from contract.errors import ErrorCode

PAGE = Path(__file__).parents[1] / "docs" / "errors.md"

_HEAD = """\
# Errors and their cures

Generated from `contract/errors.py` by `make errors`. The same code is a process's exit status, the `reason` of a gRPC
`ErrorInfo`, and the last part of an RFC 9457 problem type. Codes are only ever added.

| code | exit | HTTP | gRPC |
|---|---|---|---|
"""


def render() -> str:
    """The whole page as Markdown: one table, then a section for each code.

    >>> "## not-found" in render()
    True
    """
    rows = "".join(
        f"| [{code.slug}](#{code.slug}) | {code.value.exit_code} | {code.value.http_status} | {code.value.grpc_status} |\n"
        for code in ErrorCode
    )
    sections = "".join(f"\n## {code.slug}\n\n**{code.value.title}.** {code.value.cure}\n" for code in ErrorCode)
    return _HEAD + rows + sections


def main(arguments: list[str]) -> int:
    """Writes the page, or with `--check` answers 1 if it is not what the catalogue says."""
    if arguments == ["--check"]:
        fresh = PAGE.is_file() and PAGE.read_text(encoding="utf-8") == render()
        if not fresh:
            sys.stderr.write("docs/errors.md is stale: run `make errors`\n")
        return 0 if fresh else 1
    PAGE.parent.mkdir(exist_ok=True)
    PAGE.write_text(render(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
