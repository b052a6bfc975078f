"""The in-process run: a fleet under virtual time drives the orchestrator, workers train."""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from client_sim.data.loader import Loader
from client_sim.device_caches import DeviceCaches
from client_sim.executor import Executor, SecureAggregation
from client_sim.journal import FleetJournal
from client_sim.oracle import ParticipationOracle
from client_sim.placement import Placement
from client_sim.population import make_population
from client_sim.simulator import FleetOptions, FleetSimulator, RoundTrace, wake_interval
from client_sim.timing import effort_of
from client_sim.workers import open_executor
from contract.clock import SystemClock
from contract.entropy import system_entropy
from privacy.keystream import Keystream
from server.distributed_mechanism import DistributedMechanism, lanes
from server.faults import FaultHook
from server.keys import KeyDirectory, seeded_key
from server.observability import ObservedServer, of_process
from server.orchestrator import Orchestrator
from server.pace import PaceSteering
from server.registration import key_of
from server.store.store import Store
from server.store.values import Run
from server.tasks import PreparedTask
from server.transcripts import TranscriptFolder
from trainer import freed_memory
from trainer.models.next_word import NextWord
from trainer.vocabulary import Vocabulary
from tutti import shared_records, stores
from tutti.findings import record_findings
from tutti.secure_simulation import IdealSum, ProtocolSum, SecureExecutor
from tutti.virtual_windows import VirtualWindows

