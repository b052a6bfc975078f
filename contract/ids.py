"""Names for the things that both sides of a wire speak of."""

from typing import NewType

Population = NewType("Population", str)
"""Devices that share budgets and separation, such as `keyboard-en`."""

RunId = NewType("RunId", str)
"""Hex SHA-256 of (task digest, ordinal of this run for that task)."""

Digest = NewType("Digest", str)
"""Lower-case hex SHA-256."""

DeviceIndex = NewType("DeviceIndex", int)
"""Position of a simulated device in its population. It exists in the simulator only and never on the wire."""

SessionId = NewType("SessionId", str)
"""Random, one per check-in; says nothing about which device it is."""

AggregationId = NewType("AggregationId", str)
"""Names a round's aggregation, of one group where there are several, never a device."""


def aggregation_id(run: str, round_index: int, *, group: int = 0, groups: int = 1) -> AggregationId:
    """The name of one group's aggregation.

    >>> aggregation_id("ab" * 32, 3), aggregation_id("ab" * 32, 3, group=1, groups=2)
    ('abababababababab/3', 'abababababababab/3/1')
    """
    return AggregationId(f"{run[:16]}/{round_index}" + (f"/{group}" if groups > 1 else ""))


def group_of(aggregation: AggregationId) -> int:
    """The group that an aggregation's name says; 0 where it says none.

    Raises:
      ValueError: for a third part that is no number.

    >>> group_of(AggregationId("abababababababab/3")), group_of(AggregationId("abababababababab/3/1"))
    (0, 1)
    """
    parts = aggregation.split("/")
    if len(parts) < 3:
        return 0
    if not parts[2].isdecimal() or not parts[2].isascii() or len(parts) > 3:
        raise ValueError(f"no group in the aggregation {aggregation!r}")
    return int(parts[2])
