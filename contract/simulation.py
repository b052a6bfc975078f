"""The port by which a simulated fleet drives a round server under virtual time, in arrays instead of messages.

The gRPC service and this port step the same round machine; here one call carries many devices, in the order of their times.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from contract.messages import RetryWindow

Transcripts: TypeAlias = Mapping[int, str]
"""For each group of a secure round, the digest of what its parties signed and released, hex."""
UNSIGNED: Transcripts = MappingProxyType({})
"""Of a sum without a protocol."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundPosition:
    """Where the run stands: the round that wants devices now. `leaf` is what devices call `current_index`."""

    run: str
    round_index: int
    attempt: int
    leaf: int
    cohort_target: int
    report_goal: int
    minimum_separation: int
    max_participations: int | None
    opened_s: float
    deadline_s: float
    roster_size: int | None = None
    """Secure only: over-selection ends at the roster, the first so many devices that advertise keys."""
    sampled: Callable[[int], NDArray[np.bool_]] | None = field(default=None, repr=False, compare=False)
    """Poisson sampling only: which of so many devices are in the round, bool of shape (n,), by secret coins. Nobody else may come."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundWork:
    """What every device of the cohort is given: `plan` as in contract.plan, parameters float32, shape (d,)."""

    plan: bytes
    parameters: NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class Contribution:
    """The exact integer sum of `count` encoded updates: int64, shape (d,), the server's own from then on. `metrics` are sums over
    the devices: the simulator's oracle, not the protocol's.
    """

    total: NDArray[np.int64]
    count: int
    metrics: Mapping[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class SealedContribution:
    """A sum that nobody has seen yet: `reveal` unmasks it, and is called once, after the round's charge is committed.

    It gives int64, shape (d,), or None if too few devices were left to unmask. `count` and `metrics` are as in `Contribution`; where a
    group of the round may fall out of what is unmasked, `summed` says afterwards how many are in it. `transcripts` gives, afterwards too,
    those of the groups that were unmasked.
    """

    reveal: Callable[[], NDArray[np.int64] | None] = field(repr=False)
    count: int
    metrics: Mapping[str, float]
    summed: Callable[[], int] | None = field(default=None, repr=False)
    transcripts: Callable[[], Transcripts] = field(default=lambda: UNSIGNED, repr=False)

    def in_sum(self) -> int:
        """Contributions in the sum that `reveal` gave."""
        return self.count if self.summed is None else self.summed()


class SimulatedServer(Protocol):
    """What a virtual-time fleet may ask of a round server. All times are virtual seconds and never go back."""

    def position(self) -> RoundPosition | None:
        """The round now selecting, or None when the run is over."""
        ...

    def check_in(self, times_s: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Which of the devices that check in at these ascending times are accepted, shape (n,)."""
        ...

    def retry_window(self) -> RetryWindow:
        """When a device that was turned away should come back."""
        ...

    def start(self, at_s: float) -> RoundWork | None:
        """Closes selection at `at_s`; the work of the cohort, or None if the round was abandoned for want of devices."""
        ...

    def reporting_deadline_s(self) -> float:
        """When the round stops waiting for reports."""
        ...

    def report(self, times_s: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Which of the uploads completed at these ascending times count, shape (n,). Late ones do not."""
        ...

    def contribute(self, contribution: Contribution | SealedContribution) -> None:
        """Adds the sum over accepted reports; may be called several times, in any order (once, if the sum is sealed)."""
        ...

    def finish(self, at_s: float, *, settled: bool = True) -> Mapping[str, Any]:
        """Ends the round, an abandoned one too: charge, noise, outcome, commit; facts of the round for progress and plots.

        Args:
          settled: False leaves the commit to `settle`, so that the next round's workers train meanwhile. The charge is always
            committed in here. Only who trains in processes of its own, which nobody else sees, may ask for that.
        """
        ...

    def settle(self) -> None:
        """Commits the outcome that `finish` left, if any: nothing of a later round is taken before, nothing of it told to anybody."""
        ...
