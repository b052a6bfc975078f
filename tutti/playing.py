"""Plays the rounds of a registered run, whoever computes them, and tells whoever watches."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from client_sim.data.loader import Loader
from client_sim.placement import Placement
from contract.clock import SystemClock
from privacy.report import price_of, shown_up
from server.faults import FaultHook
from server.keys import KeyDirectory
from server.registration import seeded
from server.store.store import Store
from server.store.values import Run, RunState
from server.tasks import PreparedTask
from tutti import loopback, results, simulation
from tutti.evaluation import HeldOut
from tutti.spending import Spending


class Progress(Protocol):
    """Who watches a run."""

    def started(self, *, committed: int, note: str) -> None: ...

    def round_ended(self, facts: Mapping[str, Any]) -> None: ...


class Silence:
    """Nobody watches."""

    def started(self, *, committed: int, note: str) -> None:
        """Says nothing."""

    def round_ended(self, facts: Mapping[str, Any]) -> None:
        """Says nothing."""


def play(
    database: Store,
    keys: KeyDirectory,
    registered: Run,
    prepared: PreparedTask,
    loader: Loader,
    *,
    workers: int | Placement | None,
    progress: Progress,
    faults: FaultHook,
    directory: Path,
    engine: simulation.Engine | None = None,
) -> dict[str, Any]:
    """Plays the rounds that are left of a registered run, by our own workers unless an `engine` is given."""
    clock = SystemClock()
    began = clock.now_s()
    progress.started(committed=registered.next_leaf, note=projected(prepared, registered))
    spending = Spending(database, registered)
    held_out = HeldOut.of(prepared.model, loader)
    played = loopback.rounds if registered.settings["transport"] == "grpc" else simulation.rounds
    rounds = played if engine is None else partial(simulation.rounds, engine=engine)
    for facts in rounds(database, keys, registered, prepared, loader, workers=workers, faults=faults, directory=directory):
        spent = spending.now()
        database.add_facts(registered.id, int(facts["round"]), {**facts.get("seen", {}), **spent})
        shown = {**facts, **spent, "seen": None}
        progress.round_ended(shown)
        if database.run_state(registered.id) in (RunState.PAUSED, RunState.CANCELLED):
            break
    finished = database.run(registered.id)
    if finished.state in (RunState.COMPLETED, RunState.CANCELLED):
        keys.destroy(finished.id)
    result = results.result(database, finished, seconds=clock.now_s() - began)
    result["metrics"] |= held_out.measure(database.model(finished.id).parameters)
    return result


def projected(prepared: PreparedTask, run: Run) -> str:
    """What all rounds of a run cost at worst, in a line."""
    spec, name = prepared.spec, run.id[:12]
    if "noise" in seeded(run.settings):
        return f"run {name}: its noise comes from a seed that is known, nothing is promised"
    cost = price_of(prepared.mechanism.event(spec.rounds), spec.privacy.delta)
    if cost is None:
        why = "no privacy mechanism" if spec.privacy.mechanism == "none" else "nothing is promised at this noise"
        return f"run {name}: {why}, epsilon is unbounded"
    most = f"epsilon {shown_up(cost.epsilon)} at delta {cost.delta:g} ({cost.conversion})"
    return f"run {name}: all {spec.rounds} rounds will cost at most {most}"
