"""The whole report of a run, of one model, of a plan, or of a population: every number recomputed from ledger entries.

What a reader must not overlook (a seed that is known, an assumption that was violated, an access that nothing covers) comes first.
"""

import hashlib
import json
from collections.abc import Iterator, Sequence
from typing import Any

from privacy.accounting import Price
from privacy.ledger import measured, merkle
from privacy.ledger.entries import EntryKind
from privacy.ledger.spending import Spending, epsilon_of
from privacy.report import assumptions, checklist, claims, cost, run_record
from privacy.report.assumptions import VIOLATED, Assumption
from privacy.report.cost import RunCost
from privacy.report.run_record import Facts, RunRecord
from privacy.report.tiers import tier

FORMAT = 1
JOINT_CLAIM = "each run by its dearer claim: where it makes two, that against a server that the task's corrupt devices give their noise to"


def run_report(bodies: Sequence[bytes], *, checkpoint: str | None = None) -> dict[str, Any]:
    """The report of a run from the bodies of its entries, in order.

    Args:
      checkpoint: a signed checkpoint that covers them, as a note; stands in the report.

    Raises:
      ValueError: if the entries are not those of one run.
    """
    record = run_record.read(bodies)
    return _report(record, record.event, bodies, checkpoint, kind="run", model_digest=None)


def model_report(bodies: Sequence[bytes], model_digest: str, *, checkpoint: str | None = None) -> dict[str, Any]:
    """The report of one model of a run: what everything up to its release cost.

    Raises:
      ValueError: if no committed round of the run gave this model.
    """
    before = model_bodies(bodies, model_digest)
    record = run_record.read(before)
    return _report(record, record.event, before, checkpoint, kind="model", model_digest=model_digest)


def model_bodies(bodies: Sequence[bytes], model_digest: str) -> list[bytes]:
    """The entries that a model's report stands on: all through its outcome, and later ones about it.

    Raises:
      ValueError: if no committed round of the run gave this model.
    """
    for place, body in enumerate(bodies):
        facts = json.loads(body)
        if facts["kind"] == EntryKind.ROUND_OUTCOME.value and facts.get("model_digest") == model_digest:
            return [*bodies[: place + 1], *(later for later in bodies[place + 1 :] if _says_of(later, model_digest))]
    raise ValueError(f"no committed round gave the model {model_digest}")


def planned_report(registered: bytes) -> dict[str, Any]:
    """The report of a run that plays all its planned rounds, from its `run-registered` entry alone."""
    record = run_record.read([registered])
    return _report(record, record.registered["planned"], [registered], None, kind="plan", model_digest=None)


def population_report(
    bodies: Sequence[bytes], population: str, *, delta: float | None = None, checkpoint: str | None = None
) -> dict[str, Any]:
    """The report of a population: all its runs and accesses together, and its budget.

    Args:
      bodies: entries of the population (others are passed over), in order.
      delta: of the joint epsilon; the budget's, else the largest of its runs' unless given.

    Raises:
      ValueError: if the population has no entry.
    """
    entries = [(body, facts) for body in bodies if (facts := json.loads(body))["population"] == population]
    if not entries:
        raise ValueError(f"no entry is of population {population}")
    spending = Spending(population)
    for index, (_, facts) in enumerate(entries):
        spending.take(index, facts)
    by_run: dict[str, list[bytes]] = {}
    for body, facts in entries:
        if facts.get("run") is not None:
            by_run.setdefault(facts["run"], []).append(body)
    runs = [run_report(own) for own in by_run.values()]
    at = spending.budget.delta if spending.budget is not None else delta or max(
        (report["guarantee"]["delta"] or 0.0 for report in runs), default=0.0
    )  # fmt: skip
    joint, obstacle = _joint(spending, at)
    return {
        "format": FORMAT,
        "subject": {"kind": "population", "population": population, "runs": len(runs)},
        "first_lines": list(_population_lines(runs, joint, obstacle, spending.unbounded)),
        "joint": {
            "epsilon": joint,
            "delta": at or None,
            "obstacle": obstacle,
            "runs_counted": spending.runs,
            "claim": JOINT_CLAIM,
        },
        "budget": {
            "current": None
            if spending.budget is None
            else {"epsilon": spending.budget.epsilon, "delta": spending.budget.delta},
            "changes": [
                {"budget": facts["budget"], "reason": facts["reason"], "by": facts["by"]}
                for _, facts in entries
                if facts["kind"] == EntryKind.BUDGET_SET.value
            ],
        },
        "runs": [
            {
                "run": report["subject"]["run"],
                "task": report["subject"]["task"],
                "guarantee": report["guarantee"],
                "first_lines": report["first_lines"],
            }
            for report in runs
        ],
        "accounting": checklist.accounting(),
        "entries": _entries([body for body, _ in entries], checkpoint),
    }


