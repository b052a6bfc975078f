"""Runs the probes of a treatment and judges what they measure: bounds by one run, estimates by random directions."""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from client_sim.placement import Placement
from client_sim.records import ParticipationRecords
from contract.task import TaskSpec
from privacy.audit import Finding, Judgement, attack, claim, comparison_delta, judge
from server import tasks
from tutti import stores
from tutti.audit import arms, measures
from tutti.audit.arms import Arm, ModelKeeper
from tutti.audit.probes import ProbeLoader, probing_task, shares
from tutti.audit.specification import AuditSpec, ProbeSpec
from tutti.playing import Progress

RELEASED = ("final model", "all models")


@dataclass(frozen=True, slots=True, kw_only=True)
class Probed:
    """The scores of a treatment's probes, for each kind of release: of directions that were sent or not, and of unsent ones."""

    arm: Arm
    included: NDArray[np.bool_] = field(repr=False)
    sent: Mapping[str, NDArray[np.float64]] = field(repr=False)
    unsent: Mapping[str, NDArray[np.float64]] = field(repr=False)

    @property
    def bounds(self) -> tuple[str, ...]:
        """The releases that a bound is computed for: each takes its share of the family's level."""
        return RELEASED

    @property
    def delta(self) -> float:
        """The task's own: estimates are compared at it, bounds at it or below."""
        return self.arm.delta or measures.DEFAULT_DELTA

    def judgements(self, level: float) -> list[Judgement]:
        """Bounds and estimates beside what the probes' own run was charged."""
        findings: list[Finding] = []
        delta = comparison_delta(len(self.included), level=level, at_most=self.delta)
        for released in RELEASED:
            bound = attack(self.sent[released], self.included, delta=delta, level=level)
            name = f"{self.arm.name}: probes, {released}"
            findings.append(measures.bound_finding(name, bound, released=released, devices=1))
            findings.append(self._estimate(released)[0])
        claims = [claim(self.arm.event, finding.scope) for finding in findings]
        return judge(claims, findings)

    def to_json(self) -> dict[str, Any]:
        """What is shown besides the judgements."""
        return {
            "run": self.arm.run,
            "model_digest": self.arm.model_digest,
            "canaries": len(self.included),
            "included": int(self.included.sum()),
            "privacy": dict(self.arm.result["privacy"]),
            "estimates": {released: dict(self._estimate(released)[1]) for released in RELEASED},
        }

    def _estimate(self, released: str) -> tuple[Finding, Mapping[str, Any]]:
        return measures.estimate_finding(
            f"{self.arm.name}: random directions, {released}",
            self.included,
            self.sent[released],
            self.unsent[released],
            delta=self.delta,
            released=released,
        )


def probe(
    spec: AuditSpec,
    treatment: TaskSpec,
    name: str,
    *,
    store: str,
    directory: Path,
    workers: int | Placement | None,
    rounds: Callable[[TaskSpec], AbstractContextManager[Progress]],
    approved: bool = False,
) -> Probed:
    """Trains the probes of one treatment, or goes on with their run.

    Raises:
      ValueError: if the audit asks for none.
    """
    if spec.probes is None:
        raise ValueError("this audit has no probes")
    chosen, loader = spec.probes, loader_of(spec.probes, seed=spec.seed)
    task = probing_task(treatment, loader, rounds=min(chosen.rounds, treatment.rounds))
    tasks.refuse(task)
    with rounds(task) as progress:
        keeper = ModelKeeper(
            spec=task, loader=loader, seed=spec.seed, store=store, directory=directory / f"probes-{name}", inner=progress
        )
        arm = arms.train(name, task, loader, seed=spec.seed, store=store, workers=workers, progress=keeper, approved=approved)
    took_part = participants(loader.num_devices, run=arm.run, store=store)
    sent, unsent = shares(
        keeper.models(arm),
        loader.directions()[took_part],
        loader.directions(sent=False),
        ridge=(treatment.privacy.noise_multiplier or 0.0) ** 2,
    )
    return Probed(arm=arm, included=loader.included[took_part], sent=_by_release(sent), unsent=_by_release(unsent))


def loader_of(probes: ProbeSpec, *, seed: int) -> ProbeLoader:
    """The devices of an audit's probes."""
    return ProbeLoader(canaries=probes.canaries, dimension=probes.dimension, seed=seed)


def _by_release(by_round: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
    """The score that each release allows: the total of the final model; with all models, the round that has most of a canary."""
    return dict(zip(RELEASED, (by_round.sum(axis=1), by_round.max(axis=1)), strict=True))


def participants(num_devices: int, *, run: str, store: str) -> NDArray[np.int64]:
    """The devices that took part in a simulated run, by their own records, int64, shape (n,).

    The zero-out relation does not hide participation, and a device's coin does not decide it: so the attacker may know it, and guesses
    about these alone.
    """
    records = ParticipationRecords(num_devices=num_devices, path=stores.directory(store) / "devices.db", scope=run)
    try:
        return np.flatnonzero(records.participations(np.arange(num_devices)) > 0)
    finally:
        records.close()
