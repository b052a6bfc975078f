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


def apply_update(
    *,
    summed: NDArray[np.float64],
    denominator: float,
    parameters: Float32Vector,
    optimizer: Optimizer,
    state: Mapping[str, NDArray[Any]],
) -> NextModel:
    """Divides the released (noised, decoded) sum by a denominator fixed beforehand and lets the optimiser take a step.

    Guarantee: post-processing of `summed`; nothing else of the devices' data enters.

    Args:
      summed: float64, shape (d,), in the units of the parameters.
      denominator: the report goal under DP, so that the sensitivity of the mean does not depend on who came.
    """
    mean = np.empty(summed.shape, np.float32)
    np.divide(summed, denominator, out=mean, casting="same_kind")  # in double, without a second vector of doubles
    following, after = optimizer.update(mean, state, parameters)
    return NextModel(parameters=following, optimizer=after, update_norm=float(np.linalg.norm(mean)))