def first_lines(record: RunRecord, found: Sequence[Assumption], whole: RunCost) -> list[str]:
    """What comes first: void, no guarantee, violated, not covered."""
    lines: list[str] = []
    if measured.noise_is_known(record.registered):
        lines.append(f"GUARANTEE VOID: {measured.KNOWN_SEED}.")
    against = record.devices
    if whole.price is not None and against is not None and record.delta is not None and record.delta * against[0] >= 1:
        lines.append(f"WEAK DELTA: {record.delta:g} is not below 1/n for the n = {against[0]} devices {against[1]}.")
    if whole.why is not None and whole.why != measured.KNOWN_SEED:
        lines.append(f"NO GUARANTEE: {whole.why}.")
    if record.task.get("aggregation", {}).get("secure") and not record.claims_collusion:
        lines.append(_no_claim(record))
    lines += [
        f"VIOLATED: {line.name}: {line.text} ({line.evidence})"
        for line in found
        if line.status == VIOLATED and line.name != "fresh-noise"
    ]
    lines += [
        f"AUDIT FAILED: {facts['method']} measured more than the bound on model {facts['model_digest'][:12]}."
        for facts in record.audits
        if not facts["passed"]
    ]
    if engine := record.registered["facts"].get("engine"):
        lines.append(f"Engine: {engine} trained, clipped, noised and added; cohorts, charges and this report are Tutti's.")
    uncovered = [
        f"{facts['parameter']}, chosen by looking at {facts['statistic']}" for facts in record.tuned if facts["event"] is None
    ]
    uncovered += record.registered["facts"]["not_covered"]
    if uncovered:
        lines.append("Not covered: " + "; ".join(uncovered) + ".")
    return lines


def _no_claim(record: RunRecord) -> str:
    why = "it counts on the noise of every device of a sum, so that one device which shows the server its noise is one too many"
    if record.task["privacy"]["mechanism"] not in assumptions.DISTRIBUTED:
        why = "the devices add no noise"
    return f"NO CLAIM against a colluding server: {why}."


def _report(
    record: RunRecord,
    event: Facts | None,
    bodies: Sequence[bytes],
    checkpoint: str | None,
    *,
    kind: str,
    model_digest: str | None,
) -> dict[str, Any]:
    actual = run_record.actual_event(event, record)
    found = assumptions.assumptions(record)
    whole = cost.of(record, event)
    guarantee = _guarantee(record, actual, whole)
    registered = record.registered
    return {
        "format": FORMAT,
        "subject": {
            "kind": kind, "run": registered["run"], "task": record.task.get("name"), "population": registered["population"],
            "model_digest": model_digest,
        },
        "first_lines": first_lines(record, found, whole),
        "guarantee": guarantee,
        "setting": checklist.setting(record),
        "accesses": checklist.accesses(record, claims.claim(actual, record.delta)),
        "released": checklist.released(record),
        "definition": checklist.definition(record, actual),
        "contributions": checklist.contributions(record),
        "mechanism": checklist.mechanism(record, event),
        "accounting": checklist.accounting(record),
        "assumptions": [line.to_json() for line in found],
        "audits": checklist.audits(record),
        "transparency": checklist.transparency(record),
        "data_minimisation": checklist.data_minimisation(record),
        "entries": {**_entries(bodies, checkpoint), "known_head": registered["facts"].get("known_head")},
    }  # fmt: skip


