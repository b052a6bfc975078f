"""One run as its ledger entries tell it: what was registered, charged, released, measured."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from privacy import events
from privacy.ledger import measured
from privacy.ledger.entries import EntryKind
from privacy.ledger.measured import parts_of

__all__ = ["Facts", "RunRecord", "actual_event", "of", "parts_of", "read"]

Facts = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRecord:
    """The entries of one run, by kind and in order."""

    registered: Facts
    charges: Sequence[Facts]
    outcomes: Sequence[Facts]
    released: Sequence[Facts]
    tuned: Sequence[Facts]
    """Looks at private statistics of their own; `followed` are those that released sums cover."""
    audits: Sequence[Facts]
    checked: Sequence[Facts]
    approvals: Sequence[Facts]
    transcripts: Sequence[Facts]
    latest: Facts | None
    """The newest charge or committed outcome: what it holds is cumulative."""
    followed: Sequence[Facts] = ()

    @property
    def task(self) -> Facts:
        """The task as it was registered; its numbers that are no integers are decimal strings."""
        return self.registered["task"]

    @property
    def delta(self) -> float | None:
        """At which epsilon is asked for."""
        delta = self.task["privacy"].get("delta")
        return float(delta) if delta else None

    @property
    def devices(self) -> tuple[int, str] | None:
        """How many devices delta is to be held against, and of what; None where devices come by themselves.

        Under Poisson sampling the number in the data is secret: the one that the task plans for stands in for it.
        """
        privacy, goal = self.task["privacy"], self.task.get("cohort", {}).get("report_goal")
        if privacy.get("sampling") == "poisson" and privacy.get("sampling_rate") and goal:
            return round(float(goal) / float(privacy["sampling_rate"])), "that the task plans for (report_goal / sampling_rate)"
        devices = self.registered["facts"].get("devices")
        return None if devices is None else (int(devices), "of the data")

    @property
    def event(self) -> Facts | None:
        """Everything that was charged, as one cumulative event; None before the first charge."""
        return None if self.latest is None else self.latest["event"]

    @property
    def colluding(self) -> Facts | None:
        """The same against a server that some devices give their noise to; None where no such claim is made."""
        return None if self.latest is None else self.latest.get("colluding")

    @property
    def planned_colluding(self) -> Facts | None:
        """What all planned rounds would cost by that claim."""
        return self.registered["facts"].get("planned_colluding")

    @property
    def claims_collusion(self) -> bool:
        """Whether anything is promised against a server that colludes with devices, by what was charged, before that by what is planned."""
        event = self.planned_colluding if self.latest is None else self.colluding
        return event is not None and all(part["kind"] != events.UnboundedEvent.kind for part in parts_of(event))

    @property
    def committed(self) -> Sequence[Facts]:
        """Outcomes with a model."""
        return [facts for facts in self.outcomes if facts["result"] == "committed"]

    @property
    def open_round(self) -> int | None:
        """The newest round if it is charged and has no outcome yet, so that it counts at its worst case; else None."""
        if self.latest is None or any(facts["round"] == self.latest["round"] for facts in self.outcomes):
            return None
        return self.latest["round"]

    @property
    def violated(self) -> Sequence[Facts]:
        """Assumptions that were measured and did not hold."""
        return [facts for facts in self.checked if self.status_of(facts) == measured.VIOLATED]

    def status_of(self, checked: Facts) -> str:
        """What an `assumption-checked` entry comes to: its numbers count for more than its word."""
        return measured.status(checked, self.registered)


def read(bodies: Sequence[bytes]) -> RunRecord:
    """The record in the bodies of one run's entries, in order.

    Raises:
      ValueError: if no run was registered among them, or more than one.
    """
    return of([json.loads(body) for body in bodies])


def of(entries: Sequence[Facts]) -> RunRecord:
    """The record in the fields of one run's entries, in order.

    Raises:
      ValueError: if no run was registered among them, or more than one.
    """
    registered = [facts for facts in entries if facts["kind"] == EntryKind.RUN_REGISTERED.value]
    if not registered:
        raise ValueError("no run-registered entry among these")
    if len(registered) > 1:
        raise ValueError(f"{len(registered)} runs among entries that should be of one")

    def all_of(kind: EntryKind) -> list[Facts]:
        return [facts for facts in entries if facts["kind"] == kind.value]

    costly = (EntryKind.ROUND_CHARGED.value, EntryKind.ROUND_OUTCOME.value)
    charged = [facts for facts in entries if facts["kind"] in costly and "event" in facts]
    return RunRecord(
        registered=registered[0],
        charges=all_of(EntryKind.ROUND_CHARGED),
        outcomes=all_of(EntryKind.ROUND_OUTCOME),
        released=all_of(EntryKind.MODEL_RELEASED),
        tuned=[facts for facts in all_of(EntryKind.PARAMETER_TUNED) if "covered_by" not in facts],
        followed=[facts for facts in all_of(EntryKind.PARAMETER_TUNED) if "covered_by" in facts],
        audits=all_of(EntryKind.AUDIT_RECORDED),
        checked=all_of(EntryKind.ASSUMPTION_CHECKED),
        approvals=all_of(EntryKind.APPROVAL),
        transcripts=all_of(EntryKind.SECAGG_TRANSCRIPT),
        latest=charged[-1] if charged else None,
    )


def actual_event(event: Facts | None, record: RunRecord) -> Facts | None:
    """`event` as it was, not as it was planned: `measured.actual_event`."""
    return measured.actual_event(event, registered=record.registered, checked=record.checked)
