"""A whole run on TensorFlow Federated: checks, registers, plays, and says in the report what that engine does not give."""

import hashlib
from collections.abc import Callable
from typing import Any, cast

from client_sim.data.loader import Loader
from contract import task
from contract.entropy import system_entropy
from contract.errors import Problem
from contract.task import TaskFormError, TaskSpec
from server import registration, tasks
from server.distributed_mechanism import DistributedMechanism, lanes
from server.faults import no_faults
from server.registration import RunSettings
from server.tasks import PreparedTask
from tutti import stores
from tutti.disclosures import disclosures, not_covered, vocabulary
from tutti.engines import process, tff_plans
from tutti.engines.tff import TffRounds
from tutti.playing import Progress, play
from tutti.secure_simulation import IdealSum
from tutti.simulation import Engine

WEIGHTED = "tff-weighted"
ENGINES = ("tff", WEIGHTED)


def run(
    spec: TaskSpec,
    loader: Loader,
    *,
    engine: str,
    seed: int | None = None,
    seed_noise: int | None = None,
    store: str = ".tutti",
    progress: Progress,
    tell: Callable[[str], None] = lambda _: None,
    approved: bool = False,
) -> dict[str, Any]:
    """Trains a task on TensorFlow Federated; the run's object.

    Args:
      engine: `tff`, or `tff-weighted` for updates weighed by their examples, without a mechanism only.
      seed_noise: trees only; nothing else of TFF's noise can be seeded.
      tell: is told what takes long before the run begins.

    Raises:
      TaskFormError: for what TFF cannot do.
      TuttiError: ENGINE_MISSING, with the command, if its environment cannot be made.
    """
    weighted = engine == WEIGHTED
    _refuse(spec, weighted=weighted, seed_noise=seed_noise)
    prepared = _prepared(spec, loader)
    plan = _planned(prepared, weighted=weighted, seed_noise=seed_noise)
    with process.start(tell) as started:
        versions = started.call("versions")[0]
        name = " ".join(f"{part} {versions[part]}" for part in ("tensorflow-federated", "tensorflow-privacy"))
        tell(f"building the task's learning process in {name}")
        mechanism, model = prepared.mechanism, prepared.model
        rounds = TffRounds(started, spec=prepared.spec, model=model, plan=plan, loader=loader, base=mechanism)
        # From here on the mechanism and the optimiser of the task are TFF's.
        theirs = PreparedTask(
            spec=prepared.spec, model=model, mechanism=cast(Any, rounds.mechanism), optimizer=cast(Any, rounds.optimizer)
        )
        settings = RunSettings(
            seed=seed,
            noise_seed=seed_noise,
            data=spec.data.source,
            data_digest=loader.digest,
            drawn_seed=int.from_bytes(system_entropy(6), "big"),
            engine=name,
        )
        with stores.opened(store) as (database, keys):
            registered = registration.register(
                store=database,
                keys=keys,
                prepared=theirs,
                settings=settings,
                not_covered=[*not_covered(prepared.spec), *not_accounted(prepared.spec), *disclosures(loader)],
                start=model.init(0),
                approved=approved,
            )
            secure = IdealSum(rounds, lanes(mechanism.vectors)) if isinstance(mechanism, DistributedMechanism) else None
            return play(
                database, keys, registered, theirs, loader, workers=0, progress=progress, faults=no_faults,
                directory=stores.directory(store), engine=Engine(executor=rounds, secure=secure),
            )  # fmt: skip


def not_accounted(spec: TaskSpec) -> list[str]:
    """What TensorFlow Federated leaves out of its accounting and ours cannot put in, in plain words."""
    found: list[str] = []
    if spec.privacy.mechanism != "none":
        found.append(
            "that TensorFlow Federated clips, noises and adds in floating point, from a generator that is not cryptographic: the "
            "stated cost is that of the ideal mechanism with its numbers, and TensorFlow Federated itself records none"
        )
    if spec.privacy.mechanism == "skellam":
        found.append("that it seeds a device's Skellam noise by the clock's microseconds")
    if spec.privacy.adaptive_clip is not None:
        found.append("that it seeds the noise on the clipping bits by the clock")
    if spec.aggregation.secure:
        found.append("what secure aggregation would have hidden: TensorFlow Federated's simulation adds in the clear")
    return found


def _refuse(spec: TaskSpec, *, weighted: bool, seed_noise: int | None) -> None:
    found = tff_plans.problems(spec, weighted=weighted)
    if seed_noise is not None and spec.privacy.mechanism not in ("none", "tree"):
        cure = "Leave --seed-noise out, or use our own engine."
        found.append(Problem("privacy.mechanism", f"the engine tff draws {spec.privacy.mechanism}'s noise from no seed", cure))
    if found:
        raise TaskFormError(tuple(found))


def _prepared(spec: TaskSpec, loader: Loader) -> PreparedTask:
    """The task as our own engine would run it, but for a clip norm that moves: that is TFF's affair."""
    plain = task.replace(spec, privacy={"adaptive_clip": None})
    prepared = tasks.prepare(plain, vocabulary(plain, loader))
    adaptive = task.to_mapping(spec)["privacy"]["adaptive_clip"]
    restored = task.replace(prepared.spec, privacy={"adaptive_clip": adaptive})
    return PreparedTask(spec=restored, model=prepared.model, mechanism=prepared.mechanism, optimizer=prepared.optimizer)


def _planned(prepared: PreparedTask, *, weighted: bool, seed_noise: int | None) -> tff_plans.TffPlan:
    drawn = system_entropy(8) if seed_noise is None else hashlib.sha256(f"tff noise {seed_noise}".encode()).digest()[:8]
    try:
        return tff_plans.plan(
            prepared.spec,
            dimension=prepared.model.num_parameters,
            weighted=weighted,
            noise_seed=int.from_bytes(drawn, "big") >> 1,
        )
    except ValueError as error:
        raise TaskFormError((Problem("privacy", str(error), "Correct the value that is named."),)) from None
