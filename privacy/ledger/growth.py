"""What of a cumulative event may change during a run: how much has been released, and that only upwards.

Events that agree in everything else are ordered: more releases, draws or participations cost no less, nor do fewer contributors to the sums
that hold a unit. So an event that has grown from another covers it, without a price of either.
"""

from collections.abc import Mapping, Sequence
from typing import Any

Facts = Mapping[str, Any]

_RISING = ("leaves", "releases", "draws", "participations")
_GROWS = frozenset({*_RISING, "contributors"})
_INSIDE = ("release", "trial")


def fixed(event: Facts) -> dict[str, Any]:
    """What of an event must not change during a run, the events inside it included.

    >>> fixed({"kind": "tree", "leaves": 3, "noise_multiplier": "7"})
    {'kind': 'tree', 'noise_multiplier': '7'}
    """
    kept = {name: value for name, value in event.items() if name not in _GROWS}
    for name in _INSIDE:
        if name in kept:
            kept[name] = fixed(kept[name])
    if "parts" in kept:
        kept["parts"] = [fixed(part) for part in kept["parts"]]
    return kept


def shrunk(before: Facts, after: Facts) -> str | None:
    """The field in which `after` covers less than `before`, None if there is none; both have the same fixed part.

    >>> shrunk({"leaves": 3, "draws": 9}, {"leaves": 4, "draws": 8})
    'draws'
    >>> shrunk({"contributors": [18, 20]}, {"contributors": [20, 18, 25]}), shrunk({"contributors": [18]}, {"contributors": [19]})
    (None, 'contributors')
    """
    for name in _RISING:
        if after.get(name, 0) < before.get(name, 0):
            return name
    if not _as_few(before.get("contributors", ()), after.get("contributors", ())):
        return "contributors"
    inside = [(before[name], after[name]) for name in _INSIDE if name in before]
    inside += list(zip(before.get("parts", ()), after.get("parts", ()), strict=True))
    return next((name for pair in inside if (name := shrunk(*pair)) is not None), None)


def covers(event: Facts, other: Facts) -> bool:
    """Whether `event` certainly costs no less than `other`: it has grown from it."""
    return fixed(event) == fixed(other) and shrunk(other, event) is None


def releases(event: Facts) -> int | None:
    """How many releases a cumulative event covers; None where the event does not count them."""
    if "parts" in event:
        counts = [count for part in event["parts"] if (count := releases(part)) is not None]
        return min(counts, default=None)
    for name in _INSIDE:
        if name in event:
            return releases(event[name])
    count = event.get("leaves", event.get("releases"))
    return count if isinstance(count, int) else None


def _as_few(before: Sequence[int], after: Sequence[int]) -> bool:
    """Whether there are as many sums as before, and the smallest of them hold no more."""
    pairs = zip(sorted(before), sorted(after), strict=False)
    return len(after) >= len(before) and all(new <= old for old, new in pairs)