def _guarantee(record: RunRecord, event: Facts | None, whole: RunCost) -> dict[str, Any]:
    priced = claims.of(whole.price, record.delta)
    scope = checklist.definition(record, event)
    planned = event is not None and record.latest is None
    colluding = record.planned_colluding if planned else record.colluding
    devices = max(2, int(record.task["privacy"].get("devices_per_person", 1)))
    return {
        **priced,
        "unit": scope["unit"],
        "adjacency": scope["adjacency"],
        "tier": tier(priced["epsilon"]),
        "statement": _statement(priced, scope, looks=any(facts["event"] is not None for facts in record.tuned)),
        "colluding": None if colluding is None else claims.of(_dearer(whole, cost.of(record, colluding)), record.delta),
        "group": {"devices": devices, **claims.of(whole.of_group(devices), record.delta)},
        "remarks": [*claims.remarks(event, record.delta), *_size_of_delta(record), *_worst_cases(record, planned=planned)],
    }


def _worst_cases(record: RunRecord, *, planned: bool) -> list[str]:
    """Which of the numbers are of what may happen, not of what did."""
    if planned:
        return ["this is what all planned rounds cost at worst."]
    opened = record.open_round
    return [] if opened is None else [f"round {opened} is charged and has no outcome yet: it counts at its worst case."]


def _dearer(curious: RunCost, colluding: RunCost) -> Price | None:
    """A server that is given some devices' noise is promised no more than one that is not, whatever the entries say."""
    if curious.price is None or colluding.price is None:
        return None
    return max(curious.price, colluding.price, key=lambda price: price.epsilon)


def _size_of_delta(record: RunRecord) -> list[str]:
    """A delta says little unless it is small against one unit among all: a mechanism that publishes one unit at random has 1/n."""
    against = record.devices
    if against is None or record.delta is None:
        return []
    devices, of_what = against
    share = f"{record.delta * devices:.3g}"
    return [f"delta is {share} of 1/n for the n = {devices} devices {of_what}; the smaller that is, the more delta says."]


def _statement(priced: dict[str, Any], scope: dict[str, str], *, looks: bool) -> str:
    if priced["epsilon"] is None:
        return "Nothing is promised."
    rho = "" if priced["rho"] is None else f" It is also {priced['rho']}-zero-concentrated differentially private."
    tuned = ", and to what was chosen by looking at noised statistics," if looks else ""
    return (
        f"The algorithm that takes all devices' data to every model that is released{tuned} is ({priced['epsilon']}, {priced['delta']:g})-"
        f"differentially private with the {scope['unit']} as unit ({scope['unit_means']}) under {scope['adjacency']} adjacency "
        f"({scope['adjacency_means']}), by the {priced['conversion']} conversion.{rho}"
    )


def _joint(spending: Spending, delta: float) -> tuple[float | None, str | None]:
    try:
        return (claims.up(epsilon_of(spending.events(), delta=delta)) if delta else None), None
    except ValueError as error:
        return None, str(error)


def _population_lines(
    runs: Sequence[dict[str, Any]], joint: float | None, obstacle: str | None, unbounded: str | None
) -> Iterator[str]:
    if obstacle is not None:
        yield f"NO JOINT GUARANTEE: {obstacle}."
    elif joint is None:
        yield f"NO GUARANTEE: {unbounded or 'something that was charged has no bound'}."
    for report in runs:
        for line in report["first_lines"]:
            yield f"{report['subject']['task']} {report['subject']['run'][:12]}: {line}"


def _entries(bodies: Sequence[bytes], checkpoint: str | None) -> dict[str, Any]:
    over = hashlib.sha256(b"".join(merkle.leaf_hash(body) for body in bodies))
    return {"count": len(bodies), "digest": over.hexdigest(), "checkpoint": checkpoint}


def _says_of(body: bytes, model_digest: str) -> bool:
    facts = json.loads(body)
    about_models = (EntryKind.MODEL_RELEASED.value, EntryKind.AUDIT_RECORDED.value, EntryKind.APPROVAL.value)
    if facts["kind"] == EntryKind.ASSUMPTION_CHECKED.value:
        return True
    return facts["kind"] in about_models and facts.get("model_digest") == model_digest
