"""Whether entries tell a possible story: runs before charges, charges before reveals, one mechanism a run, one outcome a round."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from contract import canonical
from privacy import events, tree_sensitivity
from privacy.ledger.entries import EntryKind
from privacy.ledger.noised_sums import NoisedSums
from privacy.ledger.problems import LedgerProblem, ProblemKind

_GROWS = frozenset(
    {
        "leaves",
        "releases",
        "draws",
        "distance_log2",
        "contributors",
        "participations",
        "column_norm_squared",
        "numerical_inflation",
    }
)
"""Fields of a cumulative event that may change from round to round."""


@dataclass(slots=True)
class _Run:
    """Where a run stands after the entries so far."""

    population: str
    planned: Mapping[str, Any]
    next_round: int = 0
    next_leaf: int = 0
    open_charge: Mapping[str, Any] | None = None
    models: set[str] = field(default_factory=set[str])
    committed: set[int] = field(default_factory=set[int])
    cohort: Mapping[str, Any] = field(default_factory=dict[str, Any])
    sums: NoisedSums = field(default_factory=NoisedSums)
    follows: frozenset[str] = frozenset()
    """Parameters that may follow released sums."""
    colludes: bool = False
    """Whether its first entry makes a claim against a colluding server, so that every charge has to."""
    summed: list[int] = field(default_factory=list[int])
    """For each leaf that is used up, how many contributions are in its sum at least, in the smallest where there are several."""


class History:
    """Reads entries in order and collects what cannot be."""

    def __init__(self) -> None:
        self.problems: list[LedgerProblem] = []
        self._runs: dict[str, _Run] = {}
        self._ordinals: dict[str, int] = {}

    def add(self, index: int, facts: Mapping[str, Any]) -> None:
        """The next entry, whose form has been checked."""
        kind = EntryKind(facts["kind"])
        if kind is EntryKind.RUN_REGISTERED:
            self._registered(index, facts)
            return
        if kind is EntryKind.PARAMETER_TUNED and facts["event"] is not None:
            self._parsed(index, facts["event"])
        if facts.get("run") is None:
            return
        run = self._runs.get(facts["run"])
        if run is None:
            self._complain(
                ProblemKind.WITHOUT_RUN, index, f"a {kind.value} entry for run {facts['run'][:12]}, which nobody registered"
            )
            return
        if run.population != facts["population"]:
            self._complain(
                ProblemKind.WITHOUT_RUN, index,
                f"run {facts['run'][:12]} belongs to population {run.population}, not {facts['population']}",
            )  # fmt: skip
        if kind is EntryKind.ROUND_CHARGED:
            self._charged(index, facts, run)
        elif kind is EntryKind.ROUND_OUTCOME:
            self._outcome(index, facts, run)
        elif kind is EntryKind.PARAMETER_TUNED and "covered_by" in facts:
            if facts["parameter"] not in run.follows:
                detail = f"{facts['parameter']} is said to follow released sums, which this task does not ask for"
                self._complain(ProblemKind.UNDERCHARGED, index, detail)
            elif facts["covered_by"] not in run.committed:
                detail = f"{facts['parameter']} is said to follow round {facts['covered_by']}, which has no outcome"
                self._complain(ProblemKind.UNDERCHARGED, index, detail)
        elif kind in (EntryKind.MODEL_RELEASED, EntryKind.AUDIT_RECORDED) and facts["model_digest"] not in run.models:
            self._complain(
                ProblemKind.MODEL_WITHOUT_ENTRY, index, f"model {facts['model_digest'][:12]} is no committed model of its run"
            )

    def _registered(self, index: int, facts: Mapping[str, Any]) -> None:
        name, digest = facts["run"], facts["task_digest"]
        ordinal = self._ordinals.get(digest, 0)
        self._ordinals[digest] = ordinal + 1
        if name in self._runs:
            self._complain(ProblemKind.RUN_TWICE, index, f"run {name[:12]} was registered before")
            return
        if canonical.digest(facts["task"]) != digest:
            self._complain(ProblemKind.TASK_DIGEST, index, f"the task of run {name[:12]} has another digest than {digest[:12]}")
        if canonical.digest({"task": digest, "ordinal": ordinal}) != name:
            self._complain(
                ProblemKind.RUN_ID,
                index,
                f"run {name[:12]} is not number {ordinal} of task {digest[:12]}: one is missing or out of place",
            )
        self._parsed(index, facts["planned"])
        if "planned_colluding" in facts["facts"]:
            self._parsed(index, facts["facts"]["planned_colluding"])
        self._runs[name] = _Run(
            population=facts["population"], planned=facts["planned"], models={str(facts["facts"].get("start_digest"))},
            cohort=facts["task"].get("cohort", {}), sums=self._sums(index, facts["task"]),
            colludes="planned_colluding" in facts["facts"], follows=_follows(facts["task"]),
        )  # fmt: skip

    def _sums(self, index: int, task: Mapping[str, Any]) -> NoisedSums:
        try:
            return NoisedSums.of(task)
        except (ValueError, TypeError, AttributeError) as error:
            self._complain(ProblemKind.MALFORMED, index, f"the task has no sums: {error}")
            return NoisedSums()

    def _charged(self, index: int, facts: Mapping[str, Any], run: _Run) -> None:
        if run.open_charge is not None:
            self._complain(ProblemKind.CHARGE_OPEN, index, f"round {run.open_charge['round']} was charged and has no outcome")
        if (facts["round"], facts["leaf"]) != (run.next_round, run.next_leaf):
            self._complain(
                ProblemKind.OUT_OF_ORDER, index,
                f"round {facts['round']} at leaf {facts['leaf']} is charged where round {run.next_round} at leaf {run.next_leaf} is due",
            )  # fmt: skip
        self._event(index, facts, run, count=facts["floor"])
        run.open_charge = facts

    def _event(self, index: int, facts: Mapping[str, Any], run: _Run, *, count: int) -> None:
        event = facts["event"]
        if not self._parsed(index, event):
            return
        if _fixed(event) != _fixed(run.planned):
            self._complain(
                ProblemKind.MECHANISM_CHANGED, index, "the event is of another mechanism than the one that was registered"
            )
        covered = _releases(event)
        summed = [*run.summed, count]
        self._contributors(index, event, summed, run)
        if "colluding" in facts and self._parsed(index, facts["colluding"]):
            self._contributors(index, facts["colluding"], [max(0, one - run.sums.corrupt) for one in summed], run)
        elif run.colludes and "colluding" not in facts:
            self._complain(ProblemKind.UNDERCHARGED, index, "the claim against a colluding server is left out")
        if covered is not None and covered < facts["leaf"] + 1:
            self._complain(
                ProblemKind.UNDERCHARGED,
                index,
                f"the event covers {covered} releases, and leaf {facts['leaf']} is one of {facts['leaf'] + 1}",
            )

    def _outcome(self, index: int, facts: Mapping[str, Any], run: _Run) -> None:
        charge, run.open_charge = run.open_charge, None
        fits = charge is not None and (charge["round"], charge["leaf"]) == (facts["round"], facts["leaf"])
        if facts["result"] == "committed":
            if charge is None or not fits:
                self._complain(
                    ProblemKind.REVEAL_WITHOUT_CHARGE, index, f"round {facts['round']} has a model and was never charged"
                )
            elif facts["reported"] < charge["floor"]:
                self._complain(
                    ProblemKind.BELOW_FLOOR,
                    index,
                    f"{facts['reported']} contributions are fewer than the floor of {charge['floor']}",
                )
            count = run.sums.fewest(facts["reported"], floor=0 if charge is None else charge["floor"])
            self._event(index, facts, run, count=count)
            run.summed.append(count)
            run.models.add(facts["model_digest"])
            run.committed.add(facts["round"])
            run.next_leaf = facts["leaf"] + 1
        else:
            if facts["leaf_used"] != fits:
                said = "used" if facts["leaf_used"] else "not used"
                self._complain(ProblemKind.OUT_OF_ORDER, index, f"the leaf of round {facts['round']} is said to be {said}")
            if not fits and facts["round"] != run.next_round:
                self._complain(
                    ProblemKind.OUT_OF_ORDER, index, f"round {facts['round']} ends where round {run.next_round} is due"
                )
            run.next_leaf = facts["leaf"] + int(facts["leaf_used"])
            if facts["leaf_used"] and charge is not None:
                run.summed.append(charge["floor"])
        run.next_round = facts["round"] + 1

    def _contributors(self, index: int, event: Mapping[str, Any], summed: list[int], run: _Run) -> None:
        """Noise comes from those who are in the sums: no event may count more of them, or fewer sums that hold a device."""
        parts = [part for part in event.get("parts", [event]) if "contributors" in part]
        if not parts:
            return
        try:
            times = tree_sensitivity.most_participations(
                leaves=len(summed),
                minimum_separation=run.cohort.get("minimum_separation", 0),
                max_participations=run.cohort.get("max_participations"),
            )
        except (ValueError, TypeError) as error:
            self._complain(ProblemKind.MALFORMED, index, f"the task has no schedule: {error}")
            return
        fewest = sorted(summed)[:times]
        for part in parts:
            claimed = sorted(part["contributors"])
            too_many = any(one > other for one, other in zip(claimed, fewest, strict=False))
            if too_many or len(claimed) < times or part["participations"] < times:
                detail = f"the event counts the noise of {claimed} devices, and the sums hold {fewest}"
                self._complain(ProblemKind.UNDERCHARGED, index, detail)

    def _parsed(self, index: int, event: Mapping[str, Any]) -> bool:
        try:
            events.from_json(event)
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            self._complain(ProblemKind.MALFORMED, index, f"no event that can be priced: {error}")
            return False
        return True

    def _complain(self, kind: ProblemKind, index: int, detail: str) -> None:
        self.problems.append(LedgerProblem(kind=kind, entry=index, detail=detail))


def _follows(task: Mapping[str, Any]) -> frozenset[str]:
    """The parameters that follow released sums where a task asks for that: anything else was looked up elsewhere."""
    privacy, aggregation = task.get("privacy", {}), task.get("aggregation", {})
    found = set[str]()
    if privacy.get("adaptive_clip") is not None:
        found |= {"clip_norm", "clip_bits", "bit_devices"}
    if privacy.get("adaptive_zeroing") is not None:
        found |= {"zeroing_quantile", "zeroing_bits", "bit_devices"}
    return frozenset(found | ({"scale"} if aggregation.get("scale") == "auto" else set()))


def _fixed(event: Mapping[str, Any]) -> dict[str, Any]:
    """What of an event must not change during a run, the events inside it included."""
    fixed = {name: value for name, value in event.items() if name not in _GROWS}
    if "release" in fixed:
        fixed["release"] = _fixed(fixed["release"])
    if "parts" in fixed:
        fixed["parts"] = [_fixed(part) for part in fixed["parts"]]
    return fixed


def _releases(event: Mapping[str, Any]) -> int | None:
    """How many releases a cumulative event covers; None where the event does not count them."""
    if "parts" in event:
        counts = [count for part in event["parts"] if (count := _releases(part)) is not None]
        return min(counts, default=None)
    if "release" in event:
        return _releases(event["release"])
    count = event.get("leaves", event.get("releases"))
    return count if isinstance(count, int) else None
