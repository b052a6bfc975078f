"""The verdict: what was measured beside what was proved, compared only where both speak of the same thing.

A lower bound above the proven epsilon fails the audit: at the family-wise level of 1e-4 that is no chance event, either the proof or
the code is wrong. An estimate above it warns.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from privacy import group
from privacy.events import Adjacency, Event, Unit

FAMILY_LEVEL = 1e-4
"""The chance, over all bounds of one audit together, that a correct system fails it."""


class Certainty(Enum):
    """What a measure may do."""

    BOUND = "bound"
    """Holds but for its level: may fail an audit."""
    ESTIMATE = "estimate"
    """Holds under assumptions: may warn."""
    TEST = "test"
    """A test of a stated property of the implementation, by its p-value: may fail an audit."""


class Verdict(Enum):
    """How an audit ends."""

    PASSED = "passed"
    WARNED = "warned"
    FAILED = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """What an epsilon is about. Two epsilons are compared only if their scopes are equal.

    Args:
      released: the outputs that the attacker sees, "final model" or "all models".
      devices: how many units change together; 1, or the devices that share a canary.
    """

    delta: float
    unit: Unit = Unit.DEVICE
    adjacency: Adjacency = Adjacency.ZERO_OUT
    released: str = "all models"
    devices: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """What the ledger proves: `epsilon` (inf if nothing) in this scope."""

    epsilon: float
    scope: Scope


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One measure's result.

    Args:
      epsilon: from below; None for a test.
      level: the chance that a bound or a test errs; for an estimate its interval's.
      p_value: of a test.
    """

    measure: str
    certainty: Certainty
    scope: Scope
    level: float
    epsilon: float | None = None
    p_value: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """A finding beside the claim of its scope."""

    finding: Finding
    claimed: float
    verdict: Verdict


def claim(events: Event | Sequence[Event], scope: Scope) -> Claim:
    """What `events` prove in this scope: for several devices the group bound, m^2 rho where the curve is a line.

    All models' releases prove at least as much for the final one, which is computed from them.

    Raises:
      ValueError: if the events' unit or relation is not the scope's.

    >>> from privacy.events import TreeEvent
    >>> event = TreeEvent(noise_multiplier=7.0, leaves=2000, minimum_separation=313, max_participations=6)
    >>> round(claim(event, Scope(delta=1e-10)).epsilon, 3)
    8.526
    """
    price = group.price(events, scope.delta, size=scope.devices)
    if (price.unit, price.adjacency) != (scope.unit, scope.adjacency):
        raise ValueError(
            f"the ledger speaks of {price.unit.value} under {price.adjacency.value},"
            f" the audit of {scope.unit.value} under {scope.adjacency.value}"
        )
    return Claim(epsilon=price.epsilon, scope=scope)


def level_of_each(findings: int, *, family: float = FAMILY_LEVEL) -> float:
    """The level at which each of so many bounds and tests is computed, so that all together err with probability `family` at most.

    >>> level_of_each(4)
    2.5e-05
    """
    if findings < 1:
        raise ValueError(f"an audit has at least one bound or test, not {findings}")
    return family / findings


def judge(claims: Sequence[Claim], findings: Sequence[Finding], *, family: float = FAMILY_LEVEL) -> list[Judgement]:
    """Each finding beside its claim.

    Raises:
      ValueError: if the bounds' and tests' levels add up to more than `family`, or a finding's scope has no claim.
    """
    spent = sum(finding.level for finding in findings if finding.certainty is not Certainty.ESTIMATE)
    if spent > family * (1 + 1e-9):
        raise ValueError(f"the levels of the bounds and tests add up to {spent}, more than {family}")
    return [_judged(claims, finding) for finding in findings]


def overall(judgements: Sequence[Judgement]) -> Verdict:
    """The worst of all.

    >>> overall([])
    <Verdict.PASSED: 'passed'>
    """
    verdicts = {judgement.verdict for judgement in judgements}
    return next((verdict for verdict in (Verdict.FAILED, Verdict.WARNED) if verdict in verdicts), Verdict.PASSED)


def _judged(claims: Sequence[Claim], finding: Finding) -> Judgement:
    claimed = next((found.epsilon for found in claims if found.scope == finding.scope), None)
    if claimed is None:
        raise ValueError(f"{finding.measure}: nothing is claimed for {finding.scope}")
    if finding.certainty is Certainty.TEST:
        broken = finding.p_value is not None and finding.p_value <= finding.level
    else:
        broken = finding.epsilon is not None and finding.epsilon > claimed
    failed = Verdict.WARNED if finding.certainty is Certainty.ESTIMATE else Verdict.FAILED
    return Judgement(finding=finding, claimed=claimed, verdict=failed if broken else Verdict.PASSED)
