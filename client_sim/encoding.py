"""From a plan to the function that turns an update into the integers that may leave the device."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Protocol, cast

import numpy as np
import numpy.typing as npt

from contract.entropy import Entropy
from contract.plan import Plan, rotation_seed
from privacy.distributed import DistributedPlan
from privacy.grid import Grid

_NO_METRICS: Mapping[str, float] = MappingProxyType({})


class Encoder(Protocol):
    """Clips and rounds, and adds the device's share of noise where the mechanism asks for one."""

    @property
    def dimension(self) -> int:
        """Length d of an update."""
        ...

    @property
    def encoded_dimension(self) -> int:
        """Length of what is encoded, at least d."""
        ...

    def encode(
        self, delta: npt.NDArray[np.float32], entropy: Entropy, metrics: Mapping[str, float] = _NO_METRICS
    ) -> npt.NDArray[np.int32]:
        """Integers, int32 of shape (encoded_dimension,), from an update, float32 of shape (d,), and the device's counts."""
        ...

    def may_be_summed(self, vector: npt.NDArray[np.int32], norm_squared: int) -> bool:
        """Whether the accounting, or the sum's lanes, are made for `vector`, whose squared norm is `norm_squared`."""
        ...


@dataclass(frozen=True, slots=True)
class GridEncoder:
    """Central differential privacy: the public integer grid.

    Guarantee: what `may_be_summed` lets through has the norm to which the mechanism is calibrated.
    """

    grid: Grid

    @property
    def dimension(self) -> int:
        return self.grid.dimension

    @property
    def encoded_dimension(self) -> int:
        return self.grid.dimension

    def encode(
        self, delta: npt.NDArray[np.float32], entropy: Entropy, metrics: Mapping[str, float] = _NO_METRICS
    ) -> npt.NDArray[np.int32]:
        del metrics  # under central privacy nothing but the update leaves the device
        return self.grid.encode(delta, entropy)

    def may_be_summed(self, vector: npt.NDArray[np.int32], norm_squared: int) -> bool:
        return vector.shape == (self.dimension,) and norm_squared <= self.grid.norm_bound_squared


@dataclass(frozen=True, slots=True)
class DistributedEncoder:
    """Distributed differential privacy: rotated, scaled, rounded, and noised on the device, for secure aggregation alone.

    The norm is bounded before the noise, by `privacy.distributed`; afterwards only the range of a value can be checked.

    Args:
      plan: of the update.
      metrics: of the vector of counts that goes with it, None if there is none.
      metric_names: its coordinates; `x/y` is the part of count y for which x holds.
    """

    plan: DistributedPlan
    seed: bytes
    metrics: DistributedPlan | None = None
    metric_names: tuple[str, ...] = ()

    @property
    def dimension(self) -> int:
        return self.plan.dimension

    @property
    def encoded_dimension(self) -> int:
        return sum(chosen.padded_dimension for _, chosen in self.vectors)

    @property
    def vectors(self) -> tuple[tuple[str, DistributedPlan], ...]:
        """Names and plans of what is summed, in their order."""
        return (("delta", self.plan),) if self.metrics is None else (("delta", self.plan), ("metrics", self.metrics))

    def encode(
        self, delta: npt.NDArray[np.float32], entropy: Entropy, metrics: Mapping[str, float] = _NO_METRICS
    ) -> npt.NDArray[np.int32]:
        update = self.plan.encode(delta, entropy, self.seed)
        if self.metrics is None:
            return update
        counts = np.asarray([count_of(name, metrics) for name in self.metric_names], np.float32)
        return np.concatenate([update, self.metrics.encode(counts, entropy, self.seed)])

    def may_be_summed(self, vector: npt.NDArray[np.int32], norm_squared: int) -> bool:
        largest = sum(chosen.padded_dimension * chosen.largest_value**2 for _, chosen in self.vectors)
        return vector.shape == (self.encoded_dimension,) and norm_squared <= largest


def count_of(name: str, metrics: Mapping[str, float]) -> float:
    """A device's count under its name, 0 where it did not measure it; `x/y` is the mean x times the count y.

    >>> count_of("top1/targets", {"top1": 0.25, "targets": 8.0})
    2.0
    """
    part, _, whole = name.partition("/")
    count = metrics.get(part, 0.0) * (metrics.get(whole, 0.0) if whole else 1.0)
    return count if math.isfinite(count) else 0.0


def encoder_of(plan: Plan) -> Encoder:
    """The encoder that a plan asks for.

    Raises:
      ValueError: for an encoding that this device does not know, or that is malformed.

    >>> grid = {"kind": "grid", "dimension": 3, "clip_norm": "1", "step": "0.0009765625", "beta": "0.5"}
    >>> encoder_of(Plan(task={}, run="r", round_index=0, leaf=0, model_digest="", encoding=grid, outputs=())).dimension
    3
    """
    kind = plan.encoding.get("kind")
    try:
        if kind == "grid":
            return GridEncoder(Grid.from_json(plan.encoding))
        if kind == "distributed":
            return DistributedEncoder(DistributedPlan.from_json(plan.encoding), rotation_seed(plan))
        if kind == "distributed-vectors":
            return _vectors(plan)
    except (TypeError, KeyError, AttributeError, OverflowError) as error:
        raise ValueError(f"malformed encoding of kind {kind!r}: {error}") from None
    raise ValueError(f"this device knows no encoding of kind {kind!r}, only grid and distributed")


def _vectors(plan: Plan) -> DistributedEncoder:
    encoding = cast(dict[str, Any], plan.encoding)
    vectors = {str(vector["name"]): DistributedPlan.from_json(vector["plan"]) for vector in encoding["vectors"]}
    names = tuple(str(name) for name in encoding["metric_names"])
    metrics = vectors.get("metrics")
    if list(vectors) not in (["delta"], ["delta", "metrics"]) or (metrics.dimension if metrics else 0) != len(names):
        raise ValueError(
            "a secure round sums `delta`, and perhaps `metrics` behind it, with a name for each of its coordinates"
        )
    return DistributedEncoder(vectors["delta"], rotation_seed(plan), metrics, names)
