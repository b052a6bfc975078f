"""Runs the rounds of one run: steps the pure machine and performs its effects on the store, the noise and the model.

It is the one place where a round's state, the sum in memory and the database meet. It knows no transport: the virtual-time fleet
calls it with arrays (`contract.simulation.SimulatedServer`), the gRPC service with one device at a time.
"""

import hmac
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from contract import plan
from contract.errors import ErrorCode, TuttiError
from contract.messages import RetryWindow
from contract.simulation import UNSIGNED, Contribution, RoundPosition, RoundWork, SealedContribution, Transcripts
from privacy import poisson
from server.faults import FaultHook, FaultPoint, no_faults
from server.keys import KeyDirectory, NoiseKey
from server.mechanisms import Mechanism
from server.pace import PaceSteering
from server.recorder import RoundRecorder, charged_without_outcome, last_released_leaf, sum_seal, survivors_by_leaf
from server.round_setup import MAX_BARREN_ROUNDS, facts_of, position_of
from server.rounds import machine, outcome
from server.rounds.states import (
    Abandoned,
    AbandonReason,
    Aggregating,
    Charged,
    CheckedIn,
    Collecting,
    Committed,
    Completed,
    Configured,
    Configuring,
    DeadlinePassed,
    Event,
    Failed,
    Lost,
    Reported,
    RoundFacts,
    Selecting,
    State,
)
from server.store.store import Store
from server.store.values import Run, RunState


