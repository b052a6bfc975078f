"""An audit's pictures: exposures by cell, rank ratio against noise, epsilon from below and above on one axis."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from privacy.audit.exposure import null_mean_bits, null_quantile_bits
from tutti.audit.records import judged_of
from tutti.plots import COOL, INK, PALE, WARM, save

MOST_ACROSS = 3
"""Panels side by side: more would be too small to read."""


def draw(result: Mapping[str, Any], directory: Path) -> dict[str, Path]:
    """Draws what there is to draw as SVG; returns name -> file."""
    files = {"exposures": directory / "exposures.svg"}
    _exposures(result, files["exposures"])
    if any(row["grid"]["rank_ratio"] for row in result["arms"]):
        files["rank ratios"] = directory / "rank_ratios.svg"
        _rank_ratios(result, files["rank ratios"])
    if any(row["coins"] or row["probes"] for row in result["arms"]):
        files["epsilon"] = directory / "epsilon.svg"
        _epsilons(result, files["epsilon"])
    return files


def _exposures(result: Mapping[str, Any], path: Path) -> None:
    """A panel for each arm: every canary's exposure by cell, held-out ones beside."""
    arms = result["arms"]
    across = min(len(arms), MOST_ACROSS)
    down = -(-len(arms) // across)
    figure = Figure(figsize=(4.6 * across, 3.8 * down), layout="constrained")
    panels: Sequence[Axes] = np.atleast_1d(figure.subplots(down, across, sharey=True)).ravel().tolist()
    for spare in panels[len(arms) :]:
        spare.set_axis_off()
    for axes, row in zip(panels, arms, strict=False):
        labels = [f"{cell['devices']}x{cell['copies']}" for cell in row["grid"]["cells"]]
        for canary in row["grid"]["canaries"]:
            at = labels.index(f"{canary['devices']}x{canary['copies']}")
            shift, colour = (-0.12, WARM) if canary["inserted"] else (0.12, PALE)
            marker = "^" if canary["censored"] else "o"
            axes.plot(at + shift, canary["bits"], marker, color=colour, markersize=5, alpha=0.8)
        axes.axhline(null_mean_bits(), color=PALE, linewidth=1)
        axes.axhline(null_quantile_bits(0.99), color=PALE, linewidth=1, linestyle="--")
        axes.axhline(np.log2(row["grid"]["references"]), color=INK, linewidth=1, linestyle=":")
        axes.set_xticks(range(len(labels)), labels, rotation=45)
        axes.set_title(row["name"], loc="left", fontsize=10, color=INK)
        axes.set_xlabel("devices x copies")
        _plain(axes)
    for leftmost in panels[::across]:
        leftmost.set_ylabel("exposure, bits")
    figure.suptitle(
        "inserted (red; triangle: rank 1, at least this) and held out (grey); lines: null mean and 99%, most", fontsize=9
    )
    save(figure, path)


def _rank_ratios(result: Mapping[str, Any], path: Path) -> None:
    rows = [row for row in result["arms"] if row["grid"]["rank_ratio"]]
    figure = Figure(figsize=(6.4, 3.8), layout="constrained")
    axes = figure.subplots()
    for at, row in enumerate(rows):
        found = row["grid"]["rank_ratio"]
        axes.plot([at, at], [found["low"], found["high"]], color=COOL, linewidth=2)
        axes.plot(at, found["ratio"], "o", color=COOL)
    axes.axhline(1, color=PALE)
    axes.axhline(2, color=WARM, linestyle="--", linewidth=1)
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter("{x:g}")
    low, high = axes.get_ylim()
    axes.yaxis.set_minor_formatter("{x:g}" if high < 30 * low else NullFormatter())  # over decades, their labels would overlap
    axes.set_xticks(range(len(rows)), [row["name"] for row in rows])
    axes.set_ylabel("median rank over the control's")
    axes.set_title("95% paired bootstrap over canaries; dashed: twice the control's", loc="left", fontsize=9, color=INK)
    _plain(axes)
    save(figure, path)


def _epsilons(result: Mapping[str, Any], path: Path) -> None:
    """Lower bounds and estimates beside the proven epsilon of the same scope."""
    figure = Figure(figsize=(8.4, 0.9 + 0.42 * max(1, len(_judged(result)))), layout="constrained")
    axes = figure.subplots()
    judged = _judged(result)[::-1]
    for at, one in enumerate(judged):
        bound = one["certainty"] == "bound"
        axes.plot(one["epsilon"], at, ">" if bound else "d", color=COOL if bound else PALE)
        if one["claimed"] is not None:
            axes.plot([one["epsilon"], one["claimed"]], [at, at], color=PALE, linewidth=1)
            axes.plot(one["claimed"], at, "|", color=WARM, markersize=14, markeredgewidth=2)
    axes.set_yticks(range(len(judged)), [one["measure"] for one in judged], fontsize=8)
    axes.set_xlabel("epsilon: > from below, d estimate's low end, | proven (none where nothing is proven)")
    axes.set_xlim(left=-0.2)
    _plain(axes)
    save(figure, path)


def _judged(result: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [one for row in result["arms"] for one in judged_of(row)]


def _plain(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25)
