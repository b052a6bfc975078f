"""What a task's mechanism does in a round, for the orchestrator: plan for devices, noise, decoding, events."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from contract import canonical, task
from contract import plan as plans
from contract.canonical import Json
from contract.task import TaskSpec
from privacy import central, events
from privacy.grid import Grid


class Mechanism(Protocol):
    """What the orchestrator asks of a mechanism. A *history* has one number for each leaf so far: the contributions in its sum, or,
    where a leaf was charged without an outcome, the fewest that were promised.
    """

    @property
    def private(self) -> bool:
        """Whether anything is promised."""
        ...

    @property
    def sum_length(self) -> int:
        """Length of the integer sums."""
        ...

    @property
    def redrawable(self) -> bool:
        """Whether a charged round may be played again for the same sum (noise by counter) or uses up its leaf (noise on devices)."""
        ...

    def event(self, leaves: int) -> dict[str, Json]:
        """What `leaves` rounds cost at worst, as it stands in entries."""
        ...

    def events(self, history: Sequence[int]) -> dict[str, dict[str, Json]]:
        """The claims after these leaves: `event`, and `colluding` where there is a second one, as they stand in entries."""
        ...

    def noise(self, secret: bytes, *, released: int) -> "LeafNoise":
        """The server's noise from leaf `released` on."""
        ...

    def decode(self, total: NDArray[np.int64], *, count: int, seed: bytes) -> tuple[NDArray[np.float64], dict[str, float]]:
        """The noised sum of updates, float64 of shape (d,), and federated metrics that were in the same sums.

        `seed` is the round's public rotation seed (contract.plan).
        """
        ...

    def denominator(self, count: int) -> float:
        """What the sum of updates is divided by."""
        ...

    def plan_bytes(
        self, *, spec: TaskSpec, run: str, round_index: int, leaf: int, model_digest: str, ledger_checkpoint: str
    ) -> bytes:
        """What every device of a round is told."""
        ...


class LeafNoise:
    """Noise increments of a stream, summed over leaves that were charged but never released."""

    def __init__(self, following: Callable[[], NDArray[np.int64]], *, next_leaf: int) -> None:
        self._following, self._next_leaf = following, next_leaf

    def through(self, leaf: int) -> NDArray[np.int64]:
        """The noise between the last released leaf and `leaf`, int64, shape (d,).

        Raises:
          ValueError: if the leaf was released before: noise is never used twice.
        """
        if leaf < self._next_leaf:
            raise ValueError(f"leaf {leaf} was released before; the next one is {self._next_leaf}")
        total = self._following()
        for _ in range(leaf - self._next_leaf):
            total = total + self._following()
        self._next_leaf = leaf + 1
        return total


@dataclass(frozen=True, slots=True)
class CentralMechanism:
    """Integers on a public grid, noised by the server (or not at all, for mechanism `none`)."""

    plan: central.CentralPlan
    report_goal: int
    outputs: tuple[plans.Output, ...] = field(default=())

    @property
    def private(self) -> bool:
        """Whether anything is promised."""
        return self.plan.mechanism != "none" and self.plan.noise_multiplier > 0

    @property
    def sum_length(self) -> int:
        """d."""
        return self.plan.grid.dimension

    @property
    def redrawable(self) -> bool:
        """Yes: the same noise for the same sum."""
        return True

    def event(self, leaves: int) -> dict[str, Json]:
        """The cumulative event through `leaves` releases, as it stands in entries."""
        return events.to_json(self.plan.event(leaves))

    def events(self, history: Sequence[int]) -> dict[str, dict[str, Json]]:
        """One claim, which does not depend on who came."""
        return {"event": self.event(len(history))}

    def decode(self, total: NDArray[np.int64], *, count: int, seed: bytes) -> tuple[NDArray[np.float64], dict[str, float]]:
        """Grid units to the units of the parameters; no metrics leave the devices."""
        del count, seed
        return self.plan.grid.decode(total), {}

    def denominator(self, count: int) -> float:
        """The report goal under DP (fixed beforehand), else the devices there were."""
        return float(self.report_goal if self.private else count)

    def noise(self, secret: bytes, *, released: int) -> LeafNoise:
        """The noise stream of a run from leaf `released` on."""
        stream = self.plan.stream(secret, first_leaf=released)
        return LeafNoise(stream.next, next_leaf=released)

    def plan_bytes(
        self, *, spec: TaskSpec, run: str, round_index: int, leaf: int, model_digest: str, ledger_checkpoint: str
    ) -> bytes:
        """What every device of a round is told."""
        del ledger_checkpoint
        return plans.encode(
            plans.Plan(
                task=task_facts(spec),
                run=run,
                round_index=round_index,
                leaf=leaf,
                model_digest=model_digest,
                encoding=grid_facts(self.plan.grid),
                outputs=self.outputs,
            )
        )


def grid_facts(grid: Grid) -> dict[str, Json]:
    """The public grid as devices are told it; floats are decimal strings."""
    facts = canonical.plain(grid)
    if not isinstance(facts, dict):
        raise ValueError("a grid is written as an object")
    return {"kind": "grid", **facts}


def task_facts(spec: TaskSpec) -> dict[str, Json]:
    """The part of a task that devices act on."""
    mapping = task.to_mapping(spec)
    return {key: mapping[key] for key in ("name", "population", "model", "training", "cohort")}
