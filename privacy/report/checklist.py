"""The checklist of "How to DP-fy ML" (arXiv:2303.00654v3, section 5.3), section by section, from a run's entries."""

from importlib import metadata
from typing import Any

from privacy.report import claims
from privacy.report.run_record import Facts, RunRecord, parts_of

ADJACENCIES = {
    "zero-out": "one unit's contributions become zero; that it took part is not hidden",
    "add-or-remove": "one unit is there or is not; that it took part is hidden",
    "replace": "one unit's data become any other data",
}
UNITS = {
    "device": "everything that one device ever contributes",
    "device-day": "what one device contributes on one day",
    "example": "one training example",
}


def setting(record: RunRecord) -> dict[str, Any]:
    """Who is trusted with what, and where the noise is added."""
    secure = bool(record.task.get("aggregation", {}).get("secure"))
    distributed = record.task["privacy"]["mechanism"] in ("ddg", "skellam")
    trust = ["Devices run the published client and keep their own participation record."]
    if distributed:
        trust.append(
            "The server follows the protocol but may look at all it receives: it sees sums with noise already in them."
        )
    elif secure:
        trust.append("The server sees sums only, and nothing in them is noised.")
    else:
        trust.append("The server is trusted: it sees each clipped update in memory, adds it to the sum, and adds the noise.")
    trust.append("Whoever sees the models, all of them and in any order, is not trusted.")
    return {
        "model": "distributed differential privacy" if distributed else "central differential privacy",
        "trust": trust,
        "noise_added_by": "devices" if distributed else "nobody" if record.task["privacy"]["mechanism"] == "none" else "server",
        "secure_aggregation": secure,
        "population": record.registered["population"],
        "devices": record.registered["facts"].get("devices"),
        "simulated": "simulation" in record.registered["seeded"] or bool(record.registered["facts"].get("simulated", True)),
    }


def accesses(record: RunRecord, rounds: dict[str, Any]) -> list[dict[str, Any]]:
    """Everything that looked at the devices' data: what it cost by itself, or that nothing covers it.

    Args:
      rounds: what the rounds cost; the guarantee is about them and the looks below together.
    """
    beside = " and of the metrics beside them" if len(parts_of(record.registered["planned"])) > 1 else ""
    models = f"the models of all rounds, through sums of clipped updates{beside}"
    found = [_access(models, rounds if rounds["epsilon"] is not None else None)]
    for name, last in {facts["parameter"]: facts for facts in record.followed}.items():
        text = f"{name}, from round to round by {last['statistic']}, {last['value']} in the end; the rounds' own cost covers it"
        found.append(_access(text, rounds if rounds["epsilon"] is not None else None))
    for facts in record.tuned:
        cost = None if facts["event"] is None else claims.claim(facts["event"], record.delta)
        found.append(_access(f"{facts['parameter']} = {facts['value']}, chosen by looking at {facts['statistic']}", cost))
    found += [_access(name, None) for name in record.registered["facts"]["not_covered"]]
    return found


def released(record: RunRecord) -> dict[str, Any]:
    """What leaves the mechanism."""
    committed = record.committed
    return {
        "what": "the model after every round, and the optimiser's state, which is computed from them",
        "rounds": len(committed),
        "charged_without_model": len(record.charges) - len(committed),
        "final_model": committed[-1]["model_digest"] if committed else None,
        "releases": [
            {"round": facts["round"], "model_digest": facts["model_digest"], "to": facts["to"]} for facts in record.released
        ],
        "approvals": [{"what": facts["what"], "by": facts["by"], "decision": facts["decision"]} for facts in record.approvals],
    }


def definition(record: RunRecord, event: Facts | None) -> dict[str, str]:
    """Unit and neighbouring relation, with what they mean."""
    facts = parts_of(event or record.registered["planned"])[0]
    unit, adjacency = str(facts.get("unit", "device")), str(facts.get("adjacency", "zero-out"))
    return {
        "unit": unit,
        "unit_means": UNITS.get(unit, unit),
        "adjacency": adjacency,
        "adjacency_means": ADJACENCIES.get(adjacency, adjacency),
    }


