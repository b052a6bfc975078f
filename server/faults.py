"""Places in a round where a test may stop the server: between any two of them lies a promise that must hold after a crash."""

from collections.abc import Callable
from enum import Enum
from typing import TypeAlias


class FaultPoint(Enum):
    """In the order of a round."""

    AFTER_CHECK_IN = "after-check-in"
    AFTER_COLLECTION = "after-collection"
    BEFORE_CHARGE = "before-charge"
    AFTER_CHARGE = "after-charge"
    AFTER_NOISE = "after-noise"
    BEFORE_COMMIT = "before-commit"
    AFTER_COMMIT = "after-commit"
    BEFORE_PUBLISH = "before-publish"


FaultHook: TypeAlias = Callable[[FaultPoint, int], None]
"""Called with the point and the round's index."""


def no_faults(_point: FaultPoint, _round_index: int) -> None:
    """Production: nothing happens."""
