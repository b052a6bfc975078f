"""The next-word models' own step of SGD against their loss differentiated."""

import dataclasses

import jax
import numpy as np
import pytest

from contract.randomness import stream
from trainer import DeviceExamples, LocalTrainer, bfloat16
from trainer.model import Array, Batch, Params, Sums
from trainer.models import get

MODEL = get("next_word", words=400, width=6, units=9)


def devices() -> list[DeviceExamples]:
    generator = stream(5, "devices")
    made: list[DeviceExamples] = []
    for n in (7, 1, 12):
        counted = generator.random((n, 20)) < 0.6
        made.append(DeviceExamples({"tokens": generator.integers(0, 400, (n, 21), np.int32), "counted": counted}))
    return [*made, DeviceExamples({"tokens": np.zeros((2, 21), np.int32), "counted": np.zeros((2, 20), bool)})]


def trained(rate: float, *, own_step: bool) -> list[tuple[np.ndarray, dict[str, float]]]:
    model = MODEL if own_step else dataclasses.replace(MODEL, descent=None)
    trainer = LocalTrainer(model=model, batch_size=4, learning_rate=rate, lanes=1, products="float32")
    return list(trainer.train_many(MODEL.init(3), devices(), [1, 2, 3, 4]))


def test_own_step_gives_the_updates_and_metrics_of_the_differentiated_loss() -> None:
    if jax.default_backend() != "cpu":
        pytest.skip("the model's own step is for processors")
    for (mine, counts), (theirs, expected) in zip(trained(0.3, own_step=True), trained(0.3, own_step=False), strict=True):
        np.testing.assert_allclose(mine, theirs, atol=2e-6)
        assert counts == pytest.approx(expected, rel=1e-5, nan_ok=True)


def test_arranged_parameters_are_restored_as_they_were() -> None:
    assert MODEL.descent is not None
    params = MODEL.unravel(MODEL.init(1))
    restored = MODEL.descent.restore(MODEL.descent.arrange({name: jax.device_put(array) for name, array in params.items()}))
    assert restored.keys() == params.keys()
    for name, array in params.items():
        np.testing.assert_array_equal(restored[name], array)


def test_products_in_bfloat16_change_an_update_by_their_rounding_alone() -> None:
    exact, rounded = (
        list(
            LocalTrainer(model=MODEL, batch_size=4, learning_rate=0.3, lanes=1, products=products).train_many(
                MODEL.init(3), devices(), [1, 2, 3, 4]
            )
        )
        for products in ("float32", "bfloat16")
    )
    for (theirs, expected), (mine, counts) in zip(exact, rounded, strict=True):
        assert mine.dtype == np.float32
        assert np.linalg.norm(mine - theirs) <= 4e-3 * np.linalg.norm(theirs)
        assert counts == pytest.approx(expected, rel=4e-3, nan_ok=True)


def test_rounding_to_bfloat16_is_to_nearest_and_keeps_what_is_no_number() -> None:
    generator = stream(5, "rounded")
    x = generator.standard_normal(1000).astype(np.float32) * np.float32(10.0) ** generator.integers(-30, 30, 1000)
    back = np.asarray(bfloat16.rounded(jax.device_put(x)), np.float32)
    assert np.all(np.abs(back - x) <= np.abs(x) * 2.0**-8)
    np.testing.assert_array_equal(back, np.asarray(x.astype(jax.numpy.bfloat16), np.float32))
    special = np.asarray([np.inf, -np.inf, np.nan, 0.0], np.float32)
    np.testing.assert_array_equal(np.asarray(bfloat16.rounded(jax.device_put(special)), np.float32), special)


def test_exponential_is_right_to_the_rounding_and_keeps_what_is_no_number() -> None:
    x = np.concatenate([-np.geomspace(1e-6, 87.0, 4001), [0.0]]).astype(np.float32)
    found = np.asarray(jax.jit(bfloat16.exponential)(x).astype(np.float32), np.float64)
    np.testing.assert_allclose(found, np.exp(x.astype(np.float64)), rtol=2.0**-8 + 2.0**-13)
    assert found[-1] == 1.0
    special = np.asarray(bfloat16.exponential(jax.device_put(np.asarray([-1e9, -np.inf, np.nan], np.float32))), np.float32)
    assert np.all(special[:2] <= 2.0**-125)
    assert np.isnan(special[2])


@pytest.mark.parametrize("rows", [4, 5])
def test_transpose_is_the_transpose(rows: int) -> None:
    matrix = jax.device_put(np.arange(3.0 * rows, dtype=np.float32).reshape(rows, 3)).astype(jax.numpy.bfloat16)
    np.testing.assert_array_equal(bfloat16.transposed(matrix), np.asarray(matrix).T)


def test_products_are_rounded_only_where_processor_and_compiler_multiply_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bfloat16, "_processor", lambda: "flags : fpu avx512f")
    bfloat16.gains.cache_clear()
    assert not bfloat16.gains()
    bfloat16.gains.cache_clear()


def test_unknown_products_are_refused() -> None:
    with pytest.raises(ValueError, match="products must be auto, float32 or bfloat16"):
        LocalTrainer(model=MODEL, batch_size=4, learning_rate=0.3, products="half")


def refusing(words: str) -> LocalTrainer:
    """A trainer whose program with rounded products fails for batches of four, in these words."""
    assert MODEL.descent is not None
    exact = MODEL.descent.step

    def refuse(_: object) -> np.ndarray:
        raise RuntimeError(words)

    def step(params: Params, batch: Batch, mask: Array, rate: float, rounded: bool) -> tuple[Params, Sums]:
        moved, sums = exact(params, batch, mask, rate, False)
        if rounded and len(mask) == 4:
            moved["b"] = jax.pure_callback(refuse, moved["b"], moved["b"])
        return moved, sums

    model = dataclasses.replace(MODEL, descent=dataclasses.replace(MODEL.descent, step=step))
    return LocalTrainer(model=model, batch_size=4, learning_rate=0.3, lanes=1, products="bfloat16")


def test_step_that_cannot_run_with_rounded_products_runs_with_exact_ones() -> None:
    found = refusing("no code for this product").train_many(MODEL.init(3), devices(), [1, 2, 3, 4])
    for (mine, _), (theirs, _) in zip(found, trained(0.3, own_step=True), strict=True):
        np.testing.assert_array_equal(mine, theirs)


def test_want_of_memory_changes_nobodys_products() -> None:
    with pytest.raises(RuntimeError, match="RESOURCE_EXHAUSTED"):
        list(refusing("RESOURCE_EXHAUSTED: out of memory").train_many(MODEL.init(3), devices(), [1, 2, 3, 4]))
