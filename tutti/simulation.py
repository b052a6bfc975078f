"""The in-process run: a fleet under virtual time drives the orchestrator, workers train."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from client_sim.data.loader import Loader, example_counts
from client_sim.oracle import ParticipationOracle
from client_sim.population import make_population
from client_sim.records import ParticipationRecords
from client_sim.simulator import FleetOptions, FleetSimulator, wake_interval
from client_sim.timing import effort_of
from client_sim.workers import open_executor
from contract.entropy import system_entropy
from server.faults import FaultHook
from server.keys import KeyDirectory, seeded_key
from server.orchestrator import Orchestrator
from server.pace import PaceSteering
from server.registration import key_of
from server.store.store import Store
from server.store.values import Run
from server.tasks import PreparedTask


def rounds(
    database: Store,
    keys: KeyDirectory,
    run: Run,
    prepared: PreparedTask,
    loader: Loader,
    *,
    workers: int | None,
    faults: FaultHook,
    directory: Path,
) -> Iterator[Mapping[str, Any]]:
    """Plays rounds until the run is over, giving the facts of each."""
    spec, seed = prepared.spec, simulation_seed(run)
    target = round(spec.cohort.report_goal * spec.cohort.over_selection)
    orchestrator = Orchestrator(
        store=database,
        run=run,
        mechanism=prepared.mechanism,
        optimizer=prepared.optimizer,
        key=key_of(keys, run),
        pace=PaceSteering(devices=loader.num_devices, cohort=target, round_s=spec.deadlines.selection_s),
        faults=faults,
    )
    records = ParticipationRecords(num_devices=loader.num_devices, path=directory / "devices.db", scope=run.id)
    executor = open_executor(prepared.spec, loader, workers=workers)
    simulator = FleetSimulator(
        server=orchestrator,
        population=make_population(loader.num_devices, seed),
        records=records,
        num_examples=lambda devices: example_counts(loader, devices),
        executor=executor,
        options=FleetOptions(
            seed=seed,
            noise_seed=noise_seed(run),
            effort=effort_of(prepared.model.num_parameters),
            examples_per_round=spec.training.max_examples * spec.training.epochs,
            wake_interval_s=wake_interval(loader.num_devices, cohort_target=target, selection_s=spec.deadlines.selection_s),
        ),
        oracle=ParticipationOracle(
            num_devices=loader.num_devices,
            minimum_separation=spec.cohort.minimum_separation,
            max_participations=spec.cohort.max_participations,
        ),
    )
    try:
        for trace in simulator.rounds():
            facts = trace.facts or {"round": trace.position.round_index, "leaf": trace.position.leaf, "state": "abandoned"}
            yield {"shapes": dict(trace.shapes), "virtual_s": trace.closed_s - trace.position.opened_s, **facts}
    finally:
        executor.close()
        records.close()


def simulation_seed(run: Run) -> int:
    """The run's seed, or a fresh one; a run that goes on without a seed meets other devices than it would have."""
    seed = run.settings["seed"]
    return int.from_bytes(system_entropy(6), "big") if seed is None else int(seed)


def noise_seed(run: Run) -> bytes | None:
    """What seeds the devices' rounding and noise, if the run's noise is seeded."""
    seed = run.settings["noise_seed"]
    return None if seed is None else seeded_key(int(seed), run.id + " devices").secret


def count_all(loader: Loader) -> np.ndarray:
    """How many examples every device has, int64 of shape (n,)."""
    return example_counts(loader, np.arange(loader.num_devices))
