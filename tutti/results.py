"""A run's object, as `--json` prints it and `tutti.run` returns it."""

from collections.abc import Mapping
from typing import Any

from privacy.report import summarize
from server.store.store import Store
from server.store.values import Run

NOT_METRICS = frozenset(
    {"round", "leaf", "state", "reported", "virtual_s", "selection_s", "cohort", "violations", "smallest_separation", "most_participations"}
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
    return {
        name: float(value) for name, value in facts.items() if isinstance(value, int | float) and name not in NOT_METRICS
    }


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
        "started": run.created_at,
    }
