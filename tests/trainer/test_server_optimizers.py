"""Server optimisers against their published rules, and their state across a restart."""

import numpy as np
import pytest

from contract.randomness import stream
from trainer import server_optimizer


def updates(count: int) -> list[np.ndarray]:
    return [stream(1, "update", i).standard_normal(6).astype(np.float32) for i in range(count)]


def expected(kind: str, rate: float, momentum: float, epsilon: float) -> np.ndarray:
    """arXiv:2003.00295, Alg. 2, in float64; Adam with bias correction, Adagrad's epsilon under the root."""
    x, m = np.zeros(6), np.zeros(6)
    v = np.full(6, epsilon**2 if kind == "adagrad" else 0.0)
    for t, update in enumerate(updates(4), start=1):
        d = update.astype(np.float64)
        if kind == "sgd":
            m = momentum * m + d
            x += rate * m
            continue
        if kind == "adagrad":
            v = v + d**2
            x += rate * d / np.sqrt(v + epsilon**2)
            continue
        m = 0.9 * m + 0.1 * d
        v = 0.99 * v + 0.01 * d**2
        x += rate * (m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.99**t)) + epsilon)
    return x


@pytest.mark.parametrize(("kind", "momentum"), [("sgd", 0.0), ("sgd", 0.9), ("adam", 0.0), ("adagrad", 0.0)])
def test_rule_is_the_published_one(kind: str, momentum: float) -> None:
    optimizer = server_optimizer(kind, 0.3, momentum, epsilon=1e-3)
    params, state = np.zeros(6, np.float32), optimizer.init(6)
    for update in updates(4):
        params, state = optimizer.update(update, state, params)
    np.testing.assert_allclose(params, expected(kind, 0.3, momentum, 1e-3), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("kind", "momentum"), [("sgd", 0.0), ("sgd", 0.9), ("adam", 0.0), ("yogi", 0.0), ("adagrad", 0.0)])
def test_restored_state_goes_on_with_the_same_bits(kind: str, momentum: float) -> None:
    optimizer = server_optimizer(kind, 0.1, momentum)
    params, state = np.ones(6, np.float32), optimizer.init(6)
    for i, update in enumerate(updates(4)):
        if i == 2:
            stored = {name: (array.tobytes(), array.dtype, array.shape) for name, array in state.items()}
            state = {name: np.frombuffer(raw, dtype).reshape(shape) for name, (raw, dtype, shape) in stored.items()}
            other_params, other_state = server_optimizer(kind, 0.1, momentum).update(update, state, params)
        params, state = optimizer.update(update, state, params)
        if i == 2:
            np.testing.assert_array_equal(params, other_params)
            assert all((state[name] == other_state[name]).all() for name in state)


def test_state_of_another_optimizer_is_refused() -> None:
    state = server_optimizer("adam", 0.1).init(6)
    with pytest.raises(ValueError, match="the state of sgd must hold"):
        server_optimizer("sgd", 0.1, 0.9).update(np.zeros(6, np.float32), state, np.zeros(6, np.float32))


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        (("sgd", 0.0), "learning_rate"),
        (("sgd", 1.0, 1.0), "momentum"),
        (("adam", 1.0, 0.9), "adam must have 0"),
        (("lion", 1.0), "lion"),
    ],
)
def test_wrong_arguments_are_named(arguments: tuple[str, float], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        server_optimizer(*arguments)
