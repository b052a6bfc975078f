"""A server whose devices are made up, in a process that can be killed: `python stubbed_server.py` takes one JSON order a line.

Everything is imported once; each order is carried out by a fork, which is killed at a named fault point or after some time. What the fork
reveals it first writes to a witness file, so that the test can hold the store against it.
"""

import json
import os
import signal
import sys
import time
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from contract import canonical, task
from contract.errors import TuttiError
from contract.simulation import Contribution
from privacy import central
from privacy.ledger import entries
from server.faults import FaultPoint
from server.keys import KeyDirectory, seeded_key
from server.mechanisms import CentralMechanism
from server.orchestrator import Orchestrator
from server.pace import PaceSteering
from server.store.store import Store, parameters_digest
from server.store.values import Run, RunState, StoredModel

DIMENSION, GOAL = 8, 4


def spec_of(rounds: int) -> task.TaskSpec:
    return task.parse_mapping(
        {
            "population": "p", "model": {"name": "mlp"}, "cohort": {"report_goal": GOAL, "minimum_reports": GOAL}, "rounds": rounds,
            "privacy": {"mechanism": "tree", "clip_norm": 1.0, "noise_multiplier": 3.0, "delta": 1e-6},
        }
    )  # fmt: skip


def mechanism_of(spec: task.TaskSpec) -> CentralMechanism:
    plan = central.plan(
        mechanism="tree", dimension=DIMENSION, clip_norm=1.0, noise_multiplier=3.0, rounds=spec.rounds, minimum_separation=0
    )
    return CentralMechanism(plan=plan, report_goal=GOAL)


class Steps:
    """The optimiser: adds the mean."""

    def update(self, mean: Any, state: Mapping[str, Any], params: Any) -> tuple[Any, Mapping[str, Any]]:
        return params + mean, state


def going_on(store: Store, keys: KeyDirectory, spec: task.TaskSpec) -> Run:
    """The run that is not over, or a new one."""
    unfinished = [run for run in store.runs() if run.state is RunState.RUNNING and run.spec == spec]
    if unfinished:
        return unfinished[-1]
    name, ordinal = store.next_run_id(spec)
    key = seeded_key(7, "stub")  # the record does not say so: known noise has no price, and a budget would admit no round
    if not (keys._directory / f"{name}.key").exists():
        keys.create(name, key)
    start = np.zeros(DIMENSION, np.float32)
    digest = parameters_digest(start.tobytes())
    body = canonical.plain(spec)
    entry = entries.run_registered(
        population="p", run=name, task=body, task_digest=spec.digest, code_digest="c", seeded=("simulation",),
        planned=mechanism_of(spec).event(spec.rounds),
        facts={"unit": "device", "adjacency": "zero-out", "not_covered": [], "start_digest": digest},
    )  # fmt: skip
    model = StoredModel(run=name, round=0, digest=digest, parameters=start, optimizer={}, entry=None)
    return store.register_run(
        spec=spec, ordinal=ordinal, settings={"seed": 1, "noise_seed": None}, entry=entry, start=model, noise_key_id=key.id
    )


def play(order: Mapping[str, Any]) -> str:
    """Plays a run to its end (or until a hook kills this process); the digest of its last model."""
    folder, spec = Path(order["folder"]), spec_of(order["rounds"])
    store, keys = Store.open(order["store"]), KeyDirectory(folder / "keys")
    run = going_on(store, keys, spec)
    witness = (folder / "witness").open("a", buffering=1)
    total = np.zeros(DIMENSION, np.int64)
    leaf = 0

    def hook(point: FaultPoint, index: int) -> None:
        if point is FaultPoint.AFTER_NOISE:
            witness.write(f"noise {run.id} {leaf} {sha256(total.tobytes()).hexdigest()}\n")
        elif point is FaultPoint.BEFORE_PUBLISH:
            witness.write(f"model {run.id} {index} {store.model(run.id).digest}\n")
        if order.get("point") == point.value and index == order.get("round"):
            os.kill(os.getpid(), signal.SIGKILL)

    rounds = Orchestrator(
        store=store, run=run, mechanism=mechanism_of(spec), optimizer=Steps(), key=keys.read(run.id),
        pace=PaceSteering(devices=100, cohort=GOAL, round_s=60.0), faults=hook,
    )  # fmt: skip
    now = 0.0
    while (position := rounds.position()) is not None:
        now, leaf = now + 1.0, position.leaf
        total = np.full(DIMENSION, 1000 * leaf + order.get("salt", 0), np.int64)
        rounds.check_in(np.full(position.cohort_target, now))
        rounds.start(now)
        rounds.report(np.full(GOAL, now))
        rounds.settle()
        rounds.contribute(Contribution(total=total, count=GOAL, metrics={}))
        rounds.finish(now, settled=not order.get("later", False))
    digest = store.model(run.id).digest
    store.close()
    return digest


def carry_out(order: Mapping[str, Any]) -> dict[str, Any]:
    """One order in a fork of its own."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        try:
            os.write(writing, play(order).encode())
        except TuttiError as error:
            os.write(writing, f"error {error}".encode())
        os._exit(0)
    os.close(writing)
    if "after_s" in order:
        time.sleep(order["after_s"])
        os.kill(child, signal.SIGKILL)
    with os.fdopen(reading) as pipe:
        said = pipe.read()
    _, status = os.waitpid(child, 0)
    return {"said": said, "killed": os.WIFSIGNALED(status)}


def main() -> None:
    mechanism_of(spec_of(2)).noise(bytes(32), released=0).through(1)  # tables are made before the forks
    with TemporaryDirectory() as folder:
        Store.open(folder).close()  # and migrations are read
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    for line in sys.stdin:
        sys.stdout.write(json.dumps(carry_out(json.loads(line))) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