class Orchestrator:
    """The rounds of one run, one after another."""

    def __init__(
        self,
        *,
        store: Store,
        run: Run,
        mechanism: Mechanism,
        optimizer: outcome.Optimizer,
        key: NoiseKey,
        pace: PaceSteering,
        faults: FaultHook = no_faults,
        keys: KeyDirectory | None = None,
    ) -> None:
        self._store, self._optimizer, self._key, self._faults = store, optimizer, key, faults
        self._run, self._spec, self._pace, self._keys = run, run.spec, pace, keys
        self._model = store.model(run.id)
        history = store.rounds(run.id)
        self._interrupted = charged_without_outcome(history)
        self._history = survivors_by_leaf(history, floor=run.spec.fewest_contributions)
        self._noise = mechanism.noise(key.secret, released=last_released_leaf(history) + 1)
        self._recorder = RoundRecorder(store, run, mechanism)
        self._mechanism = mechanism.restored(self._recorder.tuned()) if mechanism.tuned else mechanism
        self._next_round, self._next_leaf, self._barren = run.next_round, run.next_leaf, 0
        self._state: State | None = None
        self._total: NDArray[np.int64] | None = None
        self._seal: str | None = None
        self._sealed: SealedContribution | None = None
        self._count, self._opened_s, self._now_s = 0, 0.0, 0.0
        self._metrics: dict[str, float] = {}
        self._plan: bytes | None = None

    # -- the port of a simulated fleet -----------------------------------------------------------------------------------------

    def position(self) -> RoundPosition | None:
        """The round now selecting (a new one is begun if the last is over), or None when the run is over.

        Raises:
          TuttiError: BUDGET_EXCEEDED before a round that does not fit; TOO_FEW_DEVICES after too many abandoned ones.
        """
        if self._state is None or isinstance(self._state, Completed | Abandoned):
            if self._next_leaf >= self._spec.rounds:
                self.settle()
                return None
            if self._barren >= MAX_BARREN_ROUNDS:
                self._store.set_run_state(self._run.id, RunState.FAILED)
                reason = self._state.reason.value if isinstance(self._state, Abandoned) else "unknown"
                raise TuttiError(
                    ErrorCode.TOO_FEW_DEVICES, f"{self._barren} rounds in a row were abandoned, the last for {reason}"
                )
            self._require_budget()
            self._begin()
        facts = self._facts()
        return position_of(self._run.id, self._spec, facts, opened_s=self._opened_s, sampled=self._sampled(facts.leaf))

    def check_in(self, times_s: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Accepts the first devices, until the cohort is full; a check-in after the deadline finds the door closed."""
        mask = np.zeros(len(times_s), dtype=np.bool_)
        state = self._state
        if not isinstance(state, Selecting) or not len(times_s):
            return mask
        timely = int(np.searchsorted(times_s, state.deadline_s, side="right"))
        admitted = min(timely, state.facts.cohort_target - state.accepted)
        if timely:
            self._apply(CheckedIn(timely, float(times_s[max(admitted, 1) - 1])))
        mask[:admitted] = True
        return mask

    def retry_window(self) -> RetryWindow:
        """When a device that was turned away should come back."""
        return self._pace.retry_window(now_s=self._now_s)

    def start(self, at_s: float) -> RoundWork | None:
        """Closes selection; the work of the cohort, or None if the round was abandoned (and `finish` records that)."""
        if isinstance(self._state, Selecting):
            self._apply(DeadlinePassed(at_s))
        if isinstance(self._state, Configuring):
            self._faults(FaultPoint.AFTER_CHECK_IN, self._facts().index)
            self._apply(Configured(self._state.cohort, at_s))
        if not isinstance(self._state, Collecting):
            return None
        return RoundWork(plan=self.plan_bytes(), parameters=self._model.parameters)

    def reporting_deadline_s(self) -> float:
        """When the round stops waiting for reports.

        Raises:
          ValueError: if no round is collecting.
        """
        if not isinstance(self._state, Collecting):
            raise ValueError(f"no round is collecting, but {type(self._state).__name__}")
        return self._state.deadline_s

    def report(self, times_s: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Takes the first reports until the goal is reached; later ones are late."""
        mask = np.zeros(len(times_s), dtype=np.bool_)
        state = self._state
        if not isinstance(state, Collecting) or not len(times_s):
            return mask
        timely = int(np.searchsorted(times_s, state.deadline_s, side="right"))
        taken = min(timely, state.facts.report_goal - state.reported)
        if timely:
            self._apply(Reported(timely, float(times_s[max(taken, 1) - 1])))
        mask[:taken] = True
        return mask

    def contribute(self, contribution: Contribution | SealedContribution) -> None:
        """Adds an exact integer sum, or takes the one that will be revealed after the charge; the order of arrival cannot matter.

        Raises:
          ValueError: if more is contributed than was reported, or the length is wrong.
        """
        if isinstance(contribution, SealedContribution):
            if self._count:
                raise ValueError("a sealed sum is a round's only contribution")
            self._sealed = contribution
        else:
            self._add(contribution.total)
        self._count += contribution.count
        if self._count > self._reported():
            raise ValueError(f"{self._count} contributions, but {self._reported()} reports were taken")
        for name, value in contribution.metrics.items():
            self._metrics[name] = self._metrics.get(name, 0.0) + value

    def finish(self, at_s: float, *, settled: bool = True) -> Mapping[str, Any]:
        """Charge, noise or unmasking, outcome, commit; the facts of the round. See `contract.simulation` for `settled`."""
        if self.close_and_charge(at_s):
            if (held := self._sealed) is not None:
                self._total = held.reveal()
            self._conclude(held and held.in_sum(), held.transcripts() if held else UNSIGNED)
        # The plan of a secure round names the record's head.
        return self.recorded() if settled or self._spec.aggregation.secure else self._round_facts()

    def settle(self) -> None:
        """Commits the outcome of the last round, if it is not on the record yet."""
        if not self._recorder.settled:
            index = self._next_round - 1
            self._faults(FaultPoint.BEFORE_COMMIT, index)
            self._recorder.settle()
            self._faults(FaultPoint.AFTER_COMMIT, index)
            self._faults(FaultPoint.BEFORE_PUBLISH, index)
        if isinstance(self._state, Collecting | Aggregating) and not self.charged:  # others train meanwhile
            self._noise.prepare()

    def close_and_charge(self, at_s: float) -> bool:
        """Ends collection and commits the charge; False if the round was abandoned. Only after True may anything be revealed."""
        if isinstance(self._state, Collecting):
            self._apply(DeadlinePassed(at_s))
        return isinstance(self._state, Aggregating) and self._charge(self._state)

    def conclude(self, total: NDArray[np.int64] | None, *, count: int | None = None, signed: Transcripts = UNSIGNED) -> None:
        """Releases a charged round: `total` is the revealed sum, None if it could not be unmasked; `count` if fewer are in it.

        Raises:
          ValueError: if the charge is not committed.
        """
        if not self.charged:
            raise ValueError(f"nothing may be revealed in {self._state}")
        self._total = total
        self._conclude(count, signed)
        self.settle()

    def _conclude(self, count: int | None, signed: Transcripts) -> None:
        self._count = self._count if count is None else min(self._count, count)
        if self._total is None:
            self._apply(Failed(AbandonReason.UNMASKING_FAILED))
        else:
            self._release(self._facts(), self._total, signed)

    def recorded(self) -> Mapping[str, Any]:
        """The facts of a round that is over, once they are on the record; an abandoned one is put there now.

        Raises:
          ValueError: if the round is not over.
        """
        self.settle()
        return self._round_facts()

    # -- one device at a time --------------------------------------------------------------------------------------------------

    @property
    def collecting(self) -> bool:
        """Whether uploads still count."""
        return isinstance(self._state, Collecting)

    def abandon(self, reason: AbandonReason) -> None:
        """Ends the round for a reason that the protocol inside it found; `recorded` puts that on the record."""
        if isinstance(self._state, Selecting | Configuring | Collecting | Aggregating):
            self._apply(Failed(reason))

    @property
    def charged(self) -> bool:
        """Whether the round's charge is committed and its outcome is not."""
        return isinstance(self._state, Aggregating) and self._state.charged

    def lose(self, count: int, at_s: float) -> None:
        """`count` devices of the cohort are known to be gone; a round that waits for nobody else closes."""
        if isinstance(self._state, Selecting | Configuring | Collecting):
            self._apply(Lost(count, at_s))

    def advance_to(self, now_s: float) -> None:
        """Time passes between rounds: the next one opens at `now_s`."""
        self._now_s = max(self._now_s, now_s)

    # -- the round's inside ------------------------------------------------------------------------------------------------------

    def plan_bytes(self) -> bytes:
        """The plan of the current round, the same for every device."""
        if self._plan is None:
            facts = self._facts()
            self._plan = self._mechanism.plan_bytes(
                spec=self._spec,
                run=self._run.id,
                round_index=facts.index,
                leaf=facts.leaf,
                model_digest=self._model.digest,
                ledger_checkpoint=self._store.tree_head().root().hex() if self._spec.aggregation.secure else "",
            )
        return self._plan

    def _require_budget(self) -> None:
        """Pauses the run before a round that the budget does not allow: no device works for nothing, and a raised budget lets it go on."""
        if self._interrupted is not None:
            return
        try:
            self._recorder.check_budget(history=(*self._history, self._spec.fewest_contributions))
        except TuttiError:
            self.settle()
            self._store.set_run_state(self._run.id, RunState.PAUSED)
            raise

    def _begin(self) -> None:
        begun = self._interrupted
        index, leaf = (self._next_round, self._next_leaf) if begun is None else (begun.index, begun.leaf)
        facts = facts_of(self._spec, index=index, leaf=leaf, attempt=self._barren)
        self._opened_s, self._total, self._sealed, self._count, self._metrics = self._now_s, None, None, 0, {}
        self._plan = self._seal = None
        if self._mechanism.sampling_rate is not None:  # a round for which nobody was drawn is released as any other
            self._total = np.zeros(self._mechanism.sum_length, dtype=np.int64)
        self._state, _ = machine.begin(facts, at_s=self._now_s, selection_s=self._spec.deadlines.selection_s)

    def _add(self, total: NDArray[np.int64]) -> None:
        if len(total) != self._mechanism.sum_length:
            raise ValueError(f"a sum of length {len(total)} where {self._mechanism.sum_length} is expected")
        if self._total is None:
            self._total = np.require(total, np.int64, requirements=["W"])
        else:
            self._total += total

    def _charge(self, state: Aggregating) -> bool:
        """Commits the charge; False if the round had to be abandoned. A charge that a crash left behind stands for the same sum only."""
        facts = state.facts
        # Devices may fall out of a secure round after their report was counted; what is charged in the end is who is in the sum.
        fewest = state.reported if self._sealed is None else facts.minimum_survivors
        if not fewest <= self._count <= state.reported or (self._total is None) == (self._sealed is None):
            self._apply(Failed(AbandonReason.INTERNAL))
            return False
        self._faults(FaultPoint.AFTER_COLLECTION, facts.index)
        seal = self._seal = None if self._total is None else sum_seal(self._key.secret, self._total, facts.leaf)
        if self._total is not None:
            self._total.setflags(write=False)  # what is released is what was sealed
        interrupted, self._interrupted = self._interrupted, None
        if interrupted is not None:
            self._apply(Charged())
            if seal is None or not hmac.compare_digest(interrupted.sum_seal or "", seal):
                self._apply(Failed(AbandonReason.INTERRUPTED))
                return False
            return True
        self._faults(FaultPoint.BEFORE_CHARGE, facts.index)
        try:
            self._recorder.charge(facts, history=(*self._history, facts.minimum_survivors), sum_seal=seal)
        except TuttiError as error:
            if error.code is not ErrorCode.BUDGET_EXCEEDED:
                raise
            self._apply(Failed(AbandonReason.BUDGET_EXCEEDED))
            return False
        self._apply(Charged())
        self._faults(FaultPoint.AFTER_CHARGE, facts.index)
        return True

    def _release(self, facts: RoundFacts, total: NDArray[np.int64], signed: Transcripts) -> None:
        leaf, seed = facts.leaf, plan.rotation_seed_of(self._run.id, facts.index)
        if self._keys is not None and self._mechanism.redrawable:
            self._keys.mark_release(self._run.id, leaf, self._seal or sum_seal(self._key.secret, total, leaf))
        noised = self._noise.added_to(total, leaf)
        del total  # vectors of a large model go as soon as they have served
        self._total = None
        self._faults(FaultPoint.AFTER_NOISE, facts.index)
        mechanism = self._mechanism.after(noised, count=self._count, seed=seed, leaf=leaf)
        summed, federated = self._mechanism.decode(noised, count=self._count, seed=seed)
        del noised
        mean = outcome.mean_of(summed, self._mechanism.denominator(self._count))
        del summed
        step = outcome.apply_update(
            mean, parameters=self._model.parameters, optimizer=self._optimizer, state=self._model.optimizer
        )
        means = {name: value / self._count for name, value in self._metrics.items()}
        self._metrics = {**means, **federated, "update_norm": step.update_norm}
        history = (*self._history, self._told())
        tuned = {name: one for name, one in mechanism.tuned.items() if one != self._mechanism.tuned[name]}
        self._model = self._recorder.decide(facts, step, history=history, facts=self._metrics, tuned=tuned, signed=signed)
        self._mechanism = mechanism
        self._apply(Committed())
        self._history, self._barren = history, 0
        self._next_round, self._next_leaf = facts.index + 1, leaf + 1

    def _record_abandoned(self, state: Abandoned) -> None:
        facts = state.facts
        # A charge that a crash left behind stays, also where the round that was played again did not come as far.
        leaf_used = state.leaf_used or self._interrupted is not None
        self._interrupted = None
        self._recorder.abandon(facts, reason=state.reason, leaf_used=leaf_used)
        if leaf_used:
            self._history = (*self._history, facts.minimum_survivors)
        self._barren += 1
        self._next_round, self._next_leaf = facts.index + 1, facts.leaf + int(leaf_used)

    def _sampled(self, leaf: int) -> Callable[[int], NDArray[np.bool_]] | None:
        rate = self._mechanism.sampling_rate
        return None if rate is None else lambda size: poisson.joins(self._key.secret, leaf=leaf, size=size, rate=rate)

    def _told(self) -> int:
        # The record names no number of contributions under Poisson sampling: it would tell who was drawn.
        return self._count if self._mechanism.sampling_rate is None else 0

    def _apply(self, event: Event) -> None:
        if self._state is None:
            raise ValueError(f"{type(event).__name__} before the first round")
        if isinstance(event, CheckedIn | DeadlinePassed | Configured | Reported | Lost):
            self._now_s = max(self._now_s, event.at_s)
        self._state, _ = machine.step(self._state, event)

    def _facts(self) -> RoundFacts:
        if self._state is None:
            raise ValueError("no round has begun")
        return self._state.facts

    def _reported(self) -> int:
        return self._state.reported if isinstance(self._state, Collecting | Aggregating) else 0

    def _round_facts(self) -> Mapping[str, Any]:
        if isinstance(state := self._state, Abandoned):
            self._record_abandoned(state)
            return {"round": state.facts.index, "leaf": state.facts.leaf, "state": "abandoned", "reason": state.reason.value}
        if not isinstance(state, Completed):
            raise ValueError(f"a round in {type(state).__name__} is not over")
        facts = state.facts
        return {"round": facts.index, "leaf": facts.leaf, "state": "committed", "reported": self._told(), **self._metrics}
