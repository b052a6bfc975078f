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


def _body(kind: EntryKind, **facts: Json) -> bytes:
    return canonical.encode({"format": FORMAT, "kind": kind.value, **facts})
