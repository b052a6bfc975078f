"""How many devices a fraction of them stands for: what secure aggregation withstands, noise is sized for and a claim is priced at."""

import math


def whole_devices(fraction: float, devices: int) -> int:
    """floor(fraction devices), not upset by the binary form of the fraction.

    >>> whole_devices(0.07, 100), whole_devices(0.29, 100), whole_devices(0.1, 79)
    (7, 29, 7)
    """
    return math.floor(fraction * devices + 1e-9)


def colluding_devices(fraction: float, devices: int) -> int:
    """floor(fraction devices), and one at least where the fraction is not 0: no group is so small that its claim counts on nobody's lie.

    Args:
      fraction: g in [0, 1), of the devices of one sum.
      devices: m, on the roster of that sum: of one group, where a cohort is split.

    >>> colluding_devices(0.05, 16), colluding_devices(0.05, 100), colluding_devices(0.29, 100), colluding_devices(0.0, 100)
    (1, 5, 29, 0)
    """
    return max(1, whole_devices(fraction, devices)) if fraction > 0 else 0
