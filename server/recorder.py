"""Puts a round on the record: charge, outcome, abandonment; each with its entry in one transaction."""

import hashlib
import hmac
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from contract import canonical
from contract.errors import ErrorCode, TuttiError
from contract.simulation import UNSIGNED, Transcripts
from contract.task import TaskSpec
from privacy import events
from privacy.ledger import entries, forms
from server.budgets import BudgetGuard
from server.mechanisms import Mechanism
from server.rounds.outcome import NextModel
from server.rounds.states import AbandonReason, RoundFacts
from server.store import blobs
from server.store.store import Store, parameters_digest
from server.store.values import Round, Run, StoredModel
from server.tuned_parameters import Tuned

_NARROW = 1 << 31
_WORTH_A_THREAD = 1 << 20
"""Bytes; to start a thread takes as long as to hash a quarter of that."""
NOTHING_TUNED: Mapping[str, Tuned] = MappingProxyType({})


class RoundRecorder:
    """Writes the rounds of one run.

    Raises:
      TuttiError: RUN_STATE if `mechanism` is not the one that the run was registered with: noise so far and noise to come would be
        of two mechanisms, and no event prices both.
    """

    def __init__(self, store: Store, run: Run, mechanism: Mechanism) -> None:
        _require_registered(store, run, mechanism)
        self._store, self._run, self._mechanism = store, run, mechanism
        self._decided: Callable[[], int] | None = None
        self._budget = BudgetGuard(store.ledger, population=run.spec.population, run=run.id)

    def check_budget(self, *, history: Sequence[int]) -> None:
        """Whether the population's budget allows one more round; `history` ends with the fewest contributions that it may have.

        Raises:
          TuttiError: BUDGET_EXCEEDED if the worst case of the round does not fit.
        """
        self._budget.check_round(self._mechanism.events(history))

    def charge(self, facts: RoundFacts, *, history: Sequence[int], sum_seal: str | None) -> None:
        """Commits the worst case; `history` ends with the fewest contributions that this round may have.

        Raises:
          TuttiError: BUDGET_EXCEEDED if it does not fit.
        """
        self.settle()
        claims = self._mechanism.events(history)
        entry = entries.round_charged(
            population=self._run.spec.population,
            run=self._run.id,
            round_index=facts.index,
            leaf=facts.leaf,
            floor=facts.minimum_survivors,
            **claims,
        )
        self._store.charge(
            run=self._run.id,
            round_index=facts.index,
            leaf=facts.leaf,
            entry=entry,
            sum_seal=sum_seal,
            admitted=lambda connection: self._budget.check_round(claims, within=connection),
        )

    def tuned(self) -> dict[str, float]:
        """The parameters that follow released sums, as the record has them: a run that is resumed goes on from there."""
        kept = self._store.ledger.entries(run=self._run.id, kind=entries.EntryKind.PARAMETER_TUNED.value)
        bodies = [forms.read(entry.body) for entry in kept]
        return {facts["parameter"]: float(facts["value"]) for facts in bodies if "covered_by" in facts}

    def decide(
        self,
        round_facts: RoundFacts,
        following: NextModel,
        *,
        history: Sequence[int],
        facts: Mapping[str, Any],
        tuned: Mapping[str, Tuned] = NOTHING_TUNED,
        signed: Transcripts = UNSIGNED,
    ) -> StoredModel:
        """What the next round begins from. `settle` puts it on the record: entries, model and position in one transaction, before
        anything else of the run.

        Args:
          history: ends with the contributions that are in this round's sum.
          signed: the digests of the secure aggregation that gave it.
        """
        self.settle()
        digest = parameters_digest(blobs.parameters_bytes(following.parameters))
        model = StoredModel(
            run=self._run.id,
            round=round_facts.index + 1,
            digest=digest,
            parameters=following.parameters,
            optimizer=following.optimizer,
            entry=None,
        )
        entry = entries.round_committed(
            population=self._run.spec.population,
            run=self._run.id,
            round_index=round_facts.index,
            leaf=round_facts.leaf,
            reported=history[-1],
            model_digest=digest,
            **self._mechanism.events(history),
        )
        self._decided = partial(
            self._store.commit_round,
            run=self._run.id,
            round_index=round_facts.index,
            entry=entry,
            beside=[
                *(self._tuned_entry(round_facts.index, name, one) for name, one in sorted(tuned.items())),
                *(self._transcript_entry(round_facts.index, group, head) for group, head in sorted(signed.items())),
            ],
            model=model,
            reported=history[-1],
            facts=facts,
            final=round_facts.leaf + 1 >= self._run.spec.rounds,
        )
        return model

    @property
    def settled(self) -> bool:
        """Whether everything that was decided is on the record."""
        return self._decided is None

    def settle(self) -> None:
        """Commits what was decided; what cannot be written stays in the way of everything after it."""
        if self._decided is not None:
            self._decided()
            self._decided = None

    def _tuned_entry(self, round_index: int, name: str, tuned: Tuned) -> bytes:
        return entries.parameter_tuned(
            population=self._run.spec.population,
            run=self._run.id,
            parameter=name,
            value=canonical.decimal_of(tuned.value),
            statistic=tuned.statistic,
            event=None,
            reason="follows released sums, for the next round",
            covered_by=round_index,
        )

    def _transcript_entry(self, round_index: int, group: int, head: str) -> bytes:
        return entries.secagg_transcript(
            population=self._run.spec.population,
            run=self._run.id,
            round_index=round_index,
            group=group,
            transcript=head,
            facts={},
        )

    def abandon(self, facts: RoundFacts, *, reason: AbandonReason, leaf_used: bool) -> None:
        """A round without a model; its charge stays if there was one."""
        self.settle()
        entry = entries.round_abandoned(
            population=self._run.spec.population,
            run=self._run.id,
            round_index=facts.index,
            leaf=facts.leaf,
            reason=reason.value,
            leaf_used=leaf_used,
        )
        self._store.abandon_round(
            run=self._run.id,
            round_index=facts.index,
            leaf=facts.leaf,
            entry=entry,
            reason=reason.value,
            leaf_used=leaf_used,
            facts={},
            final=leaf_used and facts.leaf + 1 >= self._run.spec.rounds,
        )


