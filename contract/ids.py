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
"""Names a round's aggregation, never a device."""
