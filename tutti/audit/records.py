"""An audit's results as plain values: the rows of its object, and the ledger's entries that are bound to its models."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from client_sim.canaries import Canaries
from contract import canonical
from privacy.audit import Judgement, Verdict
from privacy.ledger import entries
from tutti import stores
from tutti.audit.arms import Arm


def judged_of(row: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """All judgements of an arm's row: of its coins and of its probes."""
    found: list[Mapping[str, Any]] = [row["coins"]] if row["coins"] else []
    if row["probes"]:
        found += row["probes"]["judgements"]
    return found


def arm_json(arm: Arm, grid: Mapping[str, Any]) -> dict[str, Any]:
    """The row of one arm; `evidence` is the digest of its `grid`, which the ledger holds too."""
    return {
        "name": arm.name,
        "run": arm.run,
        "population": arm.population,
        "model_digest": arm.model_digest,
        "privacy": dict(arm.result["privacy"]),
        "metrics": dict(arm.result["metrics"]),
        "grid": dict(grid),
        "evidence": canonical.digest(canonical.plain(dict(grid))),
        "coins": None,
        "probes": None,
    }


def judgement_json(judged: Judgement) -> dict[str, Any]:
    """A finding beside its claim; `claimed` is null where nothing is proven."""
    finding = judged.finding
    scope = finding.scope
    claimed = judged.claimed if np.isfinite(judged.claimed) else None
    return {
        "measure": finding.measure,
        "certainty": finding.certainty.value,
        "epsilon": finding.epsilon,
        "p_value": finding.p_value,
        "claimed": claimed,
        "delta": scope.delta,
        "unit": scope.unit.value,
        "adjacency": scope.adjacency.value,
        "released": scope.released,
        "devices": scope.devices,
        "level": finding.level,
        "verdict": judged.verdict.value,
    }


def record(result: Mapping[str, Any], made: Canaries, trained: list[Arm], store: str) -> None:
    """One entry for each arm, bound to its model; an arm whose entry is on the record already gets none."""
    with stores.opened(store) as (database, _):
        for arm, row in zip(trained, result["arms"], strict=True):
            body = _entry(result, made, arm, row)
            if not any(entry.body == body for entry in database.entries(run=arm.run)):
                database.append_entry(body)


def _entry(result: Mapping[str, Any], made: Canaries, arm: Arm, row: Mapping[str, Any]) -> bytes:
    """Derived numbers as decimal strings; the evidence is the digest of what the audit measured on this arm."""
    grid = row["grid"]
    judged = judged_of(row)
    below = [one for one in judged if one["certainty"] == "bound" and one["devices"] == 1]
    strongest = max(below, key=lambda one: one["epsilon"], default=None)
    measured: dict[str, canonical.Json] = {
        "audit": result["audit"],
        "canaries": made.digest,
        "inserted": grid["inserted"],
        "references": grid["references"],
        "median_rank": canonical.decimal_up(grid["median_rank"], 6),
        "mean_exposure_bits": canonical.decimal_up(grid["mean_exposure_bits"], 6),
        "permutation_p_value": canonical.decimal_up(grid["permutation_p_value"], 6),
    }
    if strongest is not None:
        measured |= {
            "epsilon_lower": canonical.decimal_up(strongest["epsilon"], 6),
            "confidence": canonical.decimal_of(1 - strongest["level"]),
            "delta": canonical.decimal_of(strongest["delta"]),
        }
    privacy = row["privacy"]
    bound: dict[str, canonical.Json] = {
        "epsilon": None if privacy["epsilon"] is None else canonical.decimal_up(privacy["epsilon"], 6),
        "conversion": privacy["conversion"],
    }
    return entries.audit_recorded(
        population=arm.population,
        run=arm.run,
        model_digest=arm.model_digest,
        method="Secret Sharer canaries" + (", one-run bounds" if judged else ""),
        measured=measured,
        bound=bound,
        passed=all(one["verdict"] != Verdict.FAILED.value for one in judged),
        evidence=row["evidence"],
    )