LARGE_MODEL, RELEASE_EVERY = 1 << 18, 5
"""Rounds of large models leave the heap of this process in pieces, some ten megabytes a round: so often they are given back."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Engine:
    """Who computes the updates in place of our workers; `secure` sums those of a task with a roster."""

    executor: Executor
    secure: SecureAggregation | None


def rounds(
    database: Store,
    keys: KeyDirectory,
    run: Run,
    prepared: PreparedTask,
    loader: Loader,
    *,
    workers: int | Placement | None,
    faults: FaultHook,
    directory: Path,
    engine: Engine | None = None,
) -> Iterator[Mapping[str, Any]]:
    """Plays rounds until the run is over, giving the facts of each; in our own workers unless an `engine` is given."""
    spec, devices = prepared.spec, directory / "devices.db"
    target = round(spec.cohort.report_goal * spec.cohort.over_selection)
    orchestrator = Orchestrator(
        store=database,
        run=run,
        mechanism=prepared.mechanism,
        optimizer=prepared.optimizer,
        key=key_of(keys, run),
        pace=PaceSteering(devices=loader.num_devices, cohort=target, round_s=spec.deadlines.selection_s),
        faults=faults,
        keys=keys,
    )
    with ExitStack() as stack:
        records = shared_records.records_of(run, num_devices=loader.num_devices, path=devices)
        stack.callback(records.close)
        journal = FleetJournal(devices, run=run.id)
        stack.callback(journal.close)
        if (fleet := journal.load(run.next_round)) is not None:
            orchestrator.advance_to(
                fleet.now_s
            )  # the server's clock goes on where the fleet's does: what it says of waiting follows it
        computing = engine or _own_engine(prepared, run, loader, workers, stores.transcript_folder(directory))
        stack.callback(computing.executor.close)
        oracle = ParticipationOracle(
            num_devices=loader.num_devices,
            minimum_separation=spec.cohort.minimum_separation,
            max_participations=spec.cohort.max_participations,
        )
        simulator = FleetSimulator(
            server=ObservedServer(orchestrator, of_process(), SystemClock(), secret_cohorts=spec.privacy.sampling == "poisson"),
            population=make_population(loader.num_devices, simulation_seed(run)),
            records=records,
            num_examples=DeviceCaches(loader=loader, spec=spec.data.cache, seed=spec.data.seed).num_examples,
            executor=computing.executor,
            options=fleet_options(prepared, run, loader),
            oracle=oracle,
            journal=journal,
            secure=computing.secure,
        )
        large = prepared.model.num_parameters >= LARGE_MODEL
        for number, trace in enumerate(simulator.rounds()):
            if large and number % RELEASE_EVERY == 0:
                freed_memory.release()  # while the next round trains
            facts = _seen(trace, oracle)
            # `seen` is kept by whoever plays the rounds, with what they add: one write to the disk for both.
            yield {**facts, **trace.facts, "seen": facts}
        record_findings(database, run, oracle)


def _seen(trace: RoundTrace, oracle: ParticipationOracle) -> dict[str, Any]:
    """What the fleet saw of a round, for the store and whoever reads it."""
    if trace.position.sampled is not None:
        # Of a sampled cohort everything that depends on who was drawn is as secret as the coins are, the time it took included.
        return {"virtual_s": None}
    return {
        "shapes": dict(trace.shapes),
        "virtual_s": trace.closed_s - trace.started_s,
        "selection_s": trace.started_s - trace.position.opened_s,
        "cohort": trace.cohort,
        "violations": oracle.num_violations,
        "smallest_separation": oracle.smallest_separation,
        "most_participations": oracle.most_participations,
    }


def _own_engine(
    prepared: PreparedTask, run: Run, loader: Loader, workers: int | Placement | None, transcripts: TranscriptFolder
) -> Engine:
    executor = open_executor(prepared.spec, loader, workers=workers, vocabulary=vocabulary_of(prepared))
    return Engine(executor=executor, secure=secure_aggregation(prepared, run, executor, transcripts))


def secure_aggregation(
    prepared: PreparedTask, run: Run, executor: SecureExecutor, transcripts: TranscriptFolder | None = None
) -> IdealSum | ProtocolSum | None:
    """What sums a secure task's updates: the real protocol unless the task asks for its ideal sum."""
    aggregation, seed = prepared.spec.aggregation, noise_seed(run)
    if not isinstance(prepared.mechanism, DistributedMechanism):
        return None
    if aggregation.ideal:
        floor = prepared.spec.minimum_survivors if prepared.spec.groups > 1 else 0
        return IdealSum(executor, lanes(prepared.mechanism.vectors), groups=prepared.spec.groups, floor=floor)
    entropy = system_entropy if seed is None else Keystream(seed, "device authority", 0).read
    groups, windows = prepared.spec.groups, None
    if prepared.mechanism.secagg is not None:
        windows = VirtualWindows(
            parameters=prepared.mechanism.secagg,
            groups=groups,
            seed=simulation_seed(run),
            reporting_s=prepared.spec.deadlines.reporting_s,
        )
    return ProtocolSum(
        executor, entropy=entropy, seed=simulation_seed(run), groups=groups, windows=windows, transcripts=transcripts
    )


def fleet_options(prepared: PreparedTask, run: Run, loader: Loader) -> FleetOptions:
    """How the fleet of a run behaves."""
    spec = prepared.spec
    target = round(spec.cohort.report_goal * spec.cohort.over_selection)
    return FleetOptions(
        seed=simulation_seed(run),
        noise_seed=noise_seed(run),
        effort=effort_of(prepared.model.num_parameters),
        examples_per_round=spec.training.max_examples * spec.training.epochs,
        wake_interval_s=wake_interval(loader.num_devices, cohort_target=target, selection_s=spec.deadlines.selection_s),
    )


def vocabulary_of(prepared: PreparedTask) -> Vocabulary | None:
    """The vocabulary of a next-word model that was counted in the data; None for a public one and for other models."""
    model = prepared.model
    return model.vocabulary if isinstance(model, NextWord) and prepared.spec.model.vocabulary == "data" else None


def simulation_seed(run: Run) -> int:
    """The run's seed, or the one that was drawn for it when it was registered."""
    seed = run.settings["seed"]
    return int(run.settings["drawn_seed"] if seed is None else seed)


def noise_seed(run: Run) -> bytes | None:
    """What seeds the devices' rounding and noise, if the run's noise is seeded."""
    seed = run.settings["noise_seed"]
    return None if seed is None else seeded_key(int(seed), run.id + " devices").secret