def sum_seal(secret: bytes, total: NDArray[np.int64], leaf: int) -> str:
    """A keyed hash that binds a charge to the sum it was made for, and tells nothing of the sum without the key.

    What is hashed, in two halves at the same time, are the integers as int32 where they all fit, else as int64; which of the two
    is in the seal.

    Guarantee: two seals under one key are equal for one sum, leaf and length only, as far as SHA-256 is collision resistant; without the
      key they are HMAC's, and so look random.

    Source: FIPS 198-1 (HMAC), FIPS 180-4 (SHA-256).
    """
    fits = len(total) and total.min() >= -_NARROW and total.max() < _NARROW
    narrow = np.ascontiguousarray(total.astype(np.int32) if fits else total)
    halves = narrow[: len(total) // 2].data, narrow[len(total) // 2 :].data
    if narrow.nbytes < _WORTH_A_THREAD:
        parts = b"".join(hashlib.sha256(half).digest() for half in halves)
    else:
        with ThreadPoolExecutor(max_workers=1) as beside:
            second = beside.submit(hashlib.sha256, halves[1])
            parts = hashlib.sha256(halves[0]).digest() + second.result().digest()
    said = b"tutti sum seal\x00" + leaf.to_bytes(8, "big") + len(total).to_bytes(8, "big") + bytes([narrow.itemsize])
    return hmac.digest(secret, said + parts, hashlib.sha256).hex()


def _require_registered(store: Store, run: Run, mechanism: Mechanism) -> None:
    for entry in store.ledger.entries(run=run.id, kind=entries.EntryKind.RUN_REGISTERED.value, limit=1):
        planned = forms.read(entry.body)["planned"]
        if events.from_json(planned) == events.from_json(mechanism.event(run.spec.rounds)):
            return
        raise TuttiError(
            ErrorCode.RUN_STATE, f"run {run.id[:12]} was registered with another mechanism than it would go on with"
        )
    raise TuttiError(ErrorCode.RUN_STATE, f"run {run.id[:12]} is not on the record")


def charged_without_outcome(history: Sequence[Round]) -> Round | None:
    """The round that a crash interrupted between its charge and its outcome."""
    return history[-1] if history and history[-1].outcome_entry is None else None


def last_released_leaf(history: Sequence[Round]) -> int:
    """The last leaf whose release is committed, -1 if there is none."""
    return max((row.leaf for row in history if row.state == "committed"), default=-1)


def planned_claims(mechanism: Mechanism, spec: TaskSpec) -> dict[str, Any]:
    """What all rounds of a task would cost at worst, as an entry holds it: `event`, and `colluding` where there is a second claim."""
    return {**mechanism.events([spec.fewest_contributions] * spec.rounds), "event": mechanism.event(spec.rounds)}


def survivors_by_leaf(history: Sequence[Round], *, floor: int) -> tuple[int, ...]:
    """For each leaf that is used up, what was in its sum, or `floor` where there was no outcome."""
    by_leaf: dict[int, int] = {}
    for row in history:
        if row.state == "committed":
            by_leaf[row.leaf] = row.reported
        elif row.charge_entry is not None and row.outcome_entry is not None:
            by_leaf[row.leaf] = floor
    return tuple(by_leaf[leaf] for leaf in sorted(by_leaf))
