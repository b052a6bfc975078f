"""The one file of results, `results/latest.json`: a list of {work, ours, unit, against, theirs, ratio, machine}; a low ratio is good."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
LATEST = RESULTS / "latest.json"
COLUMNS = ("work", "ours", "unit", "against", "theirs", "ratio", "machine")


def row(work: str, ours: float, unit: str, against: str, theirs: float, *, machine: str) -> dict[str, Any]:
    """One comparison; both sides were measured in the same run.

    >>> row("nwp", 1.0, "s/round", "pfl", 2.0, machine="here")["ratio"]
    0.5
    """
    values = (work, round(ours, 5), unit, against, round(theirs, 5), float(f"{ours / theirs:.3g}"), machine)
    return dict(zip(COLUMNS, values, strict=True))


def read() -> list[dict[str, Any]]:
    """The rows so far."""
    return json.loads(LATEST.read_text(encoding="utf-8")) if LATEST.exists() else []


def put(rows: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Writes `rows` over those of the same work and opponent, and gives all."""
    fresh = [{name: row[name] for name in COLUMNS} for row in rows]
    replaced = {(row["work"], row["against"]) for row in fresh}
    kept = [row for row in read() if (row["work"], row["against"]) not in replaced]
    merged = sorted([*kept, *fresh], key=lambda row: (row["work"], row["against"]))
    LATEST.parent.mkdir(exist_ok=True)
    LATEST.write_text("[\n" + ",\n".join(f" {json.dumps(row)}" for row in merged) + "\n]\n", encoding="utf-8")
    return merged


def table(rows: Iterable[Mapping[str, Any]]) -> str:
    """The rows as one table of text."""
    lines = [f"{'work':44} {'ours':>10} {'unit':>10} {'against':>24} {'theirs':>10} {'ratio':>7}"]
    lines += [
        f"{row['work']:44} {row['ours']:10.4g} {row['unit']:>10} {row['against']:>24} {row['theirs']:10.4g} {row['ratio']:7.3g}"
        for row in rows
    ]
    return "\n".join(lines)
