"""How a simulated fleet behaves, and how often its devices wake."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from client_sim.faults import Fault
from client_sim.timing import Effort, Loss

LONGEST_INTERVAL_S = 4 * 3600.0
SHORTEST_INTERVAL_S = 60.0
WORST_AVAILABILITY = 0.126
"""Share of devices whose conditions hold at the worst hour (client_sim.conditions)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetOptions:
    """How the simulated fleet behaves.

    Args:
      seed: of the examples' order on the devices.
      noise_seed: see `client_sim.executor.Job`.
      examples_per_round: most examples a device trains on, epochs included; its own number counts if smaller.
      diurnal: whether devices wait until they are idle, charging and on an unmetered network.
      wake_interval_s: mean time between two wake-ups of a device.
      trustworthiness_s: age below which a record is not trusted.
    """

    seed: int
    effort: Effort
    noise_seed: bytes | None = field(default=None, repr=False)
    loss: Loss = field(default_factory=Loss)
    examples_per_round: int = 256
    diurnal: bool = True
    wake_interval_s: float = LONGEST_INTERVAL_S
    trustworthiness_s: float = 0.0
    faults: Sequence[Fault] = ()


def wake_interval(population_size: int, *, cohort_target: int, selection_s: float) -> float:
    """A mean time between wake-ups at which three times the cohort comes by within a selection window, at the worst hour.

    It follows the pace steering of arXiv:1902.01046v2, section 2.3: a small population comes often, a large one seldom.

    >>> wake_interval(20_000, cohort_target=260, selection_s=600.0) < wake_interval(10**7, cohort_target=260, selection_s=600.0)
    True
    """
    wanted = population_size * selection_s * WORST_AVAILABILITY / (3 * max(1, cohort_target))
    return float(np.clip(wanted, SHORTEST_INTERVAL_S, LONGEST_INTERVAL_S))
