"""Pictures of runs, by matplotlib."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from client_sim.session_shapes import Tally
from contract.errors import ErrorCode, TuttiError
from privacy.report import cost, run_record
from server.store.store import Store
from server.store.values import Round, Run
from tutti.results import events_by_round

INK, WARM, COOL, PALE = "#1d3557", "#d1495b", "#00798c", "#9aa5b1"


@dataclass(frozen=True, slots=True)
class History:
    """The committed rounds of a run, and its cost at each."""

    run: str
    task: str
    rounds: Sequence[Mapping[str, Any]] = field(repr=False)
    epsilons: Sequence[float | None]
    delta: float | None


def history(store: Store, run: Run) -> History:
    """What there is to draw of a run.

    Raises:
      TuttiError: NOT_FOUND if no round is committed yet.
    """
    rows = [row for row in store.rounds(run.id) if row.state == "committed"]
    if not rows:
        raise TuttiError(ErrorCode.NOT_FOUND, f"run {run.id[:12]} has no committed round to draw")
    delta, events = run.spec.privacy.delta, events_by_round(store, run)
    record = run_record.read([entry.body for entry in store.entries(run=run.id)])
    prices = [cost.of(record, events.get(row.index)).price for row in rows]
    return History(
        run.id,
        run.spec.name,
        [{**row.facts, "round": row.index, "reported": row.reported} for row in rows],
        [None if price is None else price.epsilon for price in prices],
        delta,
    )


def run_page(shown: History, path: Path) -> None:
    """Four panels: loss, accuracy, epsilon, devices.

    Raises:
      TuttiError: ARGUMENT_INVALID for a file type that cannot be drawn.
    """
    figure = Figure(figsize=(10, 6.4), layout="constrained")
    figure.suptitle(f"{shown.task}   run {shown.run[:12]}", color=INK, fontsize=12)
    axes = figure.subplots(2, 2)
    _loss(axes[0, 0], shown, INK)
    _accuracy(axes[0, 1], shown, COOL)
    _epsilon(axes[1, 0], shown, WARM)
    _devices(axes[1, 1], shown)
    save(figure, path)


def comparison(shown: Sequence[History], path: Path) -> None:
    """Loss and epsilon of several runs in one picture."""
    figure = Figure(figsize=(10, 3.8), layout="constrained")
    left, right = figure.subplots(1, 2)
    for run, colour in zip(shown, (INK, WARM, COOL, PALE), strict=False):
        _loss(left, run, colour)
        _epsilon(right, run, colour)
    left.legend([f"{run.task} {run.run[:8]}" for run in shown], frameon=False)
    save(figure, path)


def session_shares(rounds: Sequence[Round]) -> dict[str, dict[str, Any]]:
    """Session shape -> count, share, and why so many of them ended, over all rounds, the most frequent first.

    Reasons begin with who ended the session, the server or the device; they are those of sessions over gRPC.
    """
    tally = Tally()
    for row in rounds:
        tally.update(row.facts.get("shapes", {}), row.facts.get("reasons", {}))
    shapes, reasons = tally.take()
    total = sum(shapes.values())
    return {
        shape: {"count": count, "share": count / total, "reasons": reasons.get(shape, {})} for shape, count in shapes.items()
    }


def turned_away(rounds: Sequence[Round]) -> dict[str, int]:
    """The server's own count of messages that it did not take, by its reason, over all rounds; the most frequent first."""
    counts: Counter[str] = Counter()
    for row in rounds:
        counts.update(row.facts.get("refused", {}))
    return dict(counts.most_common())


def session_chart(shares: Mapping[str, Mapping[str, Any]], path: Path) -> None:
    """The shares as horizontal bars."""
    figure = Figure(figsize=(7, 0.6 + 0.35 * max(1, len(shares))), layout="constrained")
    axes = figure.subplots()
    names = list(shares)[::-1]
    axes.barh(names, [100 * shares[name]["share"] for name in names], color=COOL)
    axes.set_yticks(range(len(names)), names, family="monospace")
    axes.set_xlabel("share of sessions, %")
    _plain(axes)
    save(figure, path)


def save(figure: Figure, path: Path) -> None:
    """Writes a figure as .png or .svg."""
    if path.suffix not in (".png", ".svg"):
        raise TuttiError(ErrorCode.ARGUMENT_INVALID, f"{path}: pictures are written as .png or .svg")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=144)


def _series(shown: History, *names: str) -> tuple[list[int], list[float]]:
    points = [(row["round"], row[name]) for row in shown.rounds for name in names if name in row]
    return [x for x, _ in points], [y for _, y in points]


def _loss(axes: Axes, shown: History, colour: str) -> None:
    axes.plot(*_series(shown, "loss"), color=colour)
    _label(axes, "training loss (simulator's oracle)")


def _accuracy(axes: Axes, shown: History, colour: str) -> None:
    x, y = _series(shown, "top1", "accuracy")
    axes.plot(x, [100 * value for value in y], color=colour)
    _label(axes, "training accuracy, % (simulator's oracle)")


def _epsilon(axes: Axes, shown: History, colour: str) -> None:
    points = [(row["round"], epsilon) for row, epsilon in zip(shown.rounds, shown.epsilons, strict=True) if epsilon is not None]
    if points:
        axes.step([x for x, _ in points], [y for _, y in points], where="post", color=colour)
        _label(axes, f"epsilon at delta {shown.delta:g}, spent so far")
    else:
        axes.text(0.5, 0.5, "nothing is promised:\nepsilon is unbounded", ha="center", va="center", transform=axes.transAxes)
        _label(axes, "epsilon")


def _devices(axes: Axes, shown: History) -> None:
    axes.plot(*_series(shown, "reported"), color=INK, label="in the sum")
    x, y = _series(shown, "cohort")
    if x:
        axes.plot(x, y, color=PALE, label="selected")
    axes.set_ylim(bottom=0)
    axes.legend(frameon=False, loc="lower right")
    _label(axes, "devices a round")


def _label(axes: Axes, title: str) -> None:
    axes.set_title(title, loc="left", fontsize=10, color=INK)
    axes.set_xlabel("round")
    _plain(axes)


def _plain(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25)
