"""Scores of text-selection canaries: the log odds of the whole secret span among all spans with the tap.

Each canary has references of its own: its context and its tap, with fresh tokens in the span. What a model has learned of the context
helps them all alike; the rank says what it has learned of the secret.
"""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# (JAX types its functions only in part.)

import functools
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from client_sim.canaries import Canaries, Canary, with_fresh_secret
from trainer.evaluation import padded_rows
from trainer.model import Array, Batch, DeviceExamples, FloatVector, Model, Params
from tutti.audit.scores import Scores, Watch

_ROWS = 128
MOST_REFERENCES = 2_000
"""References of one canary: each is featurised and kept, 8 kB, for all arms."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SelectionScorer:
    """For text-selection models.

    Args:
      references: of each canary.
    """

    model: Model = field(repr=False)
    canaries: Canaries = field(repr=False)
    references: int
    seed: int
    _features: dict[str, DeviceExamples] = field(default_factory=dict[str, DeviceExamples], init=False, repr=False)

    def scores(self, params: FloatVector, watch: Watch | None = None) -> Scores:
        """Log odds of the secrets; there is no search, a span is either suggested or not."""
        grid = self.canaries.grid
        own = self._scored(params, "grid", grid)
        rows: list[NDArray[np.float64]] = []
        for number, canary in enumerate(grid):
            drawn = [with_fresh_secret(canary, index, seed=self.seed) for index in range(self.references)]
            rows.append(self._scored(params, canary.name, drawn))
            if watch is not None:
                watch((number + 1) * self.references, len(grid) * self.references)
        return Scores(grid=own, references=np.stack(rows), coins=self.coin_scores(params))

    def coin_scores(self, params: FloatVector) -> NDArray[np.float64]:
        """Of the canaries that are in or out by coins, float64, shape (c,)."""
        found = [coin.canary for coin in self.canaries.coins]
        return self._scored(params, "coins", found) if found else np.zeros(0)

    def _scored(self, params: FloatVector, name: str, canaries: Sequence[Canary]) -> NDArray[np.float64]:
        return log_odds(log_probabilities(self.model, params, self._featurized(name, canaries)))

    def _featurized(self, name: str, canaries: Sequence[Canary]) -> DeviceExamples:
        if name not in self._features:
            self._features[name] = self.model.featurize([canary.example for canary in canaries])
        return self._features[name]


def log_probabilities(model: Model, params: FloatVector, examples: DeviceExamples) -> NDArray[np.float64]:
    """ln P[the user's selection | the text and the tap] of each example, float64, shape (n,): minus the model's loss on it alone."""
    tree, score = jax.device_put(model.unravel(params)), _compiled(model)
    scores = np.zeros(examples.num_examples)
    for first in range(0, examples.num_examples, _ROWS):
        batch, _ = padded_rows(examples, first, _ROWS)
        values: NDArray[Any] = np.asarray(score(tree, batch), np.float64)
        scores[first : first + _ROWS] = values[: examples.num_examples - first]
    return scores


def log_odds(log_probabilities: NDArray[np.float64]) -> NDArray[np.float64]:
    """ln p - ln(1 - p): the same order, without the wall at 0 that no law can be fitted to.

    Single precision cannot tell p from 1 beyond 1 - 1e-7, and is not asked to.

    >>> log_odds(np.log(np.array([0.5]))).tolist()
    [0.0]
    """
    limited = np.minimum(log_probabilities, -1e-7)
    return limited - np.log(-np.expm1(limited))


@functools.lru_cache(maxsize=8)
def _compiled(model: Model) -> Any:
    def alone(params: Params, row: Batch) -> Array:
        batch = {name: array[None] for name, array in row.items()}
        return -model.loss(params, batch, jnp.ones(1))[0]

    return jax.jit(jax.vmap(alone, in_axes=(None, 0)))
