"""How many examples a synthetic device has: a few mostly, hundreds sometimes."""

import numpy as np
import numpy.typing as npt
from scipy.special import ndtri

from contract.randomness import uniform_by_device


def example_counts(
    seed: int, devices: npt.NDArray[np.int64], *, median: float = 10.0, spread: float = 1.1, most: int = 1000
) -> npt.NDArray[np.int64]:
    """Log-normal counts, at least 1 and at most `most`.

    Args:
      seed: of the population's content.
      devices: int64, shape (n,).
      median: of the counts.
      spread: standard deviation of their logarithm; public chat has about 1.5, keyboards less.
      most: the largest count.

    Returns:
      int64, shape (n,); the same for a device whichever others are asked for.

    >>> int(example_counts(0, np.arange(1000)).min())
    1
    """
    uniform = np.clip(uniform_by_device(seed, devices, "examples"), 2.0**-53, None)
    return np.clip(np.exp(np.log(median) + spread * ndtri(uniform)), 1, most).astype(np.int64)
