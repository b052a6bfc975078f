"""Fleet and server agree when a round is over: a run that is resumed takes its time from the fleet."""

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from client_sim.executor import Job, Updates
from client_sim.population import make_population
from client_sim.records import ParticipationRecords
from client_sim.simulator import FleetOptions, FleetSimulator
from client_sim.timing import Effort, Loss
from contract import task
from server import registration, tasks
from server.orchestrator import Orchestrator
from server.pace import PaceSteering
from server.registration import RunSettings
from tutti import stores

GAUSSIAN: dict[str, Any] = {"mechanism": "gaussian", "clip_norm": 0.5, "noise_multiplier": 1.0, "delta": 1e-5}
POISSON: dict[str, Any] = {"cohort": {"report_goal": 2}, "privacy": {**GAUSSIAN, "sampling": "poisson", "sampling_rate": 0.1}}
HALF_FULL: dict[str, Any] = {
    "cohort": {"report_goal": 30, "minimum_reports": 1, "over_selection": 1.0},
    "privacy": GAUSSIAN,
}
SELDOM = Loss(download=0.0, training=0.03, upload=0.0)


class Zeros:
    """Everybody's update is zero."""

    def __init__(self, length: int) -> None:
        self._length = length

    def run(self, job: Job) -> Updates:
        count = len(job.devices)
        return Updates(total=np.zeros(self._length, np.int64), count=count, metrics={}, norms_squared=np.zeros(count, np.int64))

    def close(self) -> None: ...


@pytest.mark.parametrize("part", [POISSON, HALF_FULL], ids=["poisson", "a cohort below its goal"])
def test_a_round_to_which_all_have_reported_is_over_for_both(tmp_path: Path, part: dict[str, Any]) -> None:
    prepared = tasks.prepare(task.parse_mapping({"population": "p", "model": {"name": "mlp"}, "rounds": 12, **part}))
    with stores.opened(str(tmp_path)) as (store, keys):
        run = registration.register(
            store=store,
            keys=keys,
            prepared=prepared,
            settings=RunSettings(noise_seed=3),
            not_covered=[],
            start=prepared.model.init(0),
        )
        server = Orchestrator(
            store=store,
            run=run,
            mechanism=prepared.mechanism,
            optimizer=prepared.optimizer,
            key=registration.key_of(keys, run),
            pace=PaceSteering(devices=20, cohort=4, round_s=60.0),
            keys=keys,
        )
        traces = list(_fleet(server, prepared.mechanism.sum_length).rounds())
    assert any(trace.accepted == trace.cohort > 0 for trace in traces)
    for trace, following in pairwise(traces):
        assert trace.closed_s == following.position.opened_s


def _fleet(server: Orchestrator, length: int) -> FleetSimulator:
    effort = Effort(seconds_per_example=0.1, download_bytes=1, upload_bytes=1)
    return FleetSimulator(
        server=server,
        population=make_population(20, 3),
        records=ParticipationRecords(num_devices=20),
        num_examples=lambda devices, _: np.full(len(devices), 20),
        executor=Zeros(length),
        options=FleetOptions(seed=1, effort=effort, diurnal=False, wake_interval_s=300.0, loss=SELDOM),
    )
