"""From a plan to the function that turns an update into the integers that may leave the device."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from contract.entropy import Entropy
from contract.plan import Plan, rotation_seed
from privacy.distributed import DistributedPlan
from privacy.grid import Grid


class Encoder(Protocol):
    """Clips and rounds, and adds the device's share of noise where the mechanism asks for one."""

    @property
    def dimension(self) -> int:
        """Length d of an update."""
        ...

    @property
    def encoded_dimension(self) -> int:
        """Length of an encoded update, at least d."""
        ...

    def encode(self, delta: npt.NDArray[np.float32], entropy: Entropy) -> npt.NDArray[np.int32]:
        """Integers, int32 of shape (encoded_dimension,), from an update, float32 of shape (d,)."""
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

    def encode(self, delta: npt.NDArray[np.float32], entropy: Entropy) -> npt.NDArray[np.int32]:
        return self.grid.encode(delta, entropy)

    def may_be_summed(self, vector: npt.NDArray[np.int32], norm_squared: int) -> bool:
        return vector.shape == (self.dimension,) and norm_squared <= self.grid.norm_bound_squared


@dataclass(frozen=True, slots=True)
class DistributedEncoder:
    """Distributed differential privacy: rotated, scaled, rounded, and noised on the device, for secure aggregation alone.

    The norm is bounded before the noise, by `privacy.distributed`; afterwards only the range of a value can be checked.
    """

    plan: DistributedPlan
    seed: bytes

    @property
    def dimension(self) -> int:
        return self.plan.dimension

    @property
    def encoded_dimension(self) -> int:
        return self.plan.padded_dimension

    def encode(self, delta: npt.NDArray[np.float32], entropy: Entropy) -> npt.NDArray[np.int32]:
        return self.plan.encode(delta, entropy, self.seed)

    def may_be_summed(self, vector: npt.NDArray[np.int32], norm_squared: int) -> bool:
        return vector.shape == (self.encoded_dimension,) and norm_squared <= self.encoded_dimension * self.plan.largest_value**2


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
    except (TypeError, KeyError, AttributeError, OverflowError) as error:
        raise ValueError(f"malformed encoding of kind {kind!r}: {error}") from None
    raise ValueError(f"this device knows no encoding of kind {kind!r}, only grid and distributed")
