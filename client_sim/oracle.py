"""What only a simulation can see: whether separation and cap were kept by every device over the whole history."""

import hashlib
import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

_NEVER = -1
SEPARATION, PARTICIPATIONS = "separation", "participations"
"""The rules that a `Violation` names."""


@dataclass(frozen=True, slots=True)
class Violation:
    """A device that took part in release `later` too soon after `earlier`, or once too often (`earlier` is then its last one)."""

    device: int
    earlier: int
    later: int
    rule: str


class ParticipationOracle:
    """Watches whose updates are in which release; it shares nothing with the records that are meant to prevent violations.

    Args:
      num_devices: devices are 0..num_devices - 1.
      minimum_separation: releases strictly between two participations of a device.
      max_participations: the cap, None for none.

    >>> oracle = ParticipationOracle(num_devices=2, minimum_separation=1, max_participations=None)
    >>> for release in (0, 1): oracle.observe(release, np.array([1]))
    >>> oracle.violations
    (Violation(device=1, earlier=0, later=1, rule='separation'),)
    """

    MOST_KEPT = 1000

    def __init__(self, *, num_devices: int, minimum_separation: int, max_participations: int | None) -> None:
        self._minimum_separation = minimum_separation
        self._max_participations = max_participations
        self._last: npt.NDArray[np.int64] = np.full(num_devices, _NEVER, np.int64)
        self._count: npt.NDArray[np.int64] = np.zeros(num_devices, np.int64)
        self._kept: list[Violation] = []
        self._evidence = hashlib.sha256().digest()
        self._broken: dict[str, int] = {SEPARATION: 0, PARTICIPATIONS: 0}
        self.smallest_separation: int | None = None
        """Fewest releases strictly between two participations of any device; None while no device took part twice."""

    @property
    def most_participations(self) -> int:
        """Of any one device."""
        return int(self._count.max(initial=0))

    @property
    def violations(self) -> tuple[Violation, ...]:
        """The first violations seen, `MOST_KEPT` at most: examples. `num_violations` counts all, `broken` names every rule."""
        return tuple(self._kept)

    @property
    def num_violations(self) -> int:
        """Of all rules together."""
        return sum(self._broken.values())

    @property
    def broken(self) -> frozenset[str]:
        """Every rule that any device broke, however often others were broken before."""
        return frozenset(rule for rule, times in self._broken.items() if times)

    @property
    def evidence(self) -> str:
        """Hex SHA-256 of a chain over (release, devices) in the order observed."""
        return self._evidence.hex()

    def observe(self, release: int, devices: npt.NDArray[np.int64]) -> None:
        """Notes that the updates of `devices`, int64 of shape (n,), are in `release`."""
        ordered = np.sort(devices)
        link = self._evidence + f"{release}:{len(ordered)};".encode() + ordered.astype("<i8").tobytes()
        self._evidence = hashlib.sha256(link).digest()
        last = self._last[ordered]
        between = release - last - 1
        known = last != _NEVER
        if known.any():
            smallest = int(between[known].min())
            self.smallest_separation = smallest if self.smallest_separation is None else min(smallest, self.smallest_separation)
        self._note(SEPARATION, release, ordered, known & (between < self._minimum_separation))
        self._note(SEPARATION, release, ordered[1:], ordered[1:] == ordered[:-1])
        np.add.at(self._count, ordered, 1)
        if self._max_participations is not None:
            self._note(PARTICIPATIONS, release, ordered, self._count[ordered] > self._max_participations)
        self._last[ordered] = release

    def dump(self) -> bytes:
        """Everything it knows, for `load`."""
        facts = {
            "evidence": self.evidence,
            "broken": self._broken,
            "smallest_separation": self.smallest_separation,
            "kept": [[kept.device, kept.earlier, kept.later, kept.rule] for kept in self._kept],
        }
        return json.dumps(facts).encode() + b"\n" + np.stack([self._last, self._count]).tobytes()

    def load(self, dumped: bytes) -> None:
        """Goes on from what `dump` gave.

        Raises:
          ValueError: if it was dumped over another number of devices.
        """
        head, _, body = dumped.partition(b"\n")
        columns = np.frombuffer(body, np.int64)
        if len(columns) != 2 * len(self._last):
            raise ValueError(f"a dump over {len(columns) // 2} devices does not fit {len(self._last)}")
        facts = json.loads(head)
        self._evidence = bytes.fromhex(facts["evidence"])
        self._broken, self.smallest_separation = _counts(facts), facts["smallest_separation"]
        self._kept = [Violation(*kept) for kept in facts["kept"]]
        half = len(columns) // 2
        self._last, self._count = columns[:half].copy(), columns[half:].copy()

    def _note(self, rule: str, release: int, devices: npt.NDArray[np.int64], wrong: npt.NDArray[np.bool_]) -> None:
        guilty = devices[wrong]
        self._broken[rule] += len(guilty)
        for device in guilty[: self.MOST_KEPT - len(self._kept)].tolist():
            self._kept.append(Violation(device, int(self._last[device]), release, rule))


def _counts(facts: Mapping[str, Any]) -> dict[str, int]:
    """How often each rule was broken. Older dumps hold the sum and examples only: what the examples leave open may be of any rule."""
    if "broken" in facts:
        return dict(facts["broken"])
    seen = Counter(rule for *_, rule in facts["kept"])
    more = int(facts["num_violations"]) - seen.total()
    return {rule: seen[rule] + more for rule in (SEPARATION, PARTICIPATIONS)}
