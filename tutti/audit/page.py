"""An audit as one page that needs nothing else: verdict, tables, pictures."""

import html
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from privacy.report import shown_up
from tutti.audit.records import judged_of

_STYLE = """body{font:15px/1.5 system-ui,sans-serif;max-width:72rem;margin:2rem auto;padding:0 1rem;color:#1d3557;background:#fff}
table{border-collapse:collapse;margin:1rem 0}th,td{padding:.25rem .7rem;text-align:right;border-bottom:1px solid #dde3ea}
th:first-child,td:first-child{text-align:left}.passed{color:#00798c}.failed,.warned{color:#d1495b;font-weight:700}svg{max-width:100%;height:auto}
@media(prefers-color-scheme:dark){body{background:#10161d;color:#dfe7ef}th,td{border-color:#2b3744}svg{background:#fff}}"""


def render(result: Mapping[str, Any], files: Mapping[str, Path]) -> str:
    """The whole page as HTML; the pictures that are SVG files are put into it."""
    pictures = "".join(
        f"<h2>{html.escape(name)}</h2>{_picture(path)}"
        for name, path in files.items()
        if path.suffix == ".svg" and path.is_file()
    )
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Audit of {html.escape(result["task"])}</title>'
        f"<style>{_STYLE}</style></head><body><h1>Audit of {html.escape(result['task'])}</h1>"
        f'<p>Verdict: <span class="{result["verdict"]}">{result["verdict"]}</span>, at a family-wise level of'
        f" {result['family_level']:g}. Audit {result['audit'][:12]}; {result['canaries']['inserted']} canaries on"
        f" {result['canaries']['devices']} devices; {result['references']} references.</p>"
        f"{_arms(result)}{_cells(result)}{_epsilons(result)}{pictures}</body></html>\n"
    )


def arm_rows(result: Mapping[str, Any]) -> list[list[str]]:
    """A row for each arm: name, proven epsilon, median ranks, ratio, p value, extracted, trend."""
    rows: list[list[str]] = []
    for arm in result["arms"]:
        grid, ratio = arm["grid"], arm["grid"]["rank_ratio"]
        epsilon = arm["privacy"]["epsilon"]
        rows.append(
            [
                arm["name"],
                "none" if epsilon is None else f"{shown_up(epsilon)} at {arm['privacy']['delta']:g}",
                f"{grid['median_rank']:g}",
                f"{grid['median_rank_held_out']:g}",
                f"{grid['mean_exposure_bits']:.2f}",
                f"{grid['permutation_p_value']:.2g}",
                "" if ratio is None else f"{ratio['ratio']:.3g} [{ratio['low']:.3g}, {ratio['high']:.3g}]",
                "" if grid["extracted"] is None else str(grid["extracted"]),
                "" if grid["trend"] is None else f"{grid['trend']['spearman']:.2f}",
            ]
        )
    return rows


ARM_COLUMNS = (
    "arm", "proven epsilon", "median rank", "held out", "exposure, bits", "p", "rank ratio", "extracted", "dose trend",
)  # fmt: skip


def cell_rows(result: Mapping[str, Any]) -> list[list[str]]:
    """A row for each arm and cell: median exposure, sampled and extrapolated, median rank, censored."""
    return [
        [
            arm["name"],
            f"{cell['devices']} x {cell['copies']}",
            f"{cell['exposure_bits']:.2f}",
            f"{cell['extrapolated_bits']:.2f}",
            f"{cell['median_rank']:g}",
            f"{cell['censored']} of {cell['inserted']}",
            f"{cell['held_out_bits']:.2f}",
        ]
        for arm in result["arms"]
        for cell in arm["grid"]["cells"]
    ]


CELL_COLUMNS = ("arm", "devices x copies", "exposure, bits", "extrapolated", "median rank", "rank 1", "held out, bits")


def judgement_rows(result: Mapping[str, Any]) -> list[list[str]]:
    """A row for each bound or estimate beside what is proven in its scope."""
    rows: list[list[str]] = []
    for arm in result["arms"]:
        rows += [
            [
                one["measure"],
                one["certainty"],
                f"{one['epsilon']:.3f}",
                "nothing" if one["claimed"] is None else shown_up(one["claimed"]),
                f"{one['delta']:g}",
                f"{one['devices']} x {one['unit']}, {one['adjacency']}",
                one["verdict"],
            ]
            for one in judged_of(arm)
        ]
    return rows


JUDGEMENT_COLUMNS = ("measure", "kind", "epsilon from below", "proven", "delta", "unit", "verdict")


def _arms(result: Mapping[str, Any]) -> str:
    return "<h2>Control and treatments</h2>" + _table(ARM_COLUMNS, arm_rows(result))


def _cells(result: Mapping[str, Any]) -> str:
    return "<h2>Cells</h2>" + _table(CELL_COLUMNS, cell_rows(result))


def _epsilons(result: Mapping[str, Any]) -> str:
    rows = judgement_rows(result)
    return "<h2>Measured beside proven</h2>" + _table(JUDGEMENT_COLUMNS, rows) if rows else ""


def _table(columns: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    head = "".join(f"<th>{html.escape(name)}</th>" for name in columns)
    body = "".join("<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _picture(path: Path) -> str:
    text = path.read_text(encoding="utf-8")
    return text[text.index("<svg") :]
