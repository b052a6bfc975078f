"""The backward passes written by hand against JAX's differentiation of the plain formulas, and padding that changes nothing."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from contract.randomness import stream
from trainer import DeviceExamples
from trainer.model import Batch, Params
from trainer.models import get
from trainer.models.cifg import cifg
from trainer.models.output_layer import cross_entropy


def draw(*shape: int, label: str) -> np.ndarray:
    return stream(2, label, *shape).standard_normal(shape).astype(np.float32) * 0.3


def plain_cifg(x: jax.Array, wx: jax.Array, wr: jax.Array, b: jax.Array, p: jax.Array) -> jax.Array:
    """The four formulas, step by step."""
    units = p.shape[0]
    r, c = jnp.zeros((x.shape[1], p.shape[1])), jnp.zeros((x.shape[1], units))
    outputs = []
    for x_t in x:
        g = x_t @ wx + r @ wr + b
        f, o, u = jax.nn.sigmoid(g[:, :units]), jax.nn.sigmoid(g[:, units : 2 * units]), jnp.tanh(g[:, 2 * units :])
        c = f * c + (1 - f) * u
        r = (o * jnp.tanh(c)) @ p
        outputs.append(r)
    return jnp.stack(outputs)


def test_cifg_and_its_gradients_are_those_of_the_formulas() -> None:
    arguments = (
        draw(5, 3, 4, label="x"), draw(4, 21, label="wx"), draw(6, 21, label="wr"), draw(21, label="b"), draw(7, 6, label="p"),
    )  # fmt: skip
    weight = draw(5, 3, 6, label="weight")
    np.testing.assert_allclose(cifg(*arguments), plain_cifg(*arguments), atol=1e-6)
    by_hand = jax.grad(lambda *a: jnp.sum(cifg(*a) * weight), argnums=range(5))(*arguments)
    automatic = jax.grad(lambda *a: jnp.sum(plain_cifg(*a) * weight), argnums=range(5))(*arguments)
    for mine, theirs in zip(by_hand, automatic, strict=True):
        np.testing.assert_allclose(mine, theirs, atol=3e-6)


@pytest.mark.parametrize("rows", [9, 99])
def test_cross_entropy_and_its_gradients_are_those_of_log_softmax(rows: int) -> None:
    r, embedding = draw(rows, 4, label="r") * 10, draw(30, 4, label="e") * 10
    targets = np.resize([3, 3, 0, 29, 7, 7, 7, 1, 2], rows)
    weights = np.abs(draw(rows, label="w"))
    weights[4] = 0.0

    def plain(r: jax.Array, embedding: jax.Array) -> jax.Array:
        return -jnp.sum(weights * jax.nn.log_softmax(r @ embedding.T)[jnp.arange(rows), targets])

    def fused(r: jax.Array, embedding: jax.Array) -> jax.Array:
        return 2.0 * cross_entropy(r, embedding, targets, weights)[0]

    np.testing.assert_allclose(fused(r, embedding), 2 * plain(r, embedding), rtol=1e-6)
    for mine, theirs in zip(jax.grad(fused, (0, 1))(r, embedding), jax.grad(plain, (0, 1))(r, embedding), strict=True):
        np.testing.assert_allclose(mine, 2 * theirs, rtol=1e-5, atol=1e-5)
    hits = cross_entropy(r, embedding, targets, weights)[1]
    np.testing.assert_array_equal(hits, (r @ embedding.T).argmax(1) == targets)


def test_cross_entropy_stays_finite_for_large_logits() -> None:
    loss, gradient = jax.value_and_grad(
        lambda r: cross_entropy(r, np.eye(3, dtype=np.float32), np.asarray([1]), np.ones(1))[0]
    )(np.asarray([[1e4, -1e4, 0.0]], np.float32))
    assert float(loss) == pytest.approx(2e4)
    np.testing.assert_allclose(gradient, [[1.0, -1.0, 0.0]])


MODEL = get("next_word", words=50, width=5, units=7)
GRADIENT = jax.jit(jax.grad(MODEL.loss, has_aux=True))
TEXTS = ("how are you", "i'm fine , thanks ! see you at 5 zzqx you", "ok", "zzqx", " ".join(["you and i"] * 9))


def examples() -> DeviceExamples:
    return MODEL.featurize([{"text": text} for text in TEXTS])


def gradients(params: Params, batch: Batch, mask: np.ndarray) -> dict[str, np.ndarray]:
    return jax.tree.map(np.asarray, GRADIENT(params, batch, mask)[0])


def test_loss_is_the_mean_over_the_targets_that_are_words() -> None:
    params = MODEL.unravel(MODEL.init(1))
    arrays = examples().arrays
    total, count = 0.0, 0
    for row in range(len(TEXTS)):
        r = plain_cifg(*(params["E"][arrays["tokens"][row, :-1]][:, None], *(params[n] for n in ("Wx", "Wr", "b", "P"))))
        log_p = jax.nn.log_softmax(r[:, 0] @ params["E"].T)
        for step in range(20):
            target = int(arrays["tokens"][row, step + 1])
            if target >= 4:
                total, count = total - float(log_p[step, target]), count + 1
    loss, sums = MODEL.loss(params, dict(arrays), np.ones(len(TEXTS), np.float32))
    assert float(sums["targets"]) == count
    assert float(loss) == pytest.approx(total / count, rel=1e-5)


def test_padding_rows_and_leaving_out_padding_change_nothing() -> None:
    params = MODEL.unravel(MODEL.init(1))
    assert MODEL.prepare is not None
    for rows in ([0, 2, 3, 1], [4, 3, 2, 0]):
        batch = {name: array[rows] for name, array in examples().arrays.items()}
        padded = {name: np.concatenate([array, array[:2]]) for name, array in batch.items()}
        mask = np.asarray([1.0] * len(rows) + [0.0, 0.0], np.float32)
        plain = gradients(params, batch, np.ones(len(rows), np.float32))
        for other in (gradients(params, padded, mask), gradients(params, MODEL.prepare(padded, mask), mask)):
            for name, gradient in plain.items():
                np.testing.assert_allclose(gradient, other[name], atol=1e-7)


def test_batch_without_a_counted_target_moves_nothing() -> None:
    params = MODEL.unravel(MODEL.init(1))
    batch = {name: array[3:4] for name, array in examples().arrays.items()}
    assert all(not gradient.any() for gradient in gradients(params, batch, np.ones(1, np.float32)).values())


def test_layer_with_rounded_products_is_right_to_the_rounding() -> None:
    arguments = (
        draw(5, 4, 6, label="x"), draw(6, 24, label="wx"), draw(6, 24, label="wr"), draw(24, label="b"), draw(8, 6, label="p"),
    )  # fmt: skip
    weight = draw(5, 4, 6, label="weight")
    exact, rounded = (
        jax.grad(lambda *a, how=how: jnp.sum(cifg(*a, rounded=how) * weight), argnums=range(5))(*arguments)
        for how in (False, True)
    )
    for theirs, mine in zip(exact, rounded, strict=True):
        assert np.linalg.norm(mine - theirs) <= 8e-3 * np.linalg.norm(theirs)
