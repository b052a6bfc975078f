"""Session shapes: one character an event, the field's own diagnostic (arXiv:1902.01046v2, table 1).

`-` check-in, `v` plan downloaded, `[` training started, `]` finished, `+` upload started, `^` accepted, `#` rejected, `!`
interrupted, `*` error.
"""

from collections.abc import Mapping
from enum import IntEnum

import numpy as np
import numpy.typing as npt


class Ending(IntEnum):
    """How a session of an accepted device ended."""

    ACCEPTED = 0
    LATE = 1
    LOST_DOWNLOADING = 2
    LOST_TRAINING = 3
    LOST_UPLOADING = 4
    REFUSED = 5


SHAPES: Mapping[Ending, str] = {
    Ending.ACCEPTED: "-v[]+^",
    Ending.LATE: "-v[]+#",
    Ending.LOST_DOWNLOADING: "-!",
    Ending.LOST_TRAINING: "-v[!",
    Ending.LOST_UPLOADING: "-v[]+!",
    Ending.REFUSED: "-v[]+*",
}
MEANINGS: Mapping[str, str] = {
    "-v[]+^": "took part",
    "-v[]+#": "trained, but the round was over",
    "-v[#": "began, but the round was over",
    "-!": "lost before it trained, or no server answered",
    "-v[!": "lost while it trained",
    "-v[]+!": "lost while it uploaded",
    "-v[]+*": "was refused: its update is not what a device may send",
    "-v*": "did not work for the plan: the device refused it, or the server the device",
    "-#": "was turned away: come back later",
    "-": "may not take part yet, by its own record",
}
"""The frequent shapes in words."""
TURNED_AWAY = "-#"
"""Checked in and was told to come back later."""
NOT_ELIGIBLE = "-"
"""Checked in, learned the current index, and did not ask for a task."""


def count_shapes(endings: npt.NDArray[np.int8], *, turned_away: int, not_eligible: int) -> dict[str, int]:
    """How many sessions had each shape, the frequent ones first.

    >>> count_shapes(np.array([0, 0, 3], np.int8), turned_away=4, not_eligible=0)
    {'-#': 4, '-v[]+^': 2, '-v[!': 1}
    """
    counts = {SHAPES[ending]: int(np.count_nonzero(endings == ending)) for ending in Ending}
    counts |= {TURNED_AWAY: turned_away, NOT_ELIGIBLE: not_eligible}
    return {shape: count for shape, count in sorted(counts.items(), key=lambda item: -item[1]) if count}
