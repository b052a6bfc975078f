"""What comes out of a round: pure arithmetic from an exact integer sum to the next model."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Float32Vector = NDArray[np.float32]


class Optimizer(Protocol):
    """A server optimiser on flat vectors, as in trainer.optimizers."""

    def update(
        self, mean_update: Float32Vector, state: Mapping[str, NDArray[Any]], params: Float32Vector
    ) -> tuple[Float32Vector, Mapping[str, NDArray[Any]]]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class NextModel:
    """Parameters float32, shape (d,), the optimiser's state after them, and the L2 norm of the mean update that was applied."""

    parameters: Float32Vector = field(repr=False)
    optimizer: Mapping[str, NDArray[Any]] = field(repr=False)
    update_norm: float


def mean_of(summed: NDArray[np.float64], denominator: float) -> Float32Vector:
    """The mean update, float32, shape (d,): the released (noised, decoded) sum over a denominator fixed beforehand.

    Args:
      summed: float64, shape (d,), in the units of the parameters.
      denominator: the report goal under DP, so that the sensitivity of the mean does not depend on who came.
    """
    mean = np.empty(summed.shape, np.float32)
    # In double, without a second vector of doubles.
    return np.divide(summed, denominator, out=mean, casting="same_kind")


def apply_update(
    mean: Float32Vector, *, parameters: Float32Vector, optimizer: Optimizer, state: Mapping[str, NDArray[Any]]
) -> NextModel:
    """Lets the optimiser take a step along a mean update.

    Guarantee: post-processing of `mean`; nothing else of the devices' data enters.
    """
    following, after = optimizer.update(mean, state, parameters)
    return NextModel(parameters=following, optimizer=after, update_norm=float(np.linalg.norm(mean)))
