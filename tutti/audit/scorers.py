"""What scores canaries and references for a model, by the kind of the model."""

from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from client_sim.canaries import (
    Canaries,
    Canary,
    coin_canaries,
    selection_canaries,
    selection_coin_canaries,
    word_canaries,
)
from contract.errors import ErrorCode, TuttiError
from privacy.audit import coins
from trainer.model import FloatVector, Model
from trainer.models.next_word import NextWord
from trainer.models.text_selection import TextSelection
from tutti.audit import word_scores
from tutti.audit.scores import Scores, Watch
from tutti.audit.selection_scores import MOST_REFERENCES, SelectionScorer
from tutti.audit.specification import AuditSpec


class Scorer(Protocol):
    """Scores the same canaries and references under any model of one architecture."""

    @property
    def model(self) -> Model:
        """The architecture."""
        ...

    @property
    def canaries(self) -> Canaries:
        """What is scored."""
        ...

    def scores(self, params: FloatVector, watch: Watch | None = None) -> Scores:
        """Under the model with these parameters."""
        ...

    def coin_scores(self, params: FloatVector) -> NDArray[np.float64]:
        """Of the coins' canaries alone, to take off what a model thought of them before training."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class WordScorer:
    """For next-word models: all canaries have as many words and one set of references serves all."""

    model: NextWord = field(repr=False)
    canaries: Canaries = field(repr=False)
    references: int
    beam: int
    seed: int

    def scores(self, params: FloatVector, watch: Watch | None = None) -> Scores:
        """Log probabilities of the secrets given the prefixes, and beam search."""
        prefix = _prefix(self.canaries.grid)
        tokens = word_scores.token_ids(self.model, self.canaries.grid)
        drawn = word_scores.references(self.model, self.references, length=tokens.shape[1], seed=self.seed)
        return Scores(
            grid=word_scores.log_probabilities(self.model, params, tokens, prefix=prefix),
            references=word_scores.log_probabilities(self.model, params, drawn, prefix=prefix, watch=watch)[None],
            coins=self.coin_scores(params),
            extracted=word_scores.extracted(self.model, params, tokens, prefix=prefix, width=self.beam),
        )

    def coin_scores(self, params: FloatVector) -> NDArray[np.float64]:
        """Log probabilities of the coins' canaries."""
        found = [coin.canary for coin in self.canaries.coins]
        if not found:
            return np.zeros(0)
        tokens = word_scores.token_ids(self.model, found)
        return word_scores.log_probabilities(self.model, params, tokens, prefix=_prefix(found))


def make_canaries(spec: AuditSpec, model: Model) -> Canaries:
    """The canaries that the audit inserts into, and keeps out of, the data of this model.

    Raises:
      TuttiError: MECHANISM_UNSUPPORTED for a model that there are no canaries for.
    """
    chosen = spec.canaries
    if isinstance(model, NextWord):
        words = model.vocabulary.words
        return Canaries(
            grid=word_canaries(
                words, seed=spec.seed, devices=chosen.devices, copies=chosen.copies, per_cell=chosen.per_cell,
                length=chosen.length, prefix=chosen.prefix,
            ),
            coins=coin_canaries(
                words, coins(chosen.coins, seed=spec.seed), seed=spec.seed, devices=chosen.coin_devices,
                copies=chosen.coin_copies, length=chosen.length, prefix=chosen.prefix,
            ),
        )  # fmt: skip
    if isinstance(model, TextSelection):
        return Canaries(
            grid=selection_canaries(seed=spec.seed, devices=chosen.devices, copies=chosen.copies, per_cell=chosen.per_cell),
            coins=selection_coin_canaries(
                coins(chosen.coins, seed=spec.seed), seed=spec.seed, devices=chosen.coin_devices, copies=chosen.coin_copies
            ),
        )
    raise _unsupported(model)


def scorer_of(model: Model, canaries: Canaries, *, references: int, beam: int, seed: int) -> Scorer:
    """The scorer for this model.

    Raises:
      TuttiError: MECHANISM_UNSUPPORTED for a model that there are no canaries for.
    """
    if isinstance(model, NextWord):
        return WordScorer(model=model, canaries=canaries, references=references, beam=beam, seed=seed)
    if isinstance(model, TextSelection):
        return SelectionScorer(model=model, canaries=canaries, references=min(references, MOST_REFERENCES), seed=seed)
    raise _unsupported(model)


def _prefix(canaries: tuple[Canary, ...] | list[Canary]) -> int:
    prefixes = {canary.prefix for canary in canaries}
    if len(prefixes) != 1:
        raise TuttiError(ErrorCode.DATA_INVALID, f"canaries must share one length of prefix, not {sorted(prefixes)}")
    return prefixes.pop()


def _unsupported(model: Model) -> TuttiError:
    detail = f"there are no canaries for the model {model.name}: use next_word, next_word_small or text_selection"
    return TuttiError(ErrorCode.MECHANISM_UNSUPPORTED, detail)
