"""Whose noise is in a run's sums, as its task says: how a cohort is split, and how many devices of a sum may show their noise."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from contract.collusion import colluding_devices


@dataclass(frozen=True, slots=True, kw_only=True)
class NoisedSums:
    """The sums of one round.

    Args:
      groups: of a cohort, each with a sum of its own, which the server sees.
      roster: the most devices that one sum holds; None where nothing is split, and nothing depends on it.
      corrupt: devices of one sum whose noise a colluding server knows.

    >>> split = {"secure": True, "group_size": 100, "corrupt_fraction": "0.05"}
    >>> sums = NoisedSums.of({"cohort": {"report_goal": 200}, "aggregation": split})
    >>> sums.corrupt, [sums.fewest(count, floor=80) for count in (200, 190, 95)]
    (5, [100, 90, 80])
    """

    groups: int = 1
    roster: int | None = None
    corrupt: int = 0

    @classmethod
    def of(cls, task: Mapping[str, Any]) -> "NoisedSums":
        """The sums of a task as its first entry holds it.

        Raises:
          ValueError: for sizes that are no positive integers, or a fraction outside [0, 1).
        """
        aggregation, goal = task.get("aggregation", {}), task.get("cohort", {}).get("report_goal")
        if not aggregation.get("secure") or goal is None:
            return cls()
        size, fraction = aggregation.get("group_size"), float(aggregation.get("corrupt_fraction", 0))
        if any(type(one) is not int or one < 1 for one in (goal, size or goal)) or not 0 <= fraction < 1:
            raise ValueError(f"no cohort of {goal} in groups of {size} with a corrupt fraction of {fraction}")
        groups = 1 if size is None else -(-goal // size)
        return cls(groups=groups, roster=goal // groups, corrupt=colluding_devices(fraction, goal // groups))

    def fewest(self, count: int, *, floor: int) -> int:
        """A number of devices that each of a round's sums holds at least, when `count` are in all of them.

        Args:
          floor: no sum has fewer.
        """
        if self.groups == 1 or self.roster is None:
            return count
        return max(floor, count - (self.groups - 1) * self.roster)
