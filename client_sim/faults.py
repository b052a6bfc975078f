"""Devices that misbehave, as data: which, how, and in which rounds."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

import numpy as np
import numpy.typing as npt


class FaultKind(Enum):
    """What a device does wrong."""

    SLOW = "slow"
    """Takes an hour longer to train."""
    SILENT = "silent"
    """Takes its plan and is never heard of again."""
    CRASHING = "crashing"
    """Dies while training."""
    LYING = "lying"
    """Uploads something that is no encoded update: too large a norm, or another length than it declared."""
    GREEDY = "greedy"
    """Ignores its own record and takes part whenever it can."""


SLOW_S = 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """`device` behaves as `kind` in rounds `first_round` to `last_round` (inclusive; None for ever)."""

    device: int
    kind: FaultKind
    first_round: int = 0
    last_round: int | None = None


def faulty(faults: Sequence[Fault], kind: FaultKind, round_index: int, devices: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    """Which of `devices` have a fault of this kind in this round, bool of shape (n,).

    >>> plan = (Fault(device=3, kind=FaultKind.SILENT, first_round=2),)
    >>> faulty(plan, FaultKind.SILENT, 5, np.array([1, 3])).tolist()
    [False, True]
    """
    if not faults:
        return np.zeros(len(devices), np.bool_)
    chosen = [
        fault.device
        for fault in faults
        if fault.kind is kind
        and fault.first_round <= round_index
        and (fault.last_round is None or round_index <= fault.last_round)
    ]
    return np.isin(devices, np.array(chosen, np.int64)) if chosen else np.zeros(len(devices), np.bool_)
