"""Rounds under virtual time: devices wake, check in, train and report as arrays of times, against a round server.

Only updates that the server will take are trained. Nothing in here waits: a day of rounds takes as long as its training.
"""

from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from client_sim.check_ins import CheckIns, Selection
from client_sim.executor import Beginning, Executor, Job, SecureAggregation, Updates, begun
from client_sim.faults import SLOW_S, FaultKind, faulty
from client_sim.fleet_options import FleetOptions, wake_interval
from client_sim.journal import FleetJournal, FleetState
from client_sim.oracle import ParticipationOracle
from client_sim.population import DevicePopulation
from client_sim.records import ParticipationRecords
from client_sim.session_shapes import Ending, count_shapes
from client_sim.timing import Phase, roster, timeline
from contract.errors import TuttiError
from contract.simulation import Contribution, RoundPosition, RoundWork, SimulatedServer

__all__ = ["FleetOptions", "FleetSimulator", "RoundTrace", "wake_interval"]
Time = TypeVar("Time", float, npt.NDArray[np.float64])


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundTrace:
    """What happened in one attempt at a round, for progress, charts and tests; `facts` is what the server said of it."""

    position: RoundPosition
    started_s: float
    closed_s: float
    cohort: int
    accepted: int
    shapes: Mapping[str, int]
    metrics: Mapping[str, float]
    """Means over the accepted devices."""
    facts: Mapping[str, object]


