"""Probes: canary devices whose update is a random direction at the clip norm, through the whole system unchanged.

The model is linear: its loss on a direction v is -<v, w>, so that one step of SGD at learning rate 1 gives the update v whatever w is. The
task around it keeps its mechanism, cohort, aggregation and rounds; clip, rotation, rounding, noise, SecAgg and the server's sums are what
the task would have. A device that is out sends zeros, which is exactly the zero-out neighbour.
"""

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from client_sim.data.loader import Example
from contract import canonical, task
from contract.task import TaskSpec
from privacy.audit import coins
from privacy.audit.random_updates import direction
from trainer.model import Arrangement, Array, Batch, DeviceExamples, Model, Params, Sums

LENGTH = 1e6
"""Norm of an update before it is clipped: the clip decides, whatever it is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeLoader:
    """A population of probes alone: device i has the direction i, if its coin says so.

    Args:
      canaries: how many devices there are.
      dimension: d of the model.
      seed: of the coins and directions.
    """

    canaries: int
    dimension: int
    seed: int
    _included: NDArray[np.bool_] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_included", coins(self.canaries, seed=self.seed))

    @property
    def included(self) -> NDArray[np.bool_]:
        """The coins, bool, shape (canaries,)."""
        return self._included

    @property
    def num_devices(self) -> int:
        """One a canary."""
        return self.canaries

    @property
    def digest(self) -> str:
        """Names size and seed."""
        return canonical.digest({"probes": self.canaries, "dimension": self.dimension, "seed": self.seed})

    @property
    def disclosures(self) -> tuple[str, ...]:
        """What a report must say of this data."""
        return (f"all {self.canaries} devices are an audit's probes, in or out by coins; no person's data is here",)

    def examples(self, index: int) -> Sequence[Example]:
        """The direction of a device that is in, nothing of one that is out."""
        if not 0 <= index < self.canaries:
            raise ValueError(f"device {index} is not in 0..{self.canaries - 1}")
        return ({"seed": self.seed, "label": index},) if self._included[index] else ()

    def num_examples(self, devices: NDArray[np.int64]) -> NDArray[np.int64]:
        """1 for each of `devices`: how long a device takes does not tell its coin."""
        return np.ones(len(devices), np.int64)

    def held_out(self) -> Iterator[Sequence[Example]]:
        """Nobody."""
        return iter(())

    def directions(self, *, sent: bool = True) -> NDArray[np.float32]:
        """The canaries' unit directions, float32, shape (canaries, d); with `sent` false, as many that no device has."""
        kind = "sent" if sent else "unsent"
        return np.stack([direction(self.dimension, kind, index, seed=self.seed) for index in range(self.canaries)])


def probing_task(spec: TaskSpec, loader: ProbeLoader, *, rounds: int) -> TaskSpec:
    """`spec` with the linear model and one step of training, for `rounds` rounds; mechanism, schedule and deadlines are its own.

    The cohort is cut down to what the probes can fill under their separation and cap; noise is relative to one device's contribution,
    so that the cost of a release does not depend on the cohort.
    """
    cohort = spec.cohort
    waiting = cohort.minimum_separation + 1
    turns = rounds if cohort.max_participations is None else min(rounds, cohort.max_participations * waiting)
    most = int(loader.canaries / (1.5 * cohort.over_selection) / min(rounds, waiting) * turns / rounds)
    return task.replace(
        spec,
        name=f"{spec.name[:56]}-probes",
        model={"name": f"tutti.audit.probes:linear_{loader.dimension}", "init_from": None, "vocabulary": "public-en"},
        data={"source": "synthetic", "devices": None},
        training={"batch_size": 1, "epochs": 1, "max_examples": 1, "learning_rate": 1.0},
        server={"optimizer": "sgd", "learning_rate": 1.0, "momentum": 0.0},
        cohort={"report_goal": max(2, min(cohort.report_goal, most)), "minimum_reports": None},
        aggregation={"minimum_survivors": None, "group_size": None},
        rounds=rounds,
    )


def shares(
    models: Sequence[NDArray[np.float32]], sent: NDArray[np.float32], unsent: NDArray[np.float32], *, ridge: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """How much of each direction is in each round's step, by ridge regression on all directions at once.

    A plain projection sees, besides noise, a little of every other canary; the regression takes that off. Both are functions of what was
    released and of directions that do not depend on the coins: any such function is a fair score.

    Args:
      models: the parameters after each round, the start first, float32, each of shape (d,).
      sent, unsent: unit directions, float32, shapes (n, d) and (m, d).
      ridge: the noise's variance along a direction over a share's, about the squared noise multiplier: 0 without noise, where nothing is
        shrunk; large where noise is all there is, where the regression becomes the projection.

    Returns:
      Two float64 arrays, shapes (n, rounds) and (m, rounds).
    """
    steps = np.diff(np.stack([np.asarray(model, np.float64) for model in models]), axis=0)
    directions = np.concatenate([sent, unsent]).astype(np.float64)
    gram = directions @ directions.T + (ridge + 1e-6) * np.eye(len(directions))
    found = np.asarray(np.linalg.solve(gram, directions @ steps.T), np.float64)
    return found[: len(sent)], found[len(sent) :]


def build(dimension: int) -> Model:
    """The linear model over `dimension` weights, which start at 0.

    >>> build(256).num_parameters
    256
    """
    return Model(
        name=f"linear_{dimension}",
        shapes={"w": (dimension,)},
        initial=lambda _: {"w": np.zeros(dimension)},
        featurize=functools.partial(_featurize, dimension=dimension),
        loss=_loss,
        arrangement=Arrangement(lanes=1),
    )


def __getattr__(name: str) -> Any:
    """`linear_4096` is the factory of that size: a task file names a model by `package.module:factory`."""
    size = name.removeprefix("linear_")
    if not name.startswith("linear_") or not size.isdecimal():
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return functools.partial(build, int(size))


def _featurize(examples: Sequence[Example], *, dimension: int) -> DeviceExamples:
    rows = [LENGTH * direction(dimension, "sent", int(str(row["label"])), seed=int(str(row["seed"]))) for row in examples]
    return DeviceExamples({"v": np.stack(rows) if rows else np.zeros((0, dimension), np.float32)})


def _loss(params: Params, batch: Batch, mask: Array) -> tuple[Array, Sums]:
    loss = -jnp.sum((batch["v"] @ params["w"]) * mask)
    return loss, {"loss": loss * 0.0, "targets": jnp.sum(mask)}
