"""Draws the round machine as a Mermaid diagram, by stepping the machine itself; ARCHITECTURE.md holds the result and a test compares."""

from server.rounds import machine
from server.rounds.states import (
    AbandonReason,
    Aggregating,
    Charged,
    CheckedIn,
    Collecting,
    Committed,
    Configured,
    Configuring,
    DeadlinePassed,
    Event,
    Failed,
    Lost,
    Reported,
    RoundFacts,
    Selecting,
    State,
)

_FACTS = RoundFacts(
    index=0, leaf=0, attempt=0, report_goal=2, cohort_target=2, minimum_reports=2, minimum_survivors=2, reporting_s=1.0
)
_STATES: tuple[State, ...] = (
    Selecting(facts=_FACTS, deadline_s=1.0),
    Selecting(facts=_FACTS, deadline_s=1.0, accepted=2),
    Configuring(facts=_FACTS, cohort=2, deadline_s=1.0),
    Collecting(facts=_FACTS, cohort=2, deadline_s=1.0),
    Collecting(facts=_FACTS, cohort=2, deadline_s=1.0, reported=2),
    Aggregating(facts=_FACTS, reported=2),
    Aggregating(facts=_FACTS, reported=2, charged=True),
)
_EVENTS: tuple[Event, ...] = (
    CheckedIn(2, 0.0),
    Lost(1, 0.0),
    Configured(2, 0.0),
    Configured(1, 0.0),
    Reported(2, 0.0),
    DeadlinePassed(1.0),
    Charged(),
    Committed(),
    Failed(AbandonReason.INTERNAL),
)


def mermaid() -> str:
    """The diagram's text: one arrow for each pair of states that some event joins.

    >>> "Aggregating --> Completed: Committed" in mermaid()
    True
    """
    arrows: dict[tuple[str, str], list[str]] = {}
    for state in _STATES:
        for event in _EVENTS:
            try:
                following, _ = machine.step(state, event)
            except machine.IllegalEvent:
                continue
            names = (type(state).__name__, type(following).__name__)
            labels = arrows.setdefault(names, [])
            if names[0] != names[1] and type(event).__name__ not in labels:
                labels.append(type(event).__name__)
    lines = [f"    {a} --> {b}: {', '.join(labels)}" for (a, b), labels in arrows.items() if a != b]
    return "\n".join(["stateDiagram-v2", "    [*] --> Selecting", *lines, "    Completed --> [*]", "    Abandoned --> [*]"])


if __name__ == "__main__":
    import sys

    sys.stdout.write(mermaid() + "\n")
