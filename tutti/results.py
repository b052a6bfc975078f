"""A run's object, as `--json` prints it and `tutti.run` returns it."""

import json
from collections.abc import Mapping
from typing import Any, cast

from contract import task
from contract.task import TaskSpec
from privacy.report import shown_up, summarize
from server.store.store import Store
from server.store.values import Run

NOT_METRICS = frozenset(
    {
        "round",
        "leaf",
        "state",
        "reported",
        "virtual_s",
        "selection_s",
        "cohort",
        "violations",
        "smallest_separation",
        "most_participations",
        "rho",
        "epsilon",
        "collection_s",
        "check_ins",
        "lost",
    }
)
"""Facts of a round that describe the fleet and not the model."""


def result(store: Store, run: Run, *, seconds: float = 0.0) -> dict[str, Any]:
    """`run`, `task`, `rounds` (committed), `abandoned`, `model_digest`, `metrics`, `privacy`, `seconds`."""
    rounds = store.rounds(run.id)
    committed = [row for row in rounds if row.state == "committed"]
    metrics = {"train_" + name: value for name, value in model_metrics(committed[-1].facts).items()} if committed else {}
    return {
        "run": run.id,
        "task": run.spec.name,
        "rounds": len(committed),
        "abandoned": sum(row.state == "abandoned" for row in rounds),
        "model_digest": store.model(run.id).digest,
        "metrics": metrics,
        "privacy": summarize([entry.body for entry in store.entries(run=run.id)]).to_json(),
        "seconds": round(seconds, 3),
    }


def model_metrics(facts: Mapping[str, Any]) -> dict[str, float]:
    """What a round's facts say of the model.

    >>> model_metrics({"loss": 2.5, "cohort": 260, "shapes": {}})
    {'loss': 2.5}
    """
    return {name: float(value) for name, value in facts.items() if isinstance(value, int | float) and name not in NOT_METRICS}


def run_line(store: Store, run: Run) -> dict[str, Any]:
    """One row of `tutti runs list`."""
    summary = summarize([entry.body for entry in store.entries(run=run.id)])
    return {
        "run": run.id,
        "task": run.spec.name,
        "state": run.state.value,
        "rounds": run.next_leaf,
        "planned": run.spec.rounds,
        "epsilon": summary.epsilon,
        "delta": summary.delta,
        "open_round": summary.open_round,
        "started": run.created_at,
    }


def events_by_round(store: Store, run: Run) -> dict[int, Mapping[str, Any]]:
    """The cumulative event after each round: its outcome's, or its charge's worst case where it gave no model."""
    bodies = [json.loads(entry.body) for entry in store.entries(run=run.id) if entry.kind in ("round-charged", "round-outcome")]
    return {body["round"]: body["event"] for body in bodies if "event" in body}


def differences(first: TaskSpec, second: TaskSpec) -> dict[str, tuple[Any, Any]]:
    """The keys of two tasks whose values differ, by their path."""
    left, right = _flat(task.to_mapping(first)), _flat(task.to_mapping(second))
    return {key: (left.get(key), right.get(key)) for key in sorted(left | right) if left.get(key) != right.get(key)}


def paired(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, tuple[str, str]]:
    """Rows of two runs' results, side by side, as text."""
    rows: dict[str, tuple[str, str]] = {}
    for name in dict.fromkeys([*first["metrics"], *second["metrics"]]):
        rows[name] = (_text(first["metrics"].get(name)), _text(second["metrics"].get(name)))
    for name in ("rho", "epsilon", "delta", "conversion", "tier"):
        shown = _price if name in ("rho", "epsilon") else _text
        rows[name] = (shown(first["privacy"][name]), shown(second["privacy"][name]))
    return rows


def _text(value: float | str | None) -> str:
    return "-" if value is None else value if isinstance(value, str) else f"{value:.4g}"


def _price(value: float | None) -> str:
    return "-" if value is None else shown_up(value)


def _flat(mapping: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in mapping.items():
        inner = cast(dict[str, Any], value) if isinstance(value, dict) else None
        flat |= {prefix + key: value} if inner is None else _flat(inner, f"{prefix}{key}.")
    return flat
