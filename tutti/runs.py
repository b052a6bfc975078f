"""Puts a server and a fleet together for one run. `tutti.run` is also the Python interface."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from client_sim.data import open_loader
from client_sim.data.loader import Loader
from client_sim.placement import Placement
from contract import task
from contract.entropy import system_entropy
from contract.errors import ErrorCode, TuttiError
from contract.task import TaskSpec
from server import registration, tasks
from server.faults import FaultHook, no_faults
from server.keys import KeyDirectory
from server.policies import Policies
from server.registered_strategy import as_registered
from server.registration import RunSettings
from server.store.store import Store
from server.store.values import Run, RunState
from tutti import exclusive, hosting, results, shared_records, stores
from tutti.disclosures import disclosures, not_covered, vocabulary
from tutti.playing import Progress, Silence, play

OWN_ENGINE = "tutti"
OVER = (RunState.COMPLETED, RunState.CANCELLED)


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
        with exclusive.playing(database, stores.directory(store), registered):
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
    holder: str | None = None,
) -> dict[str, Any]:
    """Goes on with a run that was stopped, paused or killed; a completed run is returned as it is.

    Args:
      approved: whether whoever asks has seen to the approval, where the population asks for one.
      holder: the runner that asks, if it is one: it has the lease of the run's job.

    Raises:
      TuttiError: FORBIDDEN without an approval that is asked for; LEASE_HELD while somebody else plays the run;
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
        with exclusive.playing(database, stores.directory(store), found, holder=holder):
            found = database.run(found.id)  # as whoever played it last has left it
            if found.state in OVER:
                return results.result(database, found)
            return _go_on(
                database, keys, found, data, store=store, workers=workers, progress=progress or Silence(), faults=faults
            )


def _go_on(
    database: Store,
    keys: KeyDirectory,
    found: Run,
    data: Loader | None,
    *,
    store: str,
    workers: int | Placement | None,
    progress: Progress,
    faults: FaultHook,
) -> dict[str, Any]:
    loader = data if data is not None else open_loader(found.spec.data, model=found.spec.model.name)
    prepared = as_registered(database, found, tasks.prepare(found.spec, vocabulary(found.spec, loader)))
    if loader.digest != found.settings["data_digest"]:
        raise TuttiError(ErrorCode.RUN_STATE, f"the data of run {found.id[:12]} is not what it was when the run began")
    shared = found.spec.population if found.settings.get("shared_records") is not None else None
    with shared_records.held(stores.directory(store), shared):
        shared_records.require_last(database, found)
        database.set_run_state(found.id, RunState.RUNNING)
        return play(
            database, keys, found, prepared, loader, workers=workers, progress=progress, faults=faults,
            directory=stores.directory(store),
        )  # fmt: skip


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


def _shared(spec: TaskSpec, population: str, transport: str, engine: str) -> TaskSpec:
    if transport != "inprocess" or engine != OWN_ENGINE:
        detail = "device records are shared by runs in process, on our own engine, only"
        raise TuttiError(ErrorCode.MECHANISM_UNSUPPORTED, detail)
    return task.replace(spec, population=population)


def _spec(spec: TaskSpec | Mapping[str, Any] | str | Path) -> TaskSpec:
    if isinstance(spec, TaskSpec):
        return spec
    return task.read(Path(spec)) if isinstance(spec, str | Path) else task.parse_mapping(spec)
