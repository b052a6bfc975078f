"""Puts a server and a fleet together for one run. `tutti.run` is also the Python interface."""

import dataclasses
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from client_sim.data import open_loader
from client_sim.data.loader import Loader
from client_sim.placement import Placement
from contract import task
from contract.clock import SystemClock
from contract.entropy import system_entropy
from contract.errors import ErrorCode, TuttiError
from contract.task import TaskSpec
from privacy.report import price_of
from server import registration, tasks
from server.faults import FaultHook, no_faults
from server.keys import KeyDirectory
from server.policies import Policies
from server.registration import RunSettings
from server.store.store import Store
from server.store.values import Run, RunState
from server.tasks import PreparedTask
from trainer.vocabulary import Vocabulary, count_words
from tutti import hosting, loopback, results, shared_records, simulation, stores
from tutti.evaluation import HeldOut

OWN_ENGINE = "tutti"


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


def run(
    spec: TaskSpec | Mapping[str, Any] | str | Path,
    *,
    data: str | Loader | None = None,
    transport: str = "inprocess",
    seed: int | None = None,
    seed_noise: int | None = None,
    workers: int | Placement | None = None,
    store: str = ".tutti",
    progress: Progress | None = None,
    faults: FaultHook = no_faults,
    approved: bool = False,
    engine: str = OWN_ENGINE,
    population: str | None = None,
) -> dict[str, Any]:
    """Trains a task on simulated devices and returns the run's object (see DESIGN, "Faces").

    Args:
      spec: a `TaskSpec`, a mapping with a task file's keys, or the path of a task file.
      data: a path of gzipped JSON lines, or a `Loader`; the task's own source unless given.
      transport: `inprocess` (virtual time) or `grpc` (a real server and fleet over loopback).
      seed: fixes the simulation; noise stays fresh.
      seed_noise: fixes noise and rounding too; the guarantee is void and the report says so.
      workers: worker processes, one a core unless given, 0 trains in this process; or a `Placement` (accelerator, Ray).
      store: directory or database URL.
      approved: whether a second person approved it, where the population asks for that.
      engine: `tutti`, or `tff` (`tff-weighted`) for TensorFlow Federated, see `tutti.engines.tff_run`.
      population: instead of the task's own, and its devices keep one record for all runs that name it.

    Raises:
      TuttiError: with a code of the catalogue and what to do about it.
    """
    spec = _spec(spec)
    if isinstance(data, str):
        spec = task.replace(spec, data={"source": data})
    if population is not None:
        spec = _shared(spec, population, transport, engine)
    if engine != OWN_ENGINE:
        return _elsewhere(
            spec, data, engine, transport,
            seed=seed, seed_noise=seed_noise, store=store, progress=progress or Silence(), approved=approved,
        )  # fmt: skip
    tasks.refuse(spec)
    if transport == "grpc":
        hosting.refuse(spec)
    loader = open_loader(spec.data, model=spec.model.name) if data is None or isinstance(data, str) else data
    require_devices(spec, loader)
    prepared = tasks.prepare(spec, vocabulary(spec, loader))
    settings = RunSettings(
        seed=seed,
        noise_seed=seed_noise,
        transport=transport,
        data=spec.data.source,
        data_digest=loader.digest,
        devices=loader.num_devices,
        drawn_seed=int.from_bytes(system_entropy(6), "big"),
    )
    with shared_records.held(stores.directory(store), population), stores.opened(store) as (database, keys):
        if population is not None:
            first = shared_records.next_index(database, population, data_digest=loader.digest)
            settings = dataclasses.replace(settings, shared_records=first)
        registered = registration.register(
            store=database,
            keys=keys,
            prepared=prepared,
            settings=settings,
            not_covered=[*not_covered(prepared.spec), *disclosures(loader)],
            start=prepared.model.init(0),
            approved=approved,
        )
        return play(
            database, keys, registered, prepared, loader, workers=workers, progress=progress or Silence(), faults=faults,
            directory=stores.directory(store),
        )  # fmt: skip


