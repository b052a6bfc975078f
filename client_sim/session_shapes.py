"""Session shapes: one character an event, the field's own diagnostic (arXiv:1902.01046v2, table 1).

`-` check-in, `v` plan downloaded, `[` training started, `]` finished, `+` upload started, `^` accepted, `#` rejected, `!`
interrupted, `*` error.
"""

from collections import Counter
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
    "-v[*": "stopped while it worked: the device refused the round, or the server the device",
    "-v*": "did not work for the plan: the device refused it, or the server the device",
    "-*": "got no plan that the device accepts, or not the model that was announced",
    "-#": "was turned away: come back later",
    "-": "may not take part yet, by its own record",
}
"""The frequent shapes in words."""
TURNED_AWAY = "-#"
"""Checked in and was told to come back later."""
NOT_ELIGIBLE = "-"
"""Checked in, learned the current index, and did not ask for a task."""


class Tally:
    """Sessions that ended: how many had each shape, and of those how many ended for which reason.

    >>> tally = Tally()
    >>> tally.add("-v[]+^")
    >>> tally.add("-v[]+*", "server: wrong-hash")
    >>> tally.take()
    ({'-v[]+^': 1, '-v[]+*': 1}, {'-v[]+*': {'server: wrong-hash': 1}})
    >>> tally.take()
    ({}, {})
    """

    def __init__(self) -> None:
        self._shapes: Counter[str] = Counter()
        self._reasons: dict[str, Counter[str]] = {}

    def __bool__(self) -> bool:
        return bool(self._shapes)

    def add(self, shape: str, reason: str | None = None) -> None:
        """One more session."""
        self._shapes[shape] += 1
        if reason is not None:
            self._reasons.setdefault(shape, Counter())[reason] += 1

    def update(self, shapes: Mapping[str, int], reasons: Mapping[str, Mapping[str, int]]) -> None:
        """Sessions that were counted elsewhere."""
        self._shapes.update(shapes)
        for shape, counts in reasons.items():
            self._reasons.setdefault(shape, Counter()).update(counts)

    @property
    def shapes(self) -> dict[str, int]:
        """Sessions by shape, the most frequent first."""
        return dict(self._shapes.most_common())

    @property
    def reasons(self) -> dict[str, dict[str, int]]:
        """Sessions by shape and reason, the most frequent reason of each first."""
        return {shape: dict(counts.most_common()) for shape, counts in self._reasons.items()}

    def take(self) -> tuple[dict[str, int], dict[str, dict[str, int]]]:
        """Shapes and reasons, and begins anew."""
        found = self.shapes, self.reasons
        self._shapes, self._reasons = Counter(), {}
        return found


def said(reasons: Mapping[str, int]) -> str:
    """Reasons in a line.

    >>> said({"server: deadline-passed": 3, "device: wrong-run": 1})
    'server: deadline-passed 3, device: wrong-run 1'
    """
    return ", ".join(f"{reason} {count}" for reason, count in reasons.items())


def count_shapes(endings: npt.NDArray[np.int8], *, turned_away: int, not_eligible: int) -> dict[str, int]:
    """How many sessions had each shape, the frequent ones first.

    >>> count_shapes(np.array([0, 0, 3], np.int8), turned_away=4, not_eligible=0)
    {'-#': 4, '-v[]+^': 2, '-v[!': 1}
    """
    counts = dict(zip(SHAPES.values(), np.bincount(endings, minlength=len(SHAPES)).tolist(), strict=True))
    counts |= {TURNED_AWAY: turned_away, NOT_ELIGIBLE: not_eligible}
    return {shape: count for shape, count in sorted(counts.items(), key=lambda item: -item[1]) if count}
