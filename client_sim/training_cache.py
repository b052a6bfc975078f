"""What a device keeps to learn from: the newest examples, at most so many, and none older than it may be."""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from client_sim.data.loader import Example

DAY_S = 86_400.0


@dataclass(frozen=True, slots=True)
class _Kept:
    example: Example
    collected_s: float


class TrainingCache:
    """A bounded, expiring store of one device's examples; what leaves it is gone.

    Args:
      most_examples: the oldest gives way to a new one beyond that.
      longest_s: an example is forgotten that long after it was collected.

    Guarantee: `examples(now_s)` never returns an example collected more than `longest_s` before `now_s`.

    >>> cache = TrainingCache(most_examples=2, longest_s=10.0)
    >>> for at_s in (0.0, 1.0, 6.0): cache.add({"text": str(at_s)}, at_s)
    >>> [row["text"] for row in cache.examples(7.0)], [row["text"] for row in cache.examples(12.0)]
    (['1.0', '6.0'], ['6.0'])
    """

    def __init__(self, *, most_examples: int, longest_s: float = 30 * DAY_S) -> None:
        if most_examples < 1:
            raise ValueError(f"most_examples must be at least 1, not {most_examples}")
        if not longest_s > 0:
            raise ValueError(f"longest_s must be above 0, not {longest_s}")
        self._kept: deque[_Kept] = deque(maxlen=most_examples)
        self._longest_s = longest_s

    def __len__(self) -> int:
        """Examples kept, expired ones that were not asked for since included."""
        return len(self._kept)

    def add(self, example: Example, collected_s: float) -> None:
        """Keeps `example`; times never go back.

        Raises:
          ValueError: if `collected_s` lies before the newest example.
        """
        if self._kept and collected_s < self._kept[-1].collected_s:
            raise ValueError(f"an example of {collected_s} came after one of {self._kept[-1].collected_s}")
        self._kept.append(_Kept(example, collected_s))

    def examples(self, now_s: float) -> Sequence[Example]:
        """What is left at `now_s`, oldest first; what has expired is dropped for good."""
        while self._kept and now_s - self._kept[0].collected_s > self._longest_s:
            self._kept.popleft()
        return [kept.example for kept in self._kept]

    def clear(self) -> None:
        """Forgets everything, as when the user asks for it."""
        self._kept.clear()
