"""How long a device takes for each phase of a round, and in which phase it is lost, if it is."""

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
import numpy.typing as npt

from client_sim.population import DevicePopulation, at_moment, log_normal_of
from contract.randomness import uniforms_by_device

JITTER_SPREAD = 0.25
"""Standard deviation of the logarithm of what a phase takes the same device another time."""
_DRAWS = ("downlink jitter", "cpu jitter", "uplink jitter", "straggler", "lost")


class Phase(IntEnum):
    """Where a device is lost; FINISHED if it is not."""

    DOWNLOAD = 0
    TRAINING = 1
    UPLOAD = 2
    FINISHED = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Loss:
    """Share of devices that a phase loses to their user, the network or a crash; 6-10% in total (arXiv:1902.01046v2, section 9)."""

    download: float = 0.015
    training: float = 0.045
    upload: float = 0.02

    def __post_init__(self) -> None:
        """Refuses shares that are none."""
        for name in ("download", "training", "upload"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"loss in {name} must lie in 0..1, not {getattr(self, name)}")
        if self.total > 1:
            raise ValueError(f"the losses of all phases must sum to at most 1, not {self.total}")

    @property
    def total(self) -> float:
        """Share of devices lost on the way."""
        return self.download + self.training + self.upload


@dataclass(frozen=True, slots=True, kw_only=True)
class Effort:
    """What a round asks of the median phone: seconds an example, bytes down and up.

    `straggler_share` of the devices take `straggler_factor` times as long to train (thermal throttling, another app).
    """

    seconds_per_example: float
    download_bytes: int
    upload_bytes: int
    straggler_share: float = 0.03
    straggler_factor: float = 6.0


@dataclass(frozen=True, slots=True, eq=False)
class Timeline:
    """Virtual times of a cohort, float64 of shape (n,).

    When the plan is there, training ends and the upload ends, if the device comes so far; `lost` is a `Phase`, int8.
    """

    downloaded_s: npt.NDArray[np.float64]
    trained_s: npt.NDArray[np.float64]
    uploaded_s: npt.NDArray[np.float64]
    lost: npt.NDArray[np.int8]


def effort_of(num_parameters: int, *, flop_per_example: float | None = None, upload_bytes_per_parameter: float = 4.0) -> Effort:
    """The effort of training a model of `num_parameters`: a median phone does 2 GFLOP/s; a device fetches 4 bytes a parameter.

    >>> effort_of(1_000_000).download_bytes
    4000000
    """
    flop = 6.0 * num_parameters * 10 if flop_per_example is None else flop_per_example
    return Effort(
        seconds_per_example=flop / 2e9,
        download_bytes=4 * num_parameters,
        upload_bytes=int(upload_bytes_per_parameter * num_parameters),
    )


def roster(size: int | None, downloaded_s: npt.NDArray[np.float64], lost: npt.NDArray[np.int8]) -> npt.NDArray[np.bool_]:
    """Who is on the roster, shape (n,): the first `size` devices that come to advertise their keys; all, where there is none.

    >>> roster(2, np.array([3.0, 1.0, 2.0, 0.5]), np.array([3, 3, 1, 0], np.int8)).tolist()
    [False, True, True, False]
    """
    if size is None:
        return np.ones(len(lost), np.bool_)
    came = np.where(lost > Phase.DOWNLOAD, downloaded_s, np.inf)
    first = np.lexsort((np.arange(len(came)), came))[:size]
    on_roster = np.zeros(len(lost), np.bool_)
    on_roster[first] = np.isfinite(came[first])
    return on_roster


def timeline(
    population: DevicePopulation,
    devices: npt.NDArray[np.int64],
    *,
    examples: npt.NDArray[np.int64],
    start_s: float,
    draw: int,
    effort: Effort,
    loss: Loss,
) -> Timeline:
    """What happens to each of `devices` when a round starts at `start_s`: a function of (seed, draw, device).

    Args:
      devices: int64, shape (n,).
      examples: int64, shape (n,): how many each trains on, epochs included.
      draw: names the round's draws; another round, or another attempt at it, passes another one.
    """
    uniform = uniforms_by_device(population.seed, at_moment(devices, draw), _DRAWS)
    jitter = log_normal_of(uniform[:3], median=1.0, spread=JITTER_SPREAD)
    slower = np.where(uniform[3] < effort.straggler_share, effort.straggler_factor, 1.0)
    downloaded = start_s + 0.2 + jitter[0] * effort.download_bytes / population.downlink[devices]
    trained = downloaded + slower * jitter[1] * (0.5 + examples * effort.seconds_per_example) / population.speed[devices]
    uploaded = trained + 0.1 + jitter[2] * effort.upload_bytes / population.uplink[devices]
    shares = np.cumsum([loss.download, loss.training, loss.upload])
    lost: npt.NDArray[np.int8] = (uniform[4] >= shares[:, None]).sum(axis=0, dtype=np.int8)
    return Timeline(downloaded, trained, uploaded, lost)
