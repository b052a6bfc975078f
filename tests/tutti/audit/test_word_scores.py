"""Scores of next-word canaries against the trainer's own, and what a model that has learned its canaries by heart must give."""

import numpy as np
import pytest
from scipy import stats

from client_sim.canaries import Canary, word_canaries
from privacy.audit import exposures, permutation_p_value
from trainer import LocalTrainer, prediction
from trainer.models import next_word
from tutti.audit import word_scores

MODEL = next_word.build(words=400, width=16, units=24)
START = MODEL.init(0)


def _texts(tokens: np.ndarray) -> list[dict[str, str]]:
    return [{"text": " ".join(MODEL.vocabulary.token(int(word)) for word in row)} for row in tokens]


def test_scores_are_those_of_the_trainer() -> None:
    tokens = word_scores.references(MODEL, 70, length=5, seed=1)
    expected = prediction.log_probabilities(MODEL, START, MODEL.featurize(_texts(tokens)))
    np.testing.assert_allclose(word_scores.log_probabilities(MODEL, START, tokens, prefix=0), expected, rtol=1e-5)


def test_score_of_a_secret_is_the_whole_less_its_prefix() -> None:
    tokens = word_scores.references(MODEL, 30, length=5, seed=2)
    whole = word_scores.log_probabilities(MODEL, START, tokens, prefix=0)
    prefix = word_scores.log_probabilities(MODEL, START, tokens[:, :2], prefix=0)
    np.testing.assert_allclose(word_scores.log_probabilities(MODEL, START, tokens, prefix=2), whole - prefix, rtol=1e-4)


def test_scores_do_not_depend_on_the_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    tokens = word_scores.references(MODEL, 50, length=4, seed=3)
    told: list[tuple[int, int]] = []
    whole = word_scores.log_probabilities(MODEL, START, tokens, prefix=1)
    monkeypatch.setattr(word_scores, "_LOGITS_AT_ONCE", 16 * len(MODEL.vocabulary))
    blocks = word_scores.log_probabilities(MODEL, START, tokens, prefix=1, watch=lambda done, total: told.append((done, total)))
    np.testing.assert_allclose(blocks, whole, rtol=1e-5)
    assert told == [(16, 50), (32, 50), (48, 50), (50, 50)]


def test_words_that_the_model_does_not_know_are_refused() -> None:
    stranger = Canary(name="x", text="the zzyzx of", prefix=1, devices=1, copies=1, inserted=True)
    with pytest.raises(ValueError, match="vocabulary"):
        word_scores.token_ids(MODEL, [stranger])


@pytest.mark.slow
def test_an_overfitted_model_is_censored_on_what_it_saw_and_null_on_what_it_did_not() -> None:
    """False alarms: the uniformity of 60 held-out ranks is tested at 1e-4."""
    grid = word_canaries(MODEL.vocabulary.words, seed=4, devices=[1], copies=[1], per_cell=60)
    inserted = [canary for canary in grid if canary.inserted][:12]
    held_out = [canary for canary in grid if not canary.inserted]
    trainer = LocalTrainer(model=MODEL, batch_size=12, epochs=100, learning_rate=1.0)
    parameters = START
    for _ in range(10):
        parameters = parameters + trainer.train(parameters, MODEL.featurize([canary.example for canary in inserted]), 1)[0]
    references = word_scores.log_probabilities(
        MODEL, parameters, word_scores.references(MODEL, 4096, length=5, seed=5), prefix=2
    )
    seen_tokens = word_scores.token_ids(MODEL, inserted)
    seen = word_scores.log_probabilities(MODEL, parameters, seen_tokens, prefix=2)
    unseen = word_scores.log_probabilities(MODEL, parameters, word_scores.token_ids(MODEL, held_out), prefix=2)
    found, _ = exposures(seen, references)
    assert all(one.censored and one.bits == 12.0 for one in found)
    assert word_scores.extracted(MODEL, parameters, seen_tokens, prefix=2, width=10).all()
    ranks, _ = exposures(unseen, references)
    assert stats.kstest([one.rank / 4097 for one in ranks], "uniform").pvalue > 1e-4
    assert permutation_p_value(seen, unseen, permutations=9999) <= 2e-4
    assert not word_scores.extracted(MODEL, parameters, word_scores.token_ids(MODEL, held_out[:5]), prefix=2, width=10).any()
