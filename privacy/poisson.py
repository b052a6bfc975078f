"""Poisson sampling: every unit is in a release by a secret coin of its own.

The coins hide who takes part from those who see what is released; they hide nothing from the party that tosses them, nor from one that sees
who comes. So the amplification is claimed under the assumption of a *trusted sampler*, the party that also adds the noise.

What else keeps a unit away (a device that is lost, or off) only lowers its probability. As long as that depends on the unit alone, the
price at the full rate covers it: the output is a mixture that lies between that of a release with and one without the coin, and the
Renyi divergence of the sampled mechanism grows with the rate. What would not be covered is a bound on the number of units, which makes
one unit's presence depend on the others'; so no cohort that is drawn here is cut.
"""

import numpy as np
from numpy.typing import NDArray

from privacy.keystream import Keystream


def joins(key: bytes, *, leaf: int, size: int, rate: float) -> NDArray[np.bool_]:
    """Which of `size` units are in release `leaf`, shape (size,); equal arguments give the same coins.

    Args:
      key: the run's 32 secret bytes, as secret as those of its noise.
      rate: q in (0, 1].

    Guarantee:
      The coins are independent, and each comes up with probability at most `rate` (2^-53 short of it at most), to anybody without
      the key.

    >>> joins(bytes(32), leaf=3, size=5, rate=1.0).tolist(), int(joins(bytes(32), leaf=3, size=10_000, rate=0.1).sum())
    ([True, True, True, True, True], 1027)
    """
    if not 0 < rate <= 1:
        raise ValueError(f"rate must lie in (0, 1], not {rate}")
    words = Keystream(key, "poisson sampling", leaf).words(size, np.uint64) >> np.uint64(11)
    return words < np.uint64(int(rate * 2.0**53))
