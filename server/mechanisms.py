"""What a task's mechanism does in a round, for the orchestrator: plan for devices, noise, decoding, events."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from contract import canonical, task
from contract import plan as plans
from contract.canonical import Json
from contract.task import TaskSpec
from privacy import central, events
from privacy.grid import Grid
from privacy.keystream import derive_key
from privacy.norm_tracking import NormTracking, bits_are_sound
from server.leaf_noise import LeafNoise
from server.tuned_parameters import Tuned, tracked


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

    @property
    def sampling_rate(self) -> float | None:
        """With Poisson sampling, the probability with which a device is in a round; else None: who comes first is in."""
        ...

    @property
    def tuned(self) -> Mapping[str, Tuned]:
        """The parameters that follow released sums, by name; empty where there are none."""
        ...

    def after(self, noised: NDArray[np.int64], *, count: int, seed: bytes, leaf: int) -> "Mechanism":
        """The mechanism of the next round: the same, but for the parameters in `tuned`, a function of the released sum."""
        ...

    def restored(self, values: Mapping[str, float]) -> "Mechanism":
        """The same with the parameters that the record holds."""
        ...

    def event(self, leaves: int) -> dict[str, Json]:
        """What `leaves` rounds cost at worst, as it stands in entries."""
        ...

    def events(self, history: Sequence[int]) -> dict[str, dict[str, Json]]:
        """The claims after these leaves: `event`, and `colluding` where there is a second one, as they stand in entries."""
        ...

    def noise(self, secret: bytes, *, released: int) -> LeafNoise:
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


@dataclass(frozen=True, slots=True)
class CentralMechanism:
    """Integers on a public grid, noised by the server (or not at all, for mechanism `none`).

    Args:
      tracking: norms that follow quantiles; the sums of their bits stand behind the update's coordinates.
    """

    plan: central.CentralPlan
    report_goal: int
    tracking: NormTracking | None = None

    @property
    def private(self) -> bool:
        """Whether anything is promised."""
        return self.plan.mechanism != "none" and self.plan.noise_multiplier > 0

    @property
    def sum_length(self) -> int:
        """d, and one coordinate for each sum of bits."""
        return self.plan.grid.dimension + len(self.bit_names)

    @property
    def bit_names(self) -> tuple[str, ...]:
        """The sums of bits that go with the update."""
        return () if self.tracking is None else self.tracking.names

    @property
    def redrawable(self) -> bool:
        """Yes: the same noise for the same sum."""
        return True

    @property
    def sampling_rate(self) -> float | None:
        """As the plan has it."""
        return self.plan.sampling_rate

    @property
    def tuned(self) -> Mapping[str, Tuned]:
        """The norms that follow quantiles."""
        return tracked(self.tracking)

    def accepts(self, vector: NDArray[np.int32]) -> bool:
        """Whether `vector`, int32 of shape (sum_length,), is a contribution that the accounting covers."""
        dimension = self.plan.grid.dimension
        return (
            vector.shape == (self.sum_length,)
            and self.plan.grid.accepts(vector[:dimension])
            and bits_are_sound(vector[dimension:])
        )

    def after(self, noised: NDArray[np.int64], *, count: int, seed: bytes, leaf: int) -> "CentralMechanism":
        """With the norms of the next round."""
        del seed
        if self.tracking is None:
            return self
        bits = dict(zip(self.bit_names, noised[self.plan.grid.dimension :].tolist(), strict=True))
        # Under add-or-remove the number of devices is itself private; the goal is fixed beforehand.
        devices = self.report_goal if self.sampling_rate is not None else count
        return replace(self, tracking=self.tracking.after(bits, devices=devices, leaf=leaf))

    def restored(self, values: Mapping[str, float]) -> "CentralMechanism":
        """With the norms that the record holds."""
        return self if self.tracking is None else replace(self, tracking=self.tracking.restored(values))

    def event(self, leaves: int) -> dict[str, Json]:
        """The cumulative event through `leaves` releases, as it stands in entries."""
        released = self.plan.event(leaves)
        if self.tracking is not None and isinstance(released, events.GaussianEvent | events.TreeEvent):
            released = self.tracking.event(released, dimension=self.plan.grid.dimension)
        return events.to_json(released)

    def events(self, history: Sequence[int]) -> dict[str, dict[str, Json]]:
        """One claim, which does not depend on who came."""
        return {"event": self.event(len(history))}

    def decode(self, total: NDArray[np.int64], *, count: int, seed: bytes) -> tuple[NDArray[np.float64], dict[str, float]]:
        """Grid units to the units of the parameters; no metrics leave the devices."""
        del count, seed
        summed = self.plan.grid.decode(total[: self.plan.grid.dimension])
        return (summed, {}) if self.tracking is None else (summed * (self.tracking.clip_norm / self.tracking.fixed_norm), {})

    def denominator(self, count: int) -> float:
        """The report goal under DP (fixed beforehand) and of a sampled cohort, which may be empty, else the devices there were."""
        return float(self.report_goal if self.private or self.sampling_rate is not None else count)

    def noise(self, secret: bytes, *, released: int) -> LeafNoise:
        """The noise stream of a run from leaf `released` on: the update's, and behind it that of each sum of bits."""
        streams = [self.plan.stream(secret, first_leaf=released)]
        for name, deviation in zip(self.bit_names, () if self.tracking is None else self.tracking.bit_noises, strict=True):
            # Bits are summed in halves: one device moves their sum by 1, and sigma_b of a whole bit is 2 sigma_b halves.
            streams.append(self.plan.bit_stream(derive_key(secret, name), 2 * deviation, first_leaf=released))
        return LeafNoise(
            lambda: np.concatenate([stream.next() for stream in streams]) if len(streams) > 1 else streams[0].next(),
            next_leaf=released,
            independent=self.plan.mechanism == "gaussian",
        )

    def plan_bytes(
        self, *, spec: TaskSpec, run: str, round_index: int, leaf: int, model_digest: str, ledger_checkpoint: str
    ) -> bytes:
        """What every device of a round is told."""
        del ledger_checkpoint
        encoding: dict[str, Json] = grid_facts(self.plan.grid)
        if self.tracking is not None:
            encoding = {"kind": "tracked-grid", "grid": encoding, "norms": self.tracking.round_norms().to_json()}
        bits = tuple(plans.Output(name=name, length=1, aggregated=True) for name in self.bit_names)
        return plans.encode(
            plans.Plan(
                task=task_facts(spec),
                run=run,
                round_index=round_index,
                leaf=leaf,
                model_digest=model_digest,
                encoding=encoding,
                outputs=(plans.Output(name="delta", length=self.plan.grid.dimension, aggregated=True), *bits),
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
