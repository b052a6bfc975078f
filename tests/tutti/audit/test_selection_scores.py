"""Text-selection canaries: their offsets, their references, and scores that are minus the model's loss."""

import numpy as np
import pytest

from client_sim import canaries
from client_sim.canaries import Canaries
from trainer import evaluate
from trainer.models import registry
from tutti.audit.selection_scores import SelectionScorer, log_odds, log_probabilities

GRID = canaries.selection_canaries(seed=1, devices=[1, 4], copies=[2], per_cell=3)


def test_the_tap_lies_in_the_secret_between_five_tokens_on_either_side() -> None:
    for canary in GRID:
        assert canary.tap is not None
        assert canary.selection is not None
        start, end = canary.selection
        secret = canary.text[start:end].split()
        assert 3 <= len(secret) <= 5
        assert canary.text[slice(*canary.tap)] in secret
        assert len(canary.text[:start].split()) == len(canary.text[end:].split()) == 5


def test_references_keep_context_and_tap_and_change_the_secret() -> None:
    for canary in GRID:
        fresh = canaries.with_fresh_secret(canary, 7, seed=1)
        assert canary.selection is not None
        assert fresh.selection is not None
        assert canary.tap is not None
        assert fresh.tap is not None
        (a, b), (c, d) = canary.selection, fresh.selection
        assert (fresh.text[:c], fresh.text[d:]) == (canary.text[:a], canary.text[b:])
        assert not set(fresh.text[c:d].split()) & set(canary.text[a:b].split())
        assert len(canary.text[a : canary.tap[0]].split()) == len(fresh.text[c : fresh.tap[0]].split())
        assert fresh == canaries.with_fresh_secret(canary, 7, seed=1) != canaries.with_fresh_secret(canary, 8, seed=1)


def test_what_selects_nothing_has_no_references() -> None:
    words = canaries.word_canaries(["a", "b"], seed=0, devices=[1], copies=[1], per_cell=1)
    with pytest.raises(ValueError, match="selects nothing"):
        canaries.with_fresh_secret(words[0], 1, seed=0)


def test_scores_are_minus_the_models_loss() -> None:
    model = registry.get("text_selection")
    parameters = model.init(0)
    examples = model.featurize([canary.example for canary in GRID[:3]])
    scores = log_probabilities(model, parameters, examples)
    assert evaluate(model, parameters, [examples])["loss"] == pytest.approx(-scores.mean(), rel=1e-4)
    scorer = SelectionScorer(model=model, canaries=Canaries(grid=GRID[:2]), references=3, seed=1)
    found = scorer.scores(parameters)
    assert found.references.shape == (2, 3)
    np.testing.assert_allclose(found.grid, log_odds(scores[:2]), rtol=1e-4)
    assert (np.argsort(found.references) == np.argsort(-np.log1p(np.exp(-found.references)))).all()
    assert found.extracted is None
