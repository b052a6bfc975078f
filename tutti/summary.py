"""The last page of a run: what the model learned, what it cost, where things are, what to try next."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from privacy.report import shown_up


def print_summary(result: Mapping[str, Any], *, store: str, task_file: Path | None = None) -> None:
    """Prints a run's result for people."""
    console = Console(highlight=False)
    privacy = result["privacy"]
    console.print()
    for line in privacy["first_lines"]:
        loud = line.startswith(("GUARANTEE VOID", "VIOLATED", "NO GUARANTEE"))
        console.print(line, style="bold red" if loud else "yellow", soft_wrap=True)
    console.print(_facts(result, privacy))
    run = result["run"][:12]
    option = "" if store == ".tutti" else f" --store {store}"
    _print_files(console, result.get("files", {}))
    console.print("\n[bold]Next[/]")
    suggests_words = any("top1" in name for name in result["metrics"])
    for command, why in _next_commands(run, option, task_file, suggests_words=suggests_words):
        console.print(f"  [cyan]{command}[/]", soft_wrap=True)
        console.print(f"      {why}", style="dim", soft_wrap=True)


def _facts(result: Mapping[str, Any], privacy: Mapping[str, Any]) -> Table:
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="dim", min_width=13)
    table.add_column(overflow="fold")
    table.add_row(
        "run",
        f"{result['run'][:12]}  ({result['task']}, {_counted(result['rounds'], 'round')}, {result['abandoned']} abandoned)",
    )
    table.add_row("model", f"sha256 {result['model_digest'][:16]}...")
    for name, value in _learned(result["metrics"]).items():
        table.add_row(name, value)
    table.add_row("mechanism", privacy["mechanism"])
    table.add_row("epsilon", _epsilon(privacy))
    table.add_row("rho", "no line" if privacy["rho"] is None else f"{shown_up(privacy['rho'])} (zCDP)")
    table.add_row("unit", f"{privacy['unit']}, {privacy['adjacency']} adjacency")
    table.add_row("tier", privacy["tier"])
    return table


def _learned(metrics: Mapping[str, float]) -> dict[str, str]:
    """What people want to know first: held-out figures beside their floor; all metrics are in `result.json`.

    >>> _learned({"held_out_top1": 0.45, "unigram_floor_top1": 0.12, "train_loss": 2.9})
    {'learned': 'top1 45.0% of held-out words (always the most frequent word: 12.0%)'}
    """
    if "unigram_floor_top1" in metrics:
        top1, floor = metrics["held_out_top1"], metrics["unigram_floor_top1"]
        return {"learned": f"top1 {100 * top1:.1f}% of held-out words (always the most frequent word: {100 * floor:.1f}%)"}
    shown = {name: value for name, value in metrics.items() if name.startswith("held_out_") and "count" not in name}
    federated = {name.removeprefix("train_"): v for name, v in metrics.items() if name.startswith("train_federated_")}
    return {name: f"{value:.4g}" for name, value in (shown | federated or metrics).items()}


def _epsilon(privacy: Mapping[str, Any]) -> str:
    if privacy["epsilon"] is None:
        return "unbounded"
    others = ", ".join(
        f"{name} {shown_up(value)}"
        for name, value in privacy["epsilons"].items()
        if value is not None and name != privacy["conversion"]
    )
    also = f"; {others}" if others else ""
    opened = privacy["open_round"]
    worst = "" if opened is None else f"; round {opened} is charged and has no outcome yet: it counts at its worst case"
    return f"{shown_up(privacy['epsilon'])} at delta {privacy['delta']:g} ({privacy['conversion']} conversion{also}){worst}"


def _print_files(console: Console, files: Mapping[str, str]) -> None:
    if files:
        console.print("\n[bold]Files[/]")
        for what, path in files.items():
            console.print(f"  {what}: {path}", soft_wrap=True)


def _counted(number: int, thing: str) -> str:
    return f"{number} {thing}{'' if number == 1 else 's'}"


def _next_commands(run: str, option: str, task_file: Path | None, *, suggests_words: bool) -> Sequence[tuple[str, str]]:
    small = task_file is not None and "small" in task_file.name
    first = (
        ("uv run tutti run deploy/tasks/next_word.yaml", "the 1.41M-parameter model of the published system")
        if small
        else (f"uv run tutti report {run}{option}", "the whole privacy report")
    )
    own_data = (f"uv run tutti run {task_file} --data FILE.jsonl.gz", 'your own data: lines of {"client_id", "text"}')
    own_model = ("uv run tutti init mine", "a task, a model and a loader of your own to start from")
    predict = (f'uv run tutti predict {run}{option} "how are"', "what the model suggests next")
    return (
        first,
        (own_data if task_file is not None else predict) if suggests_words else own_model,
        (f"uv run tutti serve{option}", "the server: REST and pages on port 7311, gRPC on 7310"),
    )
