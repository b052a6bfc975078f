"""The next-word models: size, tokens, metrics, prediction and scoring."""

import numpy as np
import pytest

from trainer import DeviceExamples, LocalTrainer, evaluate
from trainer.models import get
from trainer.models.next_word import NextWord
from trainer.prediction import log_probabilities, predict
from trainer.vocabulary import Vocabulary, count_words, public_english


def small() -> NextWord:
    model = get("next_word", vocabulary=Vocabulary(("a", "b", "c", "d"), "test"), width=6, units=8)
    assert isinstance(model, NextWord)
    return model


def test_model_has_the_published_number_of_parameters() -> None:
    assert get("next_word").num_parameters == 1_412_250
    assert 85_000 <= get("next_word_small").num_parameters <= 95_000


def test_public_vocabulary_has_ten_thousand_tokens_with_punctuation_and_contractions() -> None:
    vocabulary = public_english()
    assert len(vocabulary) == 10_000
    assert {".", ",", "?", "!", "...", "don't", "i'm", "the", "7", "tomorrow"} <= set(vocabulary.words[:2_000])


def test_examples_are_start_words_and_end() -> None:
    arrays = small().featurize([{"text": "A b ZZ"}, {"text": "  "}, {"text": "a " * 30}]).arrays
    assert arrays["tokens"][0, :6].tolist() == [2, 4, 5, 1, 3, 0]
    assert arrays["counted"][0, :5].tolist() == [True, True, False, False, False]
    assert arrays["tokens"].shape == (2, 21)
    assert arrays["tokens"][1].tolist() == [2] + [4] * 20
    with pytest.raises(ValueError, match="example 0: text must be a string"):
        small().featurize([{"text": 3}])


def test_accuracy_ranges_over_real_words_and_counts_no_unknown_target() -> None:
    model = small()
    params = {name: np.zeros(shape, np.float32) for name, shape in model.shapes.items()}
    # The layer's output is constant in sign, so that the logits' order is that of E's first column.
    params["b"][8:16] = 10.0
    params["b"][16:] = 1.0
    params["P"][:, 0] = 1.0
    params["E"][:, 0] = [9.0, 8.0, 7.0, 6.0, 1.0, 4.0, 2.0, 3.0]
    metrics = evaluate(model, model.ravel(params), [model.featurize([{"text": "b b c a unknown"}, {"text": "d"}])])
    assert metrics["targets"] == 5
    assert metrics["top1"] == pytest.approx(2 / 5)
    assert metrics["top3"] == pytest.approx(4 / 5)


def test_model_that_says_nothing_is_not_called_right() -> None:
    model = small()
    metrics = evaluate(model, np.zeros(model.num_parameters, np.float32), [model.featurize([{"text": "d c"}])])
    assert metrics["top1"] == 0
    assert metrics["loss"] == pytest.approx(np.log(8), rel=1e-6)


def test_model_that_diverged_is_not_called_right() -> None:
    model = small()
    metrics = evaluate(model, np.full(model.num_parameters, np.nan, np.float32), [model.featurize([{"text": "d c"}])])
    assert metrics["top1"] == metrics["top3"] == 0
    assert np.isnan(metrics["loss"])


def test_training_learns_a_repeated_phrase_and_predicts_it() -> None:
    model = small()
    examples = model.featurize([{"text": "a b c d a b c d a b c d"}] * 30)
    trainer = LocalTrainer(model=model, batch_size=10, epochs=40, max_examples=30, learning_rate=2.0)
    params = model.init(0)
    delta, metrics = trainer.train(params, examples, 1)
    assert metrics["targets"] == 30 * 12 * 40
    assert evaluate(model, params + delta, [examples])["top1"] > 0.9
    words = predict(model, params + delta, "a b", k=4)
    assert words[0][0] == "c"
    assert sum(probability for _, probability in words) == pytest.approx(1.0, abs=1e-5)
    scores = log_probabilities(model, params + delta, model.featurize([{"text": "a b c"}, {"text": "c a a"}] * 40))
    assert scores.shape == (80,)
    assert scores[0] > scores[1] + 3


def test_scores_add_up_to_the_loss() -> None:
    model = small()
    examples = model.featurize([{"text": "a b c d zz"}, {"text": "d"}, {"text": "b a"}])
    params = model.init(4)
    metrics = evaluate(model, params, [examples])
    assert -log_probabilities(model, params, examples).sum() / metrics["targets"] == pytest.approx(metrics["loss"], rel=1e-5)


def test_update_is_the_same_in_lanes_and_alone() -> None:
    model = small()
    devices = [model.featurize([{"text": text}] * (i + 1)) for i, text in enumerate(["a b", "c c zz d", "d c b a " * 4])]
    one = LocalTrainer(model=model, batch_size=2, learning_rate=0.5)
    lanes = LocalTrainer(model=model, batch_size=2, learning_rate=0.5, lanes=2)
    params = model.init(0)
    for (left, _), (right, _) in zip(
        one.train_many(params, devices, range(3)), lanes.train_many(params, devices, range(3)), strict=True
    ):
        np.testing.assert_allclose(left, right, atol=1e-6)


def test_update_of_a_device_is_bitwise_the_same_alone_and_among_others() -> None:
    model = small()
    devices: list[DeviceExamples] = [model.featurize([{"text": "a b c"}] * n) for n in (3, 9, 1)]
    trainer = LocalTrainer(model=model, batch_size=4, learning_rate=0.5)
    params = model.init(0)
    together = list(trainer.train_many(params, devices, [5, 6, 7]))
    np.testing.assert_array_equal(trainer.train(params, devices[1], 6)[0], together[1][0])


@pytest.mark.parametrize("wrong", ["data", "english"])
def test_vocabulary_of_another_name_is_refused(wrong: str) -> None:
    with pytest.raises(ValueError, match="public-en"):
        get("next_word", vocabulary=wrong)


def test_counted_vocabulary_keeps_the_most_frequent() -> None:
    vocabulary = count_words(["b b a", "c c b"], size=6)
    assert vocabulary.words == ("b", "c")
    assert vocabulary.origin == "data"
    with pytest.raises(ValueError, match="each once"):
        Vocabulary(("a", "a"), "test")