def contributions(record: RunRecord) -> dict[str, Any]:
    """How much one device can contribute: as planned, and as it was observed."""
    task = record.task
    cohort, privacy, training = task.get("cohort", {}), task["privacy"], task.get("training", {})
    reported = [facts["reported"] for facts in record.committed]
    return {
        "planned": {
            "clip_norm": privacy.get("clip_norm"),
            "minimum_separation": cohort.get("minimum_separation", 0),
            "max_participations": cohort.get("max_participations"),
            "report_goal": cohort.get("report_goal"),
            "rounds": task.get("rounds"),
            "max_examples": training.get("max_examples"),
            "epochs": training.get("epochs"),
        },
        "observed": {
            "rounds": len(record.committed),
            "fewest_reports": min(reported, default=None),
            "most_reports": max(reported, default=None),
            "measured": [
                {**facts["measured"], "assumption": facts["assumption"], "status": record.status_of(facts)}
                for facts in record.checked
            ],
        },
    }


def mechanism(record: RunRecord, event: Facts | None) -> dict[str, Any]:
    """The mechanism with all its parameters, as data."""
    return {
        "name": record.task["privacy"]["mechanism"],
        "noise_multiplier": record.task["privacy"].get("noise_multiplier"),
        "clip_norm": record.task["privacy"].get("clip_norm"),
        "event": event,
        "planned_event": record.registered["planned"],
    }


def accounting(record: RunRecord | None = None) -> dict[str, Any]:
    """Who did the sums; of a population without `record`."""
    amplification = "as the report of each run says"
    if record is not None:
        privacy = record.task["privacy"]
        rate = privacy.get("sampling_rate") if privacy.get("sampling") == "poisson" else None
        amplification = (
            "none is claimed" if rate is None else f"by Poisson sampling at rate {rate}, against all but the sampler"
        )
    return {
        "accountant": "Renyi curves of cumulative events, minimised over all real orders where the curve is a line (zCDP)",
        "library": "privacy.accounting of tutti-fl",
        "version": metadata.version("tutti-fl"),
        "conversions": dict(claims.CONVERSIONS),
        "amplification": amplification,
    }


def audits(record: RunRecord) -> list[dict[str, Any]]:
    """Attacks on the models, each beside the bound."""
    names = ("method", "model_digest", "measured", "bound", "passed", "evidence")
    return [{name: facts[name] for name in names} for facts in record.audits]


def transparency(record: RunRecord) -> dict[str, Any]:
    """Code, configuration, seeds, and how to do it again."""
    registered = record.registered
    seeds = registered["seeded"]
    return {
        "code_digest": registered["code_digest"],
        "task_digest": registered["task_digest"],
        "task": registered["task"],
        "seeded": seeds,
        "start_model": registered["facts"].get("start_digest"),
        "reproduce": "write `task` to a file and call `tutti run FILE --seed S`; the noise is fresh unless --seed-noise is given, and then "
        "the guarantee is void. `tutti ledger verify` checks the record, `tutti report RUN --check FILE` this report.",
    }


_TRANSCRIPTS = (
    "what a secure sum's devices signed, by one-time keys, without any share or vector: 30 days beside the store (no more than a thousand "
    "a run), their digests in the ledger for ever"
)


def data_minimisation(record: RunRecord) -> dict[str, Any]:
    """What was collected, when it was aggregated, how long it is kept."""
    secure = bool(record.task.get("aggregation", {}).get("secure"))
    return {
        "collected": [
            "one masked vector of integers a device and round"
            if secure
            else "one clipped vector of integers a device and round",
            "training metrics, as sums over a round's devices",
        ],
        "stays_on_the_device": ["examples", "the unclipped update", "the participation record"],
        "aggregated": "masked before it leaves the device, so the server never holds one device's update"
        if secure
        else "added whole, after its hash and norm are checked; at most eight uploads are in memory at a time",
        "retained": {
            "updates": "never written down",
            "sums": "until the round commits, in memory",
            "noise": "drawn on the devices, never written down"
            if record.task["privacy"]["mechanism"] in ("ddg", "skellam")
            else "a key in a file of its own, destroyed when the run ends",
            "models": "the last three, every hundredth and the final one",
            "ledger": "for ever; entries are per run and round, never per device",
            **({"transcripts": _TRANSCRIPTS} if secure else {}),
        },
    }


def _access(name: str, cost: dict[str, Any] | None) -> dict[str, Any]:
    kept = None if cost is None else {key: cost[key] for key in ("rho", "epsilon", "delta", "conversion")}
    return {"access": name, "covered": cost is not None and cost["epsilon"] is not None, "cost": kept}