class FleetSimulator:
    """Drives `server` with the devices of `population`, round after round.

    Args:
      records: the devices' own; they decide who asks for a task.
      num_examples: int64 devices of shape (n,) and a time -> how many examples each then has in its cache, int64 of shape (n,).
      executor: who trains.
      secure: what sums the updates of rounds with a roster.
      journal: keeps the fleet's state at the start of each round, so that a run that was stopped goes on as if it had not been.
    """

    def __init__(
        self,
        *,
        server: SimulatedServer,
        population: DevicePopulation,
        records: ParticipationRecords,
        num_examples: Callable[[npt.NDArray[np.int64], float], npt.NDArray[np.int64]],
        executor: Executor,
        options: FleetOptions,
        oracle: ParticipationOracle | None = None,
        journal: FleetJournal | None = None,
        secure: SecureAggregation | None = None,
    ) -> None:
        if records.num_devices != population.size:
            raise ValueError(f"{records.num_devices} records do not fit a population of {population.size}")
        self.now_s = 0.0
        self.oracle = oracle
        self._server = server
        self._population = population
        self._records = records
        self._num_examples = num_examples
        self._executor = executor
        self._meanwhile = isinstance(executor, Beginning)
        self._options = options
        self._journal = journal
        self._secure = secure
        self._lost = np.empty(0, np.int8)
        self._origin_s: float | None = None
        self._check_ins = CheckIns(server=server, population=population, records=records, options=options)

    def rounds(self) -> Iterator[RoundTrace]:
        """Plays rounds until the server says that the run is over, giving each when its outcome is committed.

        That may be while the next round is being trained. Who stops asking then gives that training up; nothing of it was charged.

        Raises:
          TuttiError: if the journal does not hold the round at which the server stands.
        """
        before: RoundTrace | None = None
        while True:
            try:
                position = self._server.position()
            except TuttiError:
                self._server.settle()
                if before is not None:
                    yield before
                raise
            if position is None:
                break
            if self._origin_s is None:
                self._restore(position)
            before = yield from self._play(position, before)
        if before is not None:
            yield before

    def _play(self, position: RoundPosition, before: RoundTrace | None) -> Generator[RoundTrace, None, RoundTrace]:
        """Plays one attempt at the round in `position`, and gives the one `before` on the way."""
        work, training, secure = None, None, position.roster_size is not None
        try:
            selection, start_s = self._select(position)
            cohort = selection.cohort
            collected, metrics = _Collected.nothing(start_s), dict[str, float]()
            work = self._server.start(self._server_time(start_s))
            if work is not None:
                collected = self._collect(position, cohort, start_s)
                if secure:
                    with self._records.together():
                        self._charge(position, collected)
                training = self._training(position, work, cohort, collected, start_s)
        finally:
            self._server.settle()
        if before is not None:
            yield before
        if not secure:  # training tells the fleet nothing more
            self._records.hold_back()
            self._charge(position, collected)
            self._conclude(position, cohort, collected, released=work is not None)
        shapes = count_shapes(collected.endings, turned_away=selection.turned_away, not_eligible=selection.not_eligible)
        if training is not None:
            metrics = training()
        if secure:
            self._conclude(position, cohort, collected, released=work is not None)
        return RoundTrace(
            position=position,
            started_s=start_s,
            closed_s=collected.closed_s,
            cohort=len(cohort),
            accepted=len(collected.accepted),
            shapes=shapes,
            metrics=metrics,
            facts=self._server.finish(self._server_time(collected.closed_s), settled=not self._meanwhile),
        )

    def _conclude(
        self, position: RoundPosition, cohort: npt.NDArray[np.int64], collected: "_Collected", *, released: bool
    ) -> None:
        """What the fleet is after the round, in memory and on disk; `released` unless it was given up before it began.

        This is after the server has settled the round before, and before it is told the sum. Whichever round it stands at after a
        crash, the journal then holds the fleet's state for it; and the records on disk know of every update that the server has.
        """
        if released and self.oracle is not None:
            self.oracle.observe(position.leaf, collected.accepted)
        self.now_s = collected.closed_s
        if position.sampled is None:  # a sampled cohort was never taken from the wheel
            self._check_ins.sleep(cohort, np.full(len(cohort), self.now_s))
        if self._journal is None:
            self._records.write()
        else:
            self._journal.save(position.round_index + 1, self._state(), records=self._records)
        self._check_ins.put_in_order()

    def _select(self, position: RoundPosition) -> tuple[Selection, float]:
        """The round's cohort, and when it is complete or the wait for it over."""
        opened_s, deadline_s = self._own_time(position.opened_s), self._own_time(position.deadline_s)
        if position.sampled is not None:
            return self._check_ins.sample(position, opened_s=opened_s), opened_s
        selection = self._check_ins.select(position, opened_s=opened_s, deadline_s=deadline_s)
        return selection, selection.last_accepted_s if selection.num_accepted >= position.cohort_target else deadline_s

    def _charge(self, position: RoundPosition, collected: "_Collected") -> None:
        self._records.charge(collected.uploading, position.leaf)
        # The server refused to open these uploads, so no chunk was sent.
        self._records.refund(collected.refused, position.leaf)

    def _collect(self, position: RoundPosition, cohort: npt.NDArray[np.int64], start_s: float) -> "_Collected":
        """How each device of the cohort ends, and when the round closes."""
        options, index = self._options, position.round_index
        times = timeline(
            self._population,
            cohort,
            examples=np.minimum(self._num_examples(cohort, start_s), options.examples_per_round),
            start_s=start_s,
            draw=int(start_s * 1000),
            effort=options.effort,
            loss=options.loss,
        )
        slow = np.where(faulty(options.faults, FaultKind.SLOW, index, cohort), SLOW_S, 0.0)
        trained_s, uploaded_s = times.trained_s + slow, times.uploaded_s + slow
        silent = faulty(options.faults, FaultKind.SILENT, index, cohort) | faulty(
            options.faults, FaultKind.CRASHING, index, cohort
        )
        lost = np.where(silent, np.int8(Phase.TRAINING), times.lost)
        lies = faulty(options.faults, FaultKind.LYING, index, cohort)
        on_roster = roster(position.roster_size, times.downloaded_s, lost)
        starts_upload = (lost >= Phase.UPLOAD) & on_roster
        reporting = np.flatnonzero((lost == Phase.FINISHED) & ~lies & on_roster)
        reporting = reporting[np.lexsort((reporting, uploaded_s[reporting]))]
        closed_s = self._own_time(self._server.reporting_deadline_s())
        if position.roster_size is not None and self._secure is not None:
            window_s = self._secure.input_window_s(uploaded_s[reporting] - start_s, int(np.count_nonzero(on_roster)))
            closed_s = closed_s if window_s is None else min(closed_s, start_s + window_s)
            reporting = reporting[uploaded_s[reporting] <= closed_s]
        taken = self._server.report(self._server_time(uploaded_s[reporting]))
        # As the server's machine: nobody is waited for once the goal is reached, or everybody has reported.
        if taken.any() and int(np.count_nonzero(taken)) >= min(position.report_goal, len(cohort)):
            closed_s = float(uploaded_s[reporting[taken]][-1])
        endings = np.full(len(cohort), Ending.LATE, np.int8)
        endings[lies] = Ending.REFUSED
        endings[lost == Phase.DOWNLOAD] = Ending.LOST_DOWNLOADING
        endings[lost == Phase.TRAINING] = Ending.LOST_TRAINING
        endings[lost == Phase.UPLOAD] = Ending.LOST_UPLOADING
        endings[~on_roster & (lost > Phase.DOWNLOAD)] = Ending.LATE
        endings[reporting[taken]] = Ending.ACCEPTED
        self._lost = np.where(on_roster, lost, np.int8(Phase.DOWNLOAD))
        return _Collected(
            closed_s=closed_s,
            endings=endings,
            accepted=cohort[endings == Ending.ACCEPTED],
            uploading=cohort[starts_upload],
            refused=cohort[starts_upload & (trained_s >= closed_s)],
        )

    def _training(
        self,
        position: RoundPosition,
        work: RoundWork,
        cohort: npt.NDArray[np.int64],
        collected: "_Collected",
        start_s: float,
    ) -> Callable[[], dict[str, float]] | None:
        """Begins with the training where that goes on by itself; what is given contributes the sum and tells the metrics."""
        accepted = collected.accepted
        if len(accepted) == 0:
            return None
        job = Job(
            plan=work.plan,
            parameters=work.parameters,
            devices=accepted,
            order_seed=self._options.seed,
            noise_seed=self._options.noise_seed,
            at_s=start_s,
        )
        if position.roster_size is not None:
            return partial(self._seal, job, accepted, cohort)
        return partial(self._contribute, begun(self._executor, job))

    def _contribute(self, wait: Callable[[], Updates]) -> dict[str, float]:
        updates = wait()
        sums = {name: float(values.sum()) for name, values in updates.metrics.items()}
        self._server.contribute(Contribution(total=updates.total, count=updates.count, metrics=sums))
        return {name: value / updates.count for name, value in sums.items()}

    def _seal(self, job: Job, accepted: npt.NDArray[np.int64], cohort: npt.NDArray[np.int64]) -> dict[str, float]:
        if self._secure is None:
            raise ValueError("a secure round needs a secure aggregation to go through")
        member = self._lost > Phase.DOWNLOAD
        leaves = {
            int(device): Phase(int(phase))
            for device, phase in zip(cohort[member], self._lost[member], strict=True)
            if phase < Phase.FINISHED
        }
        sealed = self._secure.run(replace(job, devices=cohort[member]), survivors=accepted, leaves=leaves)
        self._server.contribute(sealed)
        return {name: value / max(1, sealed.count) for name, value in sealed.metrics.items()}

    def _server_time(self, times_s: Time) -> Time:
        # A server that was started again counts from 0; the fleet goes on where it was.
        return times_s - (self._origin_s or 0.0)

    def _own_time(self, time_s: float) -> float:
        return time_s + (self._origin_s or 0.0)

    def _state(self) -> FleetState:
        oracle = b"" if self.oracle is None else self.oracle.dump()
        windows = b"" if self._secure is None else self._secure.dump()
        records = self._records.snapshot()
        return FleetState(now_s=self.now_s, wakes_s=self._check_ins.wakes_s, records=records, oracle=oracle, windows=windows)

    def _restore(self, position: RoundPosition) -> None:
        state = None if self._journal is None else self._journal.load(position.round_index)
        if state is None:
            self._origin_s = 0.0
            if self._journal is not None:
                self._journal.save(position.round_index, self._state())
            return
        self.now_s = state.now_s
        self._origin_s = self._check_ins.origin_s = state.now_s - position.opened_s
        self._records.restore(state.records)
        if self.oracle is not None:
            self.oracle.load(state.oracle)
        if self._secure is not None and state.windows:
            self._secure.load(state.windows)
        self._check_ins.restore(state.wakes_s)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Collected:
    """How a collection ended: when, how each device of the cohort did (`Ending`, int8 of shape (n,)), and which devices were accepted,
    began to upload, and of these were refused before the first chunk.
    """

    closed_s: float
    endings: npt.NDArray[np.int8]
    accepted: npt.NDArray[np.int64]
    uploading: npt.NDArray[np.int64]
    refused: npt.NDArray[np.int64]

    @classmethod
    def nothing(cls, at_s: float) -> "_Collected":
        """Of a round that did not begin."""
        nobody = np.empty(0, np.int64)
        return cls(closed_s=at_s, endings=np.empty(0, np.int8), accepted=nobody, uploading=nobody, refused=nobody)
