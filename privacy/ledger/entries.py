"""The bodies of ledger entries: what is put on the record, and in which words.

A body is canonical JSON with `format` and `kind`. It holds what is needed to price the access again later with a tighter
accountant, and neither wall time, transport, random ids nor floats, so that equal runs leave equal bytes. Formats are only ever
added: `tests/vectors/ledger` holds one committed example of each and verifies it for ever.
"""

from enum import Enum

from contract import canonical
from contract.canonical import Json

FORMAT = 1


class EntryKind(Enum):
    """What can be put on the record."""

    RUN_REGISTERED = "run-registered"
    ROUND_CHARGED = "round-charged"
    ROUND_OUTCOME = "round-outcome"
    MODEL_RELEASED = "model-released"
    PARAMETER_TUNED = "parameter-tuned"
    AUDIT_RECORDED = "audit-recorded"
    BUDGET_SET = "budget-set"
    KEY_ROTATED = "key-rotated"
    APPROVAL = "approval"
    SECAGG_TRANSCRIPT = "secagg-transcript"
    ASSUMPTION_CHECKED = "assumption-checked"
    APPROVAL_REQUIRED = "approval-required"


def run_registered(
    *,
    population: str,
    run: str,
    task: dict[str, Json],
    task_digest: str,
    code_digest: str,
    planned: dict[str, Json],
    seeded: tuple[str, ...],
    facts: dict[str, Json],
) -> bytes:
    """A run exists. `planned` is the event that all its rounds would cost; `seeded` names what a seed fixes ("simulation", "noise")."""
    return _body(
        EntryKind.RUN_REGISTERED,
        population=population,
        run=run,
        task=task,
        task_digest=task_digest,
        code_digest=code_digest,
        planned=planned,
        seeded=list(seeded),
        facts=facts,
    )


def round_charged(
    *,
    population: str,
    run: str,
    round_index: int,
    leaf: int,
    event: dict[str, Json],
    floor: int,
    colluding: dict[str, Json] | None = None,
) -> bytes:
    """The worst case of a round, before anything of it is revealed. `event` is cumulative through this round.

    `colluding` is the claim against a server that some devices give their noise to, where the mechanism makes one.
    """
    return _body(
        EntryKind.ROUND_CHARGED,
        population=population,
        run=run,
        round=round_index,
        leaf=leaf,
        event=event,
        floor=floor,
        **_colluding(colluding),
    )


def round_committed(
    *,
    population: str,
    run: str,
    round_index: int,
    leaf: int,
    event: dict[str, Json],
    reported: int,
    model_digest: str,
    colluding: dict[str, Json] | None = None,
) -> bytes:
    """What happened: `reported` contributions are in the sum, and this model came of it."""
    return _body(
        EntryKind.ROUND_OUTCOME,
        population=population,
        run=run,
        round=round_index,
        leaf=leaf,
        result="committed",
        event=event,
        reported=reported,
        model_digest=model_digest,
        **_colluding(colluding),
    )


def round_abandoned(*, population: str, run: str, round_index: int, leaf: int, reason: str, leaf_used: bool) -> bytes:
    """No model; the charge stays if it was committed before (`leaf_used`)."""
    return _body(
        EntryKind.ROUND_OUTCOME,
        population=population,
        run=run,
        round=round_index,
        leaf=leaf,
        result="abandoned",
        reason=reason,
        leaf_used=leaf_used,
    )


def _colluding(event: dict[str, Json] | None) -> dict[str, Json]:
    return {} if event is None else {"colluding": event}


def model_released(*, population: str, run: str, round_index: int, model_digest: str, to: str) -> bytes:
    """A committed model leaves the server: `to` says where (an export, a deployment), never to whom."""
    return _body(EntryKind.MODEL_RELEASED, population=population, run=run, round=round_index, model_digest=model_digest, to=to)


