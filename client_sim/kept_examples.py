"""What models made of examples that lie in memory anyway: kept beside them, within a budget, so that it is not made in every round."""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import TypeAlias

from client_sim.data.loader import Example
from trainer import DeviceExamples

Read: TypeAlias = tuple[DeviceExamples, dict[str, float]]
"""A device's examples as a model takes them, and what the filters counted in them."""


class KeptExamples:
    """Remembers what was read from examples that a loader gives out as one and the same tuple again and again.

    A tuple that a loader gives again when it is asked again is its word that it keeps these examples and changes none of them. A list says
    nothing of the kind. A tuple that is made anew for every call would never be met again, and would live only here, many times as large as
    the arrays: from the first such on nothing is kept.

    Args:
      budget_bytes: of the arrays that are kept; what was not asked for the longest gives way.

    >>> import numpy as np
    >>> kept, examples = KeptExamples(100), ({"x": 1},)
    >>> make = lambda _: (DeviceExamples({"x": np.zeros(3)}), {})
    >>> again, anew = lambda: examples, lambda: (*[*examples],)
    >>> kept.read(again, make) is kept.read(again, make), kept.read(anew, make) is kept.read(anew, make)
    (True, False)
    """

    def __init__(self, budget_bytes: int) -> None:
        self._budget, self._bytes = budget_bytes, 0
        # By identity, which stays theirs for as long as they are held here.
        self._kept: OrderedDict[int, tuple[Sequence[Example], Read, int]] = OrderedDict()

    def read(self, ask: Callable[[], Sequence[Example]], make: Callable[[Sequence[Example]], Read]) -> Read:
        """What `make` gives for the examples that `ask` gives, or gave before. Nobody changes it: the arrays are read-only."""
        examples = ask()
        if not (self._budget and isinstance(examples, tuple)):
            return make(examples)
        known = self._kept.get(id(examples))
        if known is not None:
            self._kept.move_to_end(id(examples))
            return known[1]
        if ask() is not examples:
            self._budget = self._bytes = 0
            self._kept.clear()
            return make(examples)
        made = make(examples)
        size = sum(array.nbytes for array in made[0].arrays.values())
        self._kept[id(examples)] = (examples, made, size)
        self._bytes += size
        while self._bytes > self._budget:
            _, (_, _, dropped) = self._kept.popitem(last=False)
            self._bytes -= dropped
        return made
