"""One arm of an audit: its run, found again, taken up or begun; and what is needed of it afterwards."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from client_sim.data.loader import Loader
from client_sim.placement import Placement
from contract.errors import ErrorCode, TuttiError
from contract.task import TaskSpec
from privacy import events
from privacy.events import Event, UnboundedEvent
from server import tasks
from server.store.store import Store
from server.store.values import Run, RunState
from trainer.model import Model
from tutti import disclosures, results, runs, stores
from tutti.playing import Progress, Silence


@dataclass(frozen=True, slots=True, kw_only=True)
class Arm:
    """A trained arm.

    Args:
      parameters: of the final model; start: of the model before any round, both float32, shape (d,).
      event: what the ledger charged for all rounds.
    """

    name: str
    run: str
    population: str
    model_digest: str
    result: Mapping[str, Any] = field(repr=False)
    model: Model = field(repr=False)
    start: NDArray[np.float32] = field(repr=False)
    parameters: NDArray[np.float32] = field(repr=False)
    event: Event
    delta: float | None


def train(
    name: str,
    spec: TaskSpec,
    loader: Loader,
    *,
    seed: int,
    store: str,
    workers: int | Placement | None,
    progress: Progress | None = None,
    approved: bool = False,
) -> Arm:
    """Trains one arm, or goes on with a run of the same task, data and seed; a completed one is used as it is.

    Raises:
      TuttiError: RUN_STATE if it did not complete (it was paused, say); or whatever stops a run.
    """
    model, found = prepared(spec, loader), existing(spec, loader, seed=seed, store=store)
    watching = progress or Silence()
    if found is None:
        result = runs.run(spec, data=loader, seed=seed, workers=workers, store=store, progress=watching, approved=approved)
    else:
        result = runs.resume(found.id, data=loader, workers=workers, store=store, progress=watching, approved=approved)
    with stores.opened(store) as (database, _):
        run = database.run(result["run"])
        if run.state is not RunState.COMPLETED:
            detail = f"arm {name}: run {run.id[:12]} is {run.state.value}; start the audit again to go on"
            raise TuttiError(ErrorCode.RUN_STATE, detail)
        stored = database.model(run.id)
        return Arm(
            name=name,
            run=run.id,
            population=run.spec.population,
            model_digest=stored.digest,
            result=result,
            model=model,
            start=model.init(0),
            parameters=stored.parameters,
            event=charged(database, run),
            delta=run.spec.privacy.delta,
        )


def prepared(spec: TaskSpec, loader: Loader) -> Model:
    """The model of a task on this data; a vocabulary that is counted in the data is counted here."""
    return tasks.prepare(spec, disclosures.vocabulary(spec, loader)).model


def existing(spec: TaskSpec, loader: Loader, *, seed: int, store: str) -> Run | None:
    """The newest run of the same task, data and seed that was not cancelled; None if there is none."""
    digests = {spec.digest, tasks.calibrated(spec).digest}
    with stores.opened(store) as (database, _):
        same = [
            run
            for run in database.runs()
            if run.spec.digest in digests
            and run.settings["data_digest"] == loader.digest
            and run.settings["seed"] == seed
            and run.settings["noise_seed"] is None
            and run.state is not RunState.CANCELLED
        ]
    return same[-1] if same else None


def charged(database: Store, run: Run) -> Event:
    """The event of the run's last charge, which covers all its rounds."""
    found = results.events_by_round(database, run)
    return events.from_json(found[max(found)]) if found else UnboundedEvent(reason="nothing was charged")


@dataclass(slots=True, kw_only=True)
class ModelKeeper:
    """Keeps the model of every round beside the store, which keeps the last few: an attack on all rounds needs all of them.

    Args:
      inner: who watches besides.
    """

    spec: TaskSpec
    loader: Loader
    seed: int
    store: str
    directory: Path
    inner: Progress = field(default_factory=Silence)

    def started(self, *, committed: int, note: str) -> None:
        """Passed on."""
        self.inner.started(committed=committed, note=note)

    def round_ended(self, facts: Mapping[str, Any]) -> None:
        """Writes the round's model to `directory`."""
        self.inner.round_ended(facts)
        found = existing(self.spec, self.loader, seed=self.seed, store=self.store)
        if found is not None:
            self.directory.mkdir(parents=True, exist_ok=True)
            with stores.opened(self.store) as (database, _):
                stored = database.model(found.id)
            np.save(self.directory / f"{found.id[:12]}-{stored.round:05d}.npy", stored.parameters)

    def models(self, arm: Arm) -> list[NDArray[np.float32]]:
        """The models after each round, the start first. A round whose model is missing is seen together with the next."""
        kept = [np.load(path) for path in sorted(self.directory.glob(f"{arm.run[:12]}-*.npy"))]
        return [arm.start, *kept] if kept and np.array_equal(kept[-1], arm.parameters) else [arm.start, *kept, arm.parameters]