def parameter_tuned(
    *,
    population: str,
    run: str | None,
    parameter: str,
    value: str,
    statistic: str,
    event: dict[str, Json] | None,
    reason: str,
    covered_by: int | None = None,
) -> bytes:
    """A scale, a clip or another parameter was chosen by looking at private statistics.

    Args:
      value: what it was set to, as a decimal string.
      statistic: what was looked at.
      event: what the look costs by itself; None if it is not covered, and then every report says so first.
      covered_by: the round of the run whose event covers the look, where all that was looked at is its noised sums.
    """
    covered: dict[str, Json] = {} if covered_by is None else {"covered_by": covered_by}
    return _body(
        EntryKind.PARAMETER_TUNED,
        population=population,
        run=run,
        parameter=parameter,
        value=value,
        statistic=statistic,
        event=event,
        reason=reason,
        **covered,
    )


def audit_recorded(
    *,
    population: str,
    run: str,
    model_digest: str,
    method: str,
    measured: dict[str, Json],
    bound: dict[str, Json],
    passed: bool,
    evidence: str,
) -> bytes:
    """An attack on a model, and what it found.

    Args:
      measured: what the attack measured, decimal strings; `epsilon_lower` with its `confidence` and `delta` where it gives one.
      bound: what the proof allows at that delta: `epsilon`, `conversion`.
      passed: whether the measurement stays within the bound.
      evidence: digest of the audit's full record.
    """
    return _body(
        EntryKind.AUDIT_RECORDED,
        population=population,
        run=run,
        model_digest=model_digest,
        method=method,
        measured=measured,
        bound=bound,
        passed=passed,
        evidence=evidence,
    )


def budget_set(*, population: str, budget: dict[str, Json] | None, reason: str, by: str) -> bytes:
    """What a population may cost from now on, all accesses together; None lifts the budget.

    Args:
      budget: `epsilon`, `delta` (decimal strings), `unit`, `adjacency`.
      by: the role or token id that decided; no person's name.
    """
    return _body(EntryKind.BUDGET_SET, population=population, budget=budget, reason=reason, by=by)


def key_rotated(*, retired: str, current: str, endorsement: str, reason: str) -> bytes:
    """Checkpoints are signed by another key from now on; `endorsement` is the retired key's note over the new one."""
    return _body(
        EntryKind.KEY_ROTATED,
        population=None,
        run=None,
        retired=retired,
        current=current,
        endorsement=endorsement,
        reason=reason,
    )


def approval_required(*, population: str, required: bool, reason: str, by: str) -> bytes:
    """From now on runs start, and models leave, only after a second person's decision; or no longer so."""
    return _body(EntryKind.APPROVAL_REQUIRED, population=population, run=None, required=required, reason=reason, by=by)


def approval(
    *,
    population: str,
    run: str | None,
    what: str,
    model_digest: str | None,
    by: str,
    decision: str = "approved",
    audit: str | None = None,
) -> bytes:
    """A second person's decision: `what` is `start` or `release` of a run, or `audit`; `by` is a token id, no person's name."""
    return _body(
        EntryKind.APPROVAL,
        population=population,
        run=run,
        what=what,
        model_digest=model_digest,
        by=by,
        decision=decision,
        **({} if audit is None else {"audit": audit}),
    )


def secagg_transcript(
    *, population: str, run: str, round_index: int, group: int, transcript: str, facts: dict[str, Json]
) -> bytes:
    """The digest of one group's secure aggregation; one-time keys only, which the ledger does not hold."""
    return _body(
        EntryKind.SECAGG_TRANSCRIPT,
        population=population,
        run=run,
        round=round_index,
        group=group,
        transcript=transcript,
        facts=facts,
    )


def assumption_checked(
    *, population: str, run: str, assumption: str, status: str, measured: dict[str, Json], evidence: str
) -> bytes:
    """An assumption of the accounting was measured on this run.

    Args:
      assumption: its name in the report, such as `minimum-separation`.
      status: `checked` if it held, `violated` if it did not.
      measured: counts and limits, integers and decimal strings.
      evidence: digest of what was measured.
    """
    if status not in ("checked", "violated"):
        raise ValueError(f"a measured assumption is checked or violated, not {status!r}")
    return _body(
        EntryKind.ASSUMPTION_CHECKED,
        population=population,
        run=run,
        assumption=assumption,
        status=status,
        measured=measured,
        evidence=evidence,
    )


def _body(kind: EntryKind, **facts: Json) -> bytes:
    return canonical.encode({"format": FORMAT, "kind": kind.value, **facts})
