"""Who trains: the interface between a simulated round and the processes that compute its updates."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from client_sim.timing import Phase
from contract.simulation import SealedContribution


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


@runtime_checkable
class Beginning(Protocol):
    """An executor whose work goes on by itself once it is begun."""

    def begin(self, job: Job) -> Callable[[], Updates]:
        """Begins with a job; what is given waits for its updates. One job at a time."""
        ...


def begun(executor: Executor, job: Job) -> Callable[[], Updates]:
    """What waits for the updates of `job`, which is begun now if this executor can."""
    return executor.begin(job) if isinstance(executor, Beginning) else partial(executor.run, job)


class SecureAggregation(Protocol):
    """Sums the updates of a roster so that nobody reads one of them, and closes its phases."""

    def input_window_s(self, arrivals_s: npt.NDArray[np.float64], roster_size: int) -> float | None:
        """How long masked inputs are taken that arrive `arrivals_s` after the start, ascending; None for the task's deadline."""
        ...

    def dump(self) -> bytes:
        """What was learnt of the phases, to go on with after a stop."""
        ...

    def load(self, state: bytes) -> None:
        """Takes up what `dump` gave."""
        ...

    def run(self, job: Job, *, survivors: npt.NDArray[np.int64], leaves: Mapping[int, Phase]) -> SealedContribution:
        """The sum over `survivors`, unrevealed.

        Args:
          job: for the whole roster.
          leaves: where each device that is not among the survivors leaves.
        """
        ...
