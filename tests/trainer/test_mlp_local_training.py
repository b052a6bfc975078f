"""Local training: the update is what plain SGD gives, in any company."""

import dataclasses

import jax
import numpy as np
import pytest

from contract.randomness import stream
from trainer import DeviceExamples, LocalTrainer, evaluate
from trainer.models import get


def device(index: int, size: int) -> DeviceExamples:
    generator = stream(5, "device", index)
    x = generator.random((size, 784), dtype=np.float32)
    return DeviceExamples({"x": x, "y": generator.integers(0, 62, size).astype(np.int32)})


@pytest.fixture(scope="module")
def trainer() -> LocalTrainer:
    return LocalTrainer(model=get("mlp"), batch_size=10, epochs=2, max_examples=35, learning_rate=0.1, lanes=4)


def plain_sgd(params: np.ndarray, examples: DeviceExamples, batch_size: int, rate: float) -> np.ndarray:
    """Backpropagation written out in float64."""
    p = {name: array.astype(np.float64) for name, array in get("mlp").unravel(params).items()}
    for first in range(0, examples.num_examples, batch_size):
        x = examples.arrays["x"][first : first + batch_size].astype(np.float64)
        y = examples.arrays["y"][first : first + batch_size]
        pre = x @ p["W1"] + p["b1"]
        hidden = np.maximum(pre, 0)
        logits = hidden @ p["W2"] + p["b2"]
        probabilities = np.exp(logits - logits.max(1, keepdims=True))
        probabilities /= probabilities.sum(1, keepdims=True)
        probabilities[np.arange(len(y)), y] -= 1
        error = probabilities / len(y)
        back = (error @ p["W2"].T) * (pre > 0)
        p = {
            "W1": p["W1"] - rate * x.T @ back,
            "b1": p["b1"] - rate * back.sum(0),
            "W2": p["W2"] - rate * hidden.T @ error,
            "b2": p["b2"] - rate * error.sum(0),
        }
    return np.concatenate([p[name].reshape(-1) for name in ("W1", "b1", "W2", "b2")]) - params


def test_update_is_that_of_plain_sgd_with_a_short_last_batch() -> None:
    model = get("mlp")
    trainer = LocalTrainer(model=model, batch_size=10, learning_rate=0.1)
    params, examples = model.init(3), device(0, 23)
    delta, _ = trainer.train(params, examples, None)
    np.testing.assert_allclose(delta, plain_sgd(params, examples, 10, 0.1), atol=2e-6)


@pytest.mark.parametrize("lanes", [1, 3, 4])
def test_update_does_not_depend_on_the_other_devices(trainer: LocalTrainer, lanes: int) -> None:
    trainer = dataclasses.replace(trainer, lanes=lanes)
    params = trainer.model.init(0)
    devices = [device(i, size) for i, size in enumerate([20, 1, 50, 7, 0, 33, 12])]
    together = list(trainer.train_many(params, devices, range(7)))
    for i in (0, 2, 4, 5):
        alone, metrics = trainer.train(params, devices[i], i)
        np.testing.assert_array_equal(alone, together[i][0])
        assert metrics == together[i][1]


def test_device_without_examples_gives_a_zero_update(trainer: LocalTrainer) -> None:
    delta, metrics = trainer.train(trainer.model.init(0), device(0, 0), 1)
    assert not delta.any()
    assert metrics["examples"] == 0


def test_order_seed_alone_decides_order_and_subset(trainer: LocalTrainer) -> None:
    params, examples = trainer.model.init(0), device(1, 60)
    first, metrics = trainer.train(params, examples, 1)
    assert metrics["examples"] == 35
    assert metrics["targets"] == 70
    np.testing.assert_array_equal(first, trainer.train(params, examples, 1)[0])
    assert np.abs(first - trainer.train(params, examples, 2)[0]).max() > 1e-4


