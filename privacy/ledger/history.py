"""Whether entries tell a possible story: runs before charges, charges before reveals, one mechanism a run, one outcome a round."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias, TypeGuard, cast

from contract import canonical
from contract.task import TaskFormError, TaskSpec, parse_mapping
from privacy import events, tree_sensitivity
from privacy.ledger import growth, task_bound
from privacy.ledger.entries import EntryKind
from privacy.ledger.noised_sums import NoisedSums
from privacy.ledger.problems import LedgerProblem, ProblemKind

LengthOf: TypeAlias = Callable[[TaskSpec], int | None]
"""The number of parameters of a task's model; None where it is not known."""


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
    colluding: Mapping[str, Any] | None = None
    """The planned claim against a colluding server, where the first entry makes one: then every charge has to."""
    summed: list[int] = field(default_factory=list[int])
    """For each leaf that is used up, how many contributions are in its sum at least, in the smallest where there are several."""
    floor: int | None = None
    """The fewest contributions of a round, as the task says; None for a task that cannot be read."""
    settled: dict[str, Mapping[str, Any]] = field(default_factory=dict[str, Mapping[str, Any]])
    """The latest claims that no outcome will correct any more, by name (`event`, `colluding`): no later one covers less."""


class History:
    """Reads entries in order and collects what cannot be."""

    def __init__(
        self, *, whole_tasks: bool = False, length_of: LengthOf | None = None, lengths: Mapping[str, int] | None = None
    ) -> None:
        """With `whole_tasks`, a task that this version cannot read is a problem too: nothing holds its events.

        `lengths` are those of parameters that the caller has in hand, by their digest.
        """
        self._whole_tasks, self._length_of, self._lengths = whole_tasks, length_of, lengths or {}
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
        run = _Run(
            population=facts["population"], planned=facts["planned"], models={str(facts["facts"].get("start_digest"))},
            cohort=facts["task"].get("cohort", {}), sums=self._sums(index, facts["task"]),
            colluding=facts["facts"].get("planned_colluding"), follows=_follows(facts["task"]),
        )  # fmt: skip
        self._runs[name] = run
        if not self._parsed(index, run.planned):
            run.planned = {}
            return
        if run.colluding is not None:
            if self._parsed(index, run.colluding):
                self._dearer(index, run.planned, run.colluding)
            else:
                run.colluding = {}
        elif run.sums.corrupt and any("contributors" in part for part in run.planned.get("parts", [run.planned])):
            detail = f"{run.sums.corrupt} devices of a sum may be corrupt, and no claim against a colluding server is planned"
            self._complain(ProblemKind.UNDERCHARGED, index, detail)
        self._task(index, facts, run)

    def _task(self, index: int, facts: Mapping[str, Any], run: _Run) -> None:
        """Holds what was registered to the text of its task."""
        try:
            spec = parse_mapping(facts["task"])
        except TaskFormError as error:
            if self._whole_tasks:
                detail = f"the task cannot be read, so that nothing holds its events: {error}"
                self._complain(ProblemKind.OTHER_THAN_TASK, index, detail)
            return
        run.floor = spec.fewest_contributions
        colluding = events.from_json(run.colluding) if run.colluding else None
        known = None if self._length_of is None else self._length_of(spec)
        length = self._lengths.get(str(facts["facts"].get("start_digest")), known)
        if known not in (None, length):
            self._complain(
                ProblemKind.OTHER_THAN_TASK, index, f"the start has {length} parameters, and the task's model {known}"
            )
        for fault in task_bound.faults(spec, facts, events.from_json(run.planned), colluding, length=length):
            self._complain(ProblemKind.OTHER_THAN_TASK, index, fault)

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
        if run.floor is not None and facts["floor"] > run.floor:
            detail = f"the charge counts on {facts['floor']} contributions, and the task promises {run.floor}"
            self._complain(ProblemKind.UNDERCHARGED, index, detail)
        self._event(index, facts, run, count=facts["floor"])
        run.open_charge = facts

    def _event(self, index: int, facts: Mapping[str, Any], run: _Run, *, count: int) -> None:
        event = facts["event"]
        if not self._parsed(index, event):
            return
        summed = [*run.summed, count]
        self._claim(index, facts, run, "event", planned=run.planned)
        self._contributors(index, event, summed, run)
        colluding = facts.get("colluding")
        if colluding is None:
            if run.colluding is not None:
                self._complain(ProblemKind.UNDERCHARGED, index, "the claim against a colluding server is left out")
        elif run.colluding is None:
            detail = "there is a claim against a colluding server, and none was registered"
            self._complain(ProblemKind.MECHANISM_CHANGED, index, detail)
        elif self._parsed(index, colluding):
            self._claim(index, facts, run, "colluding", planned=run.colluding)
            self._contributors(index, colluding, [max(0, one - run.sums.corrupt) for one in summed], run)
            self._dearer(index, event, colluding)

    def _claim(self, index: int, facts: Mapping[str, Any], run: _Run, name: str, *, planned: Mapping[str, Any]) -> None:
        """One claim of a charge or an outcome: the registered mechanism, all releases so far, and no less than before."""
        event, before = facts[name], run.settled.get(name)
        if growth.fixed(event) != growth.fixed(planned):
            detail = "the event is of another mechanism than the one that was registered"
            self._complain(ProblemKind.MECHANISM_CHANGED, index, detail)
        elif before is not None and (less := growth.shrunk(before, event)) is not None:
            detail = f"the event covers less than the one before it: {less} went from {before.get(less)} to {event.get(less)}"
            self._complain(ProblemKind.UNDERCHARGED, index, detail)
        covered = growth.releases(event)
        if covered is not None and covered < facts["leaf"] + 1:
            detail = f"the event covers {covered} releases, and leaf {facts['leaf']} is one of {facts['leaf'] + 1}"
            self._complain(ProblemKind.UNDERCHARGED, index, detail)

    def _dearer(self, index: int, event: Mapping[str, Any], colluding: Mapping[str, Any]) -> None:
        """A colluding server knows all that a curious one knows."""
        if not growth.covers(colluding, event):
            detail = "the claim against a colluding server is not that against a curious one with noise left out"
            self._complain(ProblemKind.UNDERCHARGED, index, detail)

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
            self._settle(run, facts)
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
                self._settle(run, charge)
        run.next_round = facts["round"] + 1

    def _settle(self, run: _Run, facts: Mapping[str, Any]) -> None:
        """These claims stand; one of another mechanism, which was complained about, is nothing to compare with."""
        for name, planned in (("event", run.planned), ("colluding", run.colluding)):
            claimed = facts.get(name)
            if planned and _is_event(claimed) and growth.fixed(claimed) == growth.fixed(planned):
                run.settled[name] = claimed

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
        fault = _fault(event)
        if fault is not None:
            self._complain(ProblemKind.MALFORMED, index, f"no event that can be priced: {fault}")
        return fault is None

    def _complain(self, kind: ProblemKind, index: int, detail: str) -> None:
        self.problems.append(LedgerProblem(kind=kind, entry=index, detail=detail))


def _fault(event: object) -> str | None:
    """What keeps an entry's event from being one, None for an event."""
    try:
        events.from_json(cast(Mapping[str, Any], event))
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        return str(error)
    return None


def _is_event(event: object) -> TypeGuard[Mapping[str, Any]]:
    return _fault(event) is None


def _follows(task: Mapping[str, Any]) -> frozenset[str]:
    """The parameters that follow released sums where a task asks for that: anything else was looked up elsewhere."""
    privacy, aggregation = task.get("privacy", {}), task.get("aggregation", {})
    found = set[str]()
    if privacy.get("adaptive_clip") is not None:
        found |= {"clip_norm", "clip_bits", "bit_devices"}
    if privacy.get("adaptive_zeroing") is not None:
        found |= {"zeroing_quantile", "zeroing_bits", "bit_devices"}
    return frozenset(found | ({"scale"} if aggregation.get("scale") == "auto" else set()))
