"""What leaves the store: frozen values of the domain."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from contract.task import TaskSpec


class RunState(Enum):
    """Where a run stands. `pausing` and `cancelling` are wishes that the runner honours between rounds."""

    RUNNING = "running"
    PAUSED = "paused"
    COMPLETED = "completed"
    CANCELLED = "cancelled"
    FAILED = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One execution of a task. `settings` say how it was started (seeds, transport); they are not part of the task."""

    id: str
    spec: TaskSpec
    ordinal: int
    settings: Mapping[str, Any]
    state: RunState
    next_round: int
    next_leaf: int
    attempts: int
    noise_key_id: str | None
    created_at: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """One round of a run. `sum_seal` binds the charge to the sum that was there when it was committed."""

    run: str
    index: int
    leaf: int
    state: str
    reason: str | None
    reported: int
    sum_seal: str | None
    charge_entry: int | None
    outcome_entry: int | None
    model_digest: str | None
    facts: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredModel:
    """Parameters after `round` rounds: float32, shape (d,); `optimizer` is the optimiser's state, `entry` None only for the start."""

    run: str
    round: int
    digest: str
    parameters: NDArray[np.float32] = field(repr=False)
    optimizer: Mapping[str, NDArray[Any]] = field(repr=False)
    entry: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One ledger entry as it is hashed."""

    index: int
    kind: str
    body: bytes