def test_evaluation_is_the_mean_over_all_examples() -> None:
    model = get("mlp")
    params = model.init(1)
    devices = [device(i, size) for i, size in enumerate([3, 0, 700])]
    metrics = evaluate(model, params, devices)
    p = model.unravel(params)
    x = np.concatenate([d.arrays["x"] for d in devices])
    y = np.concatenate([d.arrays["y"] for d in devices])
    logits = np.maximum(x @ p["W1"] + p["b1"], 0) @ p["W2"] + p["b2"]
    losses = jax.nn.logsumexp(logits, axis=1) - logits[np.arange(len(y)), y]
    assert metrics["loss"] == pytest.approx(float(losses.mean()), rel=1e-5)
    assert metrics["accuracy"] == pytest.approx(float((logits.argmax(1) == y).mean()))
    assert metrics["targets"] == 703


def test_init_is_a_function_of_the_seed() -> None:
    model = get("mlp")
    np.testing.assert_array_equal(model.init(1), model.init(1))
    assert (model.init(1) != model.init(2)).any()
    np.testing.assert_array_equal(model.ravel(model.unravel(model.init(1))), model.init(1))


def test_featurize_names_the_example_that_it_cannot_take() -> None:
    with pytest.raises(ValueError, match="example 1: y must lie in"):
        get("mlp").featurize([{"x": [0.0] * 784, "y": 3}, {"x": [0.0] * 784, "y": 62}])
    with pytest.raises(ValueError, match="example 0: x must hold"):
        get("mlp").featurize([{"x": [float("nan")] * 784, "y": 3}])


@pytest.mark.parametrize("change", [{"batch_size": 0}, {"learning_rate": 0.0}, {"lanes": -1}, {"epochs": 0}])
def test_trainer_refuses_what_is_not_positive(trainer: LocalTrainer, change: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=next(iter(change))):
        dataclasses.replace(trainer, **change)


def test_parameters_of_another_length_are_refused(trainer: LocalTrainer) -> None:
    with pytest.raises(ValueError, match=r"shape \(54270,\)"):
        trainer.train(np.zeros(3, np.float32), device(0, 2), 0)


def test_features_may_come_as_lists_arrays_and_pictures() -> None:
    flat = stream(1, "pictures").random(784, dtype=np.float32)
    mixed = get("mlp").featurize(
        [{"x": flat, "y": 1}, {"x": flat.reshape(28, 28), "y": np.int64(2)}, {"x": flat.tolist(), "y": 3}]
    )
    alike = get("mlp").featurize([{"x": flat.reshape(28, 28).astype(np.float64), "y": label} for label in (1, 2, 3)])
    for found in (mixed, alike):
        np.testing.assert_array_equal(found.arrays["x"], np.stack([flat] * 3))
        assert found.arrays["x"].dtype == np.float32
        assert found.arrays["y"].tolist() == [1, 2, 3]
    nothing = get("mlp").featurize([])
    assert nothing.arrays["x"].shape == (0, 784)
    assert nothing.num_examples == 0


@pytest.mark.parametrize("bad", [[0.0] * 783, [0.0] * 1568, 0.0, None])
def test_features_of_another_length_are_refused_by_their_example(bad: object) -> None:
    good = {"x": [0.0] * 784, "y": 0}
    for examples in ([good, good, {"x": bad, "y": 0}], [{"x": bad, "y": 0}] * 3):
        at = 2 if examples[0] is good else 0
        with pytest.raises(ValueError, match=f"example {at}: x must hold 784 finite numbers"):
            get("mlp").featurize(examples)


@pytest.mark.parametrize("size", [1, 10, 19, 30, 40, 41])
def test_all_steps_in_one_program_give_what_they_give_one_after_the_other(size: int) -> None:
    model = get("mlp")
    assert model.whole is not None
    stepwise = dataclasses.replace(model, arrangement=dataclasses.replace(model.arrangement, whole_steps=0))
    params, examples = model.init(2), device(9, size)
    found, apart = (
        LocalTrainer(model=chosen, batch_size=10, learning_rate=0.3, lanes=3).train(params, examples, 4)
        for chosen in (model, stepwise)
    )
    np.testing.assert_allclose(found[0], apart[0], rtol=0, atol=2e-6)
    assert np.array_equal(found[0], apart[0]) == (size == 41)  # five steps are taken one after the other by either
    assert found[1] == pytest.approx(apart[1], rel=1e-5)
