"""Who trains: the interface between a simulated round and the processes that compute its updates."""

from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Job:
    """The updates of some devices in one round.

    Args:
      plan: canonical JSON of contract.plan: what to train and how to encode.
      parameters: float32, shape (d,).
      devices: int64, shape (n,), each once; their order does not matter to the sum.
      order_seed: of the simulation; the examples' order on a device is a function of (order_seed, round, device).
      noise_seed: None draws rounding and local noise from the operating system; 32 bytes make them repeatable.
      at_s: when the devices train, in seconds of the fleet's clock: it decides what their training caches hold.
      groups: int64, shape (n,): the group of each device where secure aggregation goes in several; None where it does not.
    """

    plan: bytes = field(repr=False)
    parameters: npt.NDArray[np.float32] = field(repr=False)
    devices: npt.NDArray[np.int64] = field(repr=False)
    order_seed: int
    noise_seed: bytes | None = field(default=None, repr=False)
    at_s: float = 0.0
    groups: npt.NDArray[np.int64] | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Updates:
    """The exact sum of the encoded updates of a job, and what each device measured.

    Args:
      total: int64, of the length of an encoded update.
      count: how many updates are in it.
      metrics: name -> float64 of shape (n,), in the order of the job's devices: the simulator's oracle, not the protocol's.
      norms_squared: int64, shape (n,): squared integer L2 norm of each encoded update.
    """

    total: npt.NDArray[np.int64] = field(repr=False)
    count: int
    metrics: dict[str, npt.NDArray[np.float64]] = field(repr=False)
    norms_squared: npt.NDArray[np.int64] = field(repr=False)


class Executor(Protocol):
    """Trains, clips, encodes and adds; the sum is the same for any number of workers, bit for bit."""

    def run(self, job: Job) -> Updates:
        """The updates of all devices of `job`."""
        ...

    def close(self) -> None:
        """Ends its processes."""
        ...