def resume(
    name: str,
    *,
    data: Loader | None = None,
    workers: int | Placement | None = None,
    store: str = ".tutti",
    progress: Progress | None = None,
    faults: FaultHook = no_faults,
    approved: bool = False,
) -> dict[str, Any]:
    """Goes on with a run that was stopped, paused or killed; a completed run is returned as it is.

    Args:
      approved: whether whoever asks has seen to the approval, where the population asks for one.

    Raises:
      TuttiError: FORBIDDEN without an approval that is asked for;
        RUN_STATE if the run was cancelled, its key is gone, or its data has changed.
    """
    with stores.opened(store) as (database, keys):
        found = database.run(name)
        if found.state is RunState.COMPLETED:
            return results.result(database, found)
        if found.state is RunState.CANCELLED:
            raise TuttiError(ErrorCode.RUN_STATE, f"run {found.id[:12]} was cancelled")
        if not approved:
            Policies(database.transactions, database.ledger).check_resume(found)
        if found.settings.get("engine"):
            raise TuttiError(
                ErrorCode.RUN_STATE, f"run {found.id[:12]} was played by {found.settings['engine']}, whose noise ended with it"
            )
        if found.settings["transport"] == "devices":
            database.set_run_state(found.id, RunState.RUNNING)  # `tutti serve` takes it up
            return results.result(database, database.run(found.id))
        loader = data if data is not None else open_loader(found.spec.data, model=found.spec.model.name)
        prepared = tasks.prepare(found.spec, vocabulary(found.spec, loader))
        if loader.digest != found.settings["data_digest"]:
            raise TuttiError(ErrorCode.RUN_STATE, f"the data of run {found.id[:12]} is not what it was when the run began")
        shared = found.spec.population if found.settings.get("shared_records") is not None else None
        with shared_records.held(stores.directory(store), shared):
            shared_records.require_last(database, found)
            database.set_run_state(found.id, RunState.RUNNING)
            return play(
                database, keys, found, prepared, loader, workers=workers, progress=progress or Silence(), faults=faults,
                directory=stores.directory(store),
            )  # fmt: skip


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
    progress.started(committed=registered.next_leaf, note=projected(prepared, registered.id))
    held_out = HeldOut.of(prepared.model, loader)
    played = loopback.rounds if registered.settings["transport"] == "grpc" else simulation.rounds
    rounds = played if engine is None else partial(simulation.rounds, engine=engine)
    for facts in rounds(database, keys, registered, prepared, loader, workers=workers, faults=faults, directory=directory):
        spent = _so_far(prepared, facts)
        database.add_facts(registered.id, int(facts["round"]), {**facts.get("seen", {}), **spent})
        shown = {**facts, **spent, "claim": None, "seen": None}
        progress.round_ended(shown)
        if database.run(registered.id).state in (RunState.PAUSED, RunState.CANCELLED):
            break
    finished = database.run(registered.id)
    if finished.state in (RunState.COMPLETED, RunState.CANCELLED):
        keys.destroy(finished.id)
    result = results.result(database, finished, seconds=clock.now_s() - began)
    result["metrics"] |= held_out.measure(database.model(finished.id).parameters)
    return result


def _elsewhere(spec: TaskSpec, data: str | Loader | None, engine: str, transport: str, **settings: Any) -> dict[str, Any]:
    """The run of a task on another engine, which is imported when it is asked for."""
    from tutti.engines import tff_run

    if engine not in tff_run.ENGINES or transport != "inprocess":
        raise TuttiError(
            ErrorCode.MECHANISM_UNSUPPORTED,
            f"engine {engine!r} over transport {transport!r}: engines are {OWN_ENGINE}, {', '.join(tff_run.ENGINES)}, "
            f"and all but {OWN_ENGINE} run in process",
        )
    loader = open_loader(spec.data, model=spec.model.name) if data is None or isinstance(data, str) else data
    return tff_run.run(spec, loader, engine=engine, **settings)


def require_devices(spec: TaskSpec, loader: Loader) -> None:
    """Says before a run is registered that its data has too few devices for it to end.

    Raises:
      TuttiError: TOO_FEW_DEVICES.
    """
    fewest = tasks.fewest_devices(spec)
    if loader.num_devices < fewest:
        detail = f"{spec.data.source} has {loader.num_devices} devices, but {spec.rounds} rounds of {spec.name} need {fewest} at least"
        raise TuttiError(
            ErrorCode.TOO_FEW_DEVICES, f"{detail}, by cohort.minimum_reports, minimum_separation and max_participations"
        )


def vocabulary(spec: TaskSpec, loader: Loader) -> Vocabulary | None:
    """The words of the devices' own text, where the task asks for them; the report calls that not covered."""
    if spec.model.vocabulary != "data":
        return None
    texts = (str(example["text"]) for device in range(loader.num_devices) for example in loader.examples(device))
    return count_words(texts)


def not_covered(spec: TaskSpec) -> list[str]:
    """Accesses to the devices' data that the noised sums do not cover."""
    found = ["the simulator's own metrics and held-out accuracy, which a deployment would not have"]
    if spec.aggregation.ideal:
        found.append("what the cryptography would have hidden: this simulation used the ideal sum in its place")
    if spec.model.vocabulary == "data":
        found.append("a vocabulary drawn from the devices' text")
    if spec.privacy.mechanism != "none":
        found.append("hyperparameters, unless they were chosen on public data")
    return found


def disclosures(loader: Loader) -> tuple[str, ...]:
    """What the loader itself wants said of its data, such as an audit's devices among the real ones."""
    return tuple(getattr(loader, "disclosures", ()))


def projected(prepared: PreparedTask, run: str) -> str:
    """What all rounds of a run would cost, in a line."""
    spec = prepared.spec
    cost = price_of(prepared.mechanism.event(spec.rounds), spec.privacy.delta)
    if cost is None:
        return f"run {run[:12]}: no privacy mechanism, epsilon is unbounded"
    return f"run {run[:12]}: all {spec.rounds} rounds will cost epsilon {cost.epsilon:.4g} at delta {cost.delta:g} ({cost.conversion})"


def _so_far(prepared: PreparedTask, facts: Mapping[str, Any]) -> dict[str, Any]:
    claim = facts.get("claim") or prepared.mechanism.event(facts["leaf"] + 1)
    cost = price_of(claim, prepared.spec.privacy.delta)
    return {} if cost is None else {"rho": cost.rho, "epsilon": cost.epsilon}


def _shared(spec: TaskSpec, population: str, transport: str, engine: str) -> TaskSpec:
    if transport != "inprocess" or engine != OWN_ENGINE:
        detail = "device records are shared by runs in process, on our own engine, only"
        raise TuttiError(ErrorCode.MECHANISM_UNSUPPORTED, detail)
    return task.replace(spec, population=population)


def _spec(spec: TaskSpec | Mapping[str, Any] | str | Path) -> TaskSpec:
    if isinstance(spec, TaskSpec):
        return spec
    return task.read(Path(spec)) if isinstance(spec, str | Path) else task.parse_mapping(spec)
