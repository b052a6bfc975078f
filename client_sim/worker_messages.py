"""What the pool and its worker processes say to each other, over a private socket pair."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from client_sim.secure_work import SecureAnswers
from contract.errors import ErrorCode
from secagg.messages import ServerMessage


@dataclass(frozen=True, slots=True)
class Attach:
    """Use these files: parameters float32 of shape (d,), and this worker's own sum, int64 of the encoded length."""

    parameters_path: str
    total_path: str
    dimension: int
    encoded_dimension: int


@dataclass(frozen=True, slots=True)
class Train:
    """Put the sum of the updates of the devices that you take from the queue into your file; the parameters are in theirs.

    Piece k of the queue is devices[starts[k] : starts[k + 1]].
    """

    plan: bytes = field(repr=False)
    devices: npt.NDArray[np.int64] = field(repr=False)
    starts: tuple[int, ...] = field(repr=False)
    order_seed: int
    noise_seed: bytes | None = field(repr=False)
    at_s: float


@dataclass(frozen=True, slots=True)
class BeginSecure:
    """Begin a secure round for these devices, and say what they advertise; whatever was left of an earlier one is forgotten."""

    plan: bytes = field(repr=False)
    devices: npt.NDArray[np.int64] = field(repr=False)
    order_seed: int
    noise_seed: bytes | None = field(repr=False)
    at_s: float
    authority_seed: bytes = field(repr=False)
    groups: npt.NDArray[np.int64] | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class ContinueSecure:
    """What the server says to each device of the secure round."""

    messages: Mapping[int, ServerMessage] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Done:
    """The sum is complete; what was measured is in the order of the `pieces` that were taken."""

    count: int
    metrics: dict[str, npt.NDArray[np.float64]] = field(repr=False)
    norms_squared: npt.NDArray[np.int64] = field(repr=False)
    pieces: tuple[int, ...] = field(default=(), repr=False)


@dataclass(frozen=True, slots=True)
class Ready:
    """The worker has done what it was told; `side_by_side` is how many devices its model trains at once."""

    side_by_side: int = 1


@dataclass(frozen=True, slots=True)
class Failed:
    """The worker cannot do it, for a reason that would not go away."""

    code: ErrorCode
    detail: str


Order: TypeAlias = Attach | Train | BeginSecure | ContinueSecure
Answer: TypeAlias = Ready | Done | Failed | SecureAnswers
