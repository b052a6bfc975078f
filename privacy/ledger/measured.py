"""What stands of a run's claim once its assumptions were looked at: an event as it was, not as it was planned.

A number on the record counts for more than the word beside it: an entry that calls an assumption checked, and whose numbers say that it was
broken, is believed in neither.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from privacy import curves, events
from privacy.events import Event, UnboundedEvent

Facts = Mapping[str, Any]

CHECKED, VIOLATED = "checked", "violated"
KNOWN_SEED = "the noise came from a seed that is known, so it hides nothing"


def noise_is_known(registered: Facts) -> bool:
    """Whether a run's registration says that a seed fixed its noise."""
    return "noise" in registered.get("seeded", ())


def status(checked: Facts, registered: Facts) -> str:
    """What an `assumption-checked` entry comes to: violated by its own word, or by its numbers held against the task's.

    >>> status({"assumption": "minimum-separation", "status": "checked", "measured": {"smallest": 0, "required": 5}}, {})
    'violated'
    """
    return VIOLATED if checked["status"] != CHECKED or _contradicted(checked, registered) else CHECKED


def actual_event(event: Facts | None, *, registered: Facts, checked: Sequence[Facts]) -> Facts | None:
    """`event` of a run as it was: a violated separation or cap is priced as it was measured.

    Guarantee: noise from a known seed, and a violation that the event cannot express, make it an event without any guarantee.

    Args:
      event: cumulative, as an entry holds it; None where nothing was charged.
      registered: the run's `run-registered` entry.
      checked: the run's `assumption-checked` entries.
    """
    if event is None:
        return None
    if noise_is_known(registered):
        return _unbounded(event, KNOWN_SEED)
    actual = event
    for facts in checked:
        if status(facts, registered) == CHECKED:
            continue
        name = facts["assumption"]
        if facts["status"] == CHECKED:
            return _unbounded(event, f"{name} is said to be checked, and what was measured says otherwise")
        field, measured = _priced_by(facts)
        if measured is None or not _worse(event, field, measured):
            return _unbounded(event, f"{name} was violated, and no price covers that")
        actual = _changed(actual, field, measured)
    if actual is not event and not _has_price(actual):  # such as a mechanism whose proof needs the separation that was violated
        names = ", ".join(facts["assumption"] for facts in checked if status(facts, registered) == VIOLATED)
        return _unbounded(event, f"{names} was violated, and no price covers that")
    return actual


def read_event(event: Facts, *, of: str) -> Event:
    """The event that an entry holds; one without any guarantee where it holds none that can be read."""
    try:
        return events.from_json(event)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        return UnboundedEvent(reason=f"the event of {of} cannot be read: {error}")


def look(tuned: Facts) -> Event:
    """What the look of a `parameter-tuned` entry costs by itself; without any guarantee where nothing covers it."""
    if tuned["event"] is None:
        return UnboundedEvent(reason=f"{tuned['parameter']} was chosen by looking at {tuned['statistic']}")
    return read_event(tuned["event"], of=f"{tuned['parameter']}, chosen by looking at {tuned['statistic']}")


def parts_of(event: Facts) -> Sequence[Facts]:
    """The events that an event is composed of: itself, unless it names parts."""
    return event.get("parts", [event])


def _contradicted(checked: Facts, registered: Facts) -> bool:
    cohort, measured = registered.get("task", {}).get("cohort", {}), checked["measured"]
    try:
        if checked["assumption"] == "minimum-separation":
            seen = _numbers(measured.get("smallest"), measured.get("smallest_seen"))
            needed = _numbers(measured.get("required"), cohort.get("minimum_separation"))
            return bool(seen) and min(seen) < max(needed, default=0)
        if checked["assumption"] == "max-participations":
            allowed = _numbers(measured.get("allowed"), cohort.get("max_participations"))
            return bool(allowed) and max(_numbers(measured.get("most")), default=0) > min(allowed)
    except (ValueError, TypeError):
        return True  # what cannot be read confirms nothing
    return False


def _numbers(*values: Any) -> list[int]:
    return [int(value) for value in values if value is not None]


def _priced_by(violated: Facts) -> tuple[str, int | None]:
    """The field of an event that expresses a violation, and what it really was; None where none does."""
    field, seen = {
        "minimum-separation": ("minimum_separation", "smallest"), "max-participations": ("max_participations", "most")
    }.get(violated["assumption"], ("", ""))  # fmt: skip
    try:
        return field, int(violated["measured"][seen])
    except (KeyError, ValueError, TypeError):
        return field, None


def _worse(event: Facts, field: str, measured: int) -> bool:
    """Whether every part of an event has the field, and what was measured costs more than what was planned."""

    def dearer(planned: object) -> bool:
        return isinstance(planned, int) and (measured < planned if field == "minimum_separation" else measured > planned)

    return all(dearer(_innermost(part).get(field)) for part in parts_of(event))


def _innermost(event: Facts) -> Facts:
    return _innermost(event["release"]) if "release" in event else event


def _changed(event: Facts, name: str, value: int) -> Facts:
    """`event` with a field as it was measured; never cheaper than what was put there before."""
    if "parts" in event:
        return {**event, "parts": [_changed(part, name, value) for part in event["parts"]]}
    if "release" in event:
        return {**event, "release": _changed(event["release"], name, value)}
    return {**event, name: min(event[name], value) if name == "minimum_separation" else max(event[name], value)}


def _has_price(event: Facts) -> bool:
    try:
        for part in events.simple([events.from_json(event)]):
            curves.curve(part)
    except (ValueError, KeyError, TypeError, AttributeError):
        return False
    return True


def _unbounded(event: Facts, reason: str) -> Facts:
    scope = parts_of(event)[0]
    return {
        "kind": UnboundedEvent.kind,
        "reason": reason,
        **{name: scope[name] for name in ("unit", "adjacency") if name in scope},
    }
