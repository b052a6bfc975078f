"""A run's object, as `--json` prints it and `tutti.run` returns it."""

from typing import Any

from privacy.report import summarize
from server.store.store import Store
from server.store.values import Run

NOT_METRICS = ("round", "leaf", "state", "reported")


def result(store: Store, run: Run, *, seconds: float = 0.0) -> dict[str, Any]:
    """`run`, `task`, `rounds` (committed), `abandoned`, `model_digest`, `metrics`, `privacy`, `seconds`."""
    rounds = store.rounds(run.id)
    committed = [row for row in rounds if row.state == "committed"]
    metrics = {name: value for name, value in (committed[-1].facts if committed else {}).items() if name not in NOT_METRICS}
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
