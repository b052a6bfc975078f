"""The live view of a run: a progress bar and the last rounds in a table, on stderr."""

from collections import deque
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

from rich.console import Console, Group
from rich.live import Live
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from contract.task import TaskSpec
from privacy.report import shown_up

SHOWN_ROUNDS = 8


class LiveRounds:
    """Shows rounds as they end; on a stream that is no terminal it prints a line now and then instead."""

    def __init__(self, spec: TaskSpec, *, quiet: bool = False) -> None:
        self._spec, self._console = spec, Console(stderr=True)
        self._live_wanted = self._console.is_terminal and not quiet
        self._rows: deque[Mapping[str, Any]] = deque(maxlen=SHOWN_ROUNDS)
        self._seen = 0
        self._progress = Progress(
            SpinnerColumn(), TextColumn("[bold]{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("rounds"),
            TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn(), console=self._console,
        )  # fmt: skip
        self._bar = self._progress.add_task(spec.name, total=spec.rounds)
        self._live = Live(self._render(), console=self._console, refresh_per_second=8) if self._live_wanted else None

    def __enter__(self) -> Self:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._live is not None:
            self._live.update(self._render(), refresh=True)
            self._live.stop()

    def started(self, *, committed: int, note: str) -> None:
        """A run begins or goes on after `committed` rounds; `note` says what it will cost."""
        self._progress.update(self._bar, completed=committed)
        self._console.print(note, highlight=False)

    def round_ended(self, facts: Mapping[str, Any]) -> None:
        """One more round, with its facts."""
        self._rows.append(facts)
        self._seen += 1
        self._progress.update(self._bar, completed=facts["leaf"] + int(facts["state"] == "committed"))
        if self._live is not None:
            self._live.update(self._render())
        elif self._seen in (1, 2, 5) or self._seen % max(1, self._spec.rounds // 10) == 0 or facts["state"] != "committed":
            self._console.print(_line(facts), highlight=False, soft_wrap=True)

    def _render(self) -> Group:
        table = Table(box=None, pad_edge=False, header_style="dim")
        for name in ("round", "state", "devices", "loss", "accuracy", "update norm", "rho", "epsilon"):
            table.add_column(name, justify="left" if name == "state" else "right", min_width=7, overflow="fold")
        for facts in self._rows:
            table.add_row(*_cells(facts))
        said = [phases_line(self._rows[-1])] if self._rows and "phases_s" in self._rows[-1] else []
        return Group(table, *said, self._progress)


def _cells(facts: Mapping[str, Any]) -> list[str]:
    state = facts["state"] if facts["state"] == "committed" else f"abandoned: {facts.get('reason')}"
    accuracy = facts.get("top1", facts.get("accuracy"))
    return [
        str(facts["round"]), state, str(facts.get("reported", "")), _number(facts.get("loss")), _percent(accuracy),
        _number(facts.get("update_norm")), _price(facts.get("rho")), _price(facts.get("epsilon")),
    ]  # fmt: skip


def _line(facts: Mapping[str, Any]) -> str:
    names = ("round", "state", "devices", "loss", "accuracy", "update_norm", "rho", "epsilon")
    said = [f"{name} {cell}" for name, cell in zip(names, _cells(facts), strict=True) if cell]
    return "  ".join([*said, *([phases_line(facts)] if "phases_s" in facts else [])])


def phases_line(facts: Mapping[str, Any]) -> str:
    """How long each phase of a secure round took, and how sessions went, the commonest first.

    >>> phases_line({"phases_s": {"share keys": 0.52, "masked input": 7.0}, "shapes": {"-v[]+^": 90, "-v[!": 4}})
    'share keys 0.5 s, masked input 7.0 s; sessions -v[]+^ 90, -v[! 4'
    """
    phases = ", ".join(f"{name} {seconds:.1f} s" for name, seconds in facts["phases_s"].items())
    shapes = sorted(facts.get("shapes", {}).items(), key=lambda item: -item[1])
    sessions = ", ".join(f"{shape} {count}" for shape, count in shapes[:4])
    return f"{phases}; sessions {sessions}" if sessions else phases


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"


def _price(value: float | None) -> str:
    return "" if value is None else shown_up(value)


def _percent(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.1f}%"
