"""Banded and BLT: sensitivity against brute force and jax-privacy, noise against the dense matrix, integers against exact fractions."""

import itertools
from collections.abc import Callable
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contract.randomness import stream
from privacy import accounting, central, matrix_sensitivity, strategies
from privacy.events import BandedEvent, BltEvent, from_json, to_json
from privacy.matrix_noise import _decay
from privacy.strategies import Banded, BufferedToeplitz

KEY = bytes(range(32))
PUBLISHED = {
    "buf_decay": (0.9999999999921251, 0.9944453083640997, 0.8985923474607591, 0.4912001418098778),
    "output_scale": (0.0070314825502323835, 0.10613806907600574, 0.1898159060327625, 0.1966594748073734),
}
BLT = strategies.buffered(buf_decay=(0.99, 0.7), output_scale=(0.15, 0.25))


def dense(column: np.ndarray, rounds: int) -> np.ndarray:
    full = np.concatenate([column, np.zeros(rounds)])[:rounds]
    return np.array([[full[i - j] if i >= j else 0.0 for j in range(rounds)] for i in range(rounds)])


def brute_force(matrix: np.ndarray, separation: int, cap: int | None) -> float:
    """Largest squared norm over all patterns of non-negative columns."""
    rounds, best = len(matrix), 0.0
    for count in range(1, (cap or rounds) + 1):
        for pattern in itertools.combinations(range(rounds), count):
            if all(b - a > separation for a, b in itertools.pairwise(pattern)):
                column = matrix[:, list(pattern)].sum(axis=1)
                best = max(best, float(column @ column))
    return best


def test_published_blt():
    event = BltEvent(noise_multiplier=1.0, leaves=100, minimum_separation=49, **PUBLISHED)
    assert f"{accounting.price(event, 1e-10).rho:.8f}" == "3.17226586"


def test_published_banded_and_the_cap_that_a_report_must_explain():
    event = {"noise_multiplier": 1.411, "leaves": 2000, "bands": 400, "column_norm_squared": 0.2, "minimum_separation": 484}
    price = accounting.price(BandedEvent(max_participations=3, **event), 1e-10)
    assert f"{price.rho:.8f}" == "0.15068403"
    assert f"{price.epsilons['exact']:.4f}" == "3.4240"
    assert f"{accounting.price(BandedEvent(**event), 1e-10).rho:.4f}" == "0.2511"


@given(
    decay=st.tuples(st.floats(0, 1), st.floats(0, 1)),
    scale=st.tuples(st.floats(0, 0.5), st.floats(0, 0.5)),
    rounds=st.integers(1, 10),
    separation=st.integers(0, 10),
    cap=st.none() | st.integers(1, 5),
)
@settings(max_examples=80, deadline=None)
def test_blt_sensitivity_is_the_worst_pattern(decay, scale, rounds, separation, cap):
    event = BltEvent(
        noise_multiplier=1.0,
        leaves=rounds,
        buf_decay=decay,
        output_scale=scale,
        minimum_separation=separation,
        max_participations=cap,
    )
    matrix = dense(matrix_sensitivity.coefficients(decay, scale, rounds), rounds)
    assert matrix_sensitivity.blt(event) == pytest.approx(brute_force(matrix, separation, cap), rel=1e-12)


@pytest.mark.parametrize(
    ("rounds", "separation", "cap", "bands"), [(12, 3, None, 4), (12, 3, 2, 3), (9, 0, None, 1), (10, 4, None, 5)]
)
def test_banded_price_covers_every_pattern(rounds: int, separation: int, cap: int | None, bands: int):
    strategy = strategies.square_root_banded(bands=bands)
    column = strategy.real() / np.linalg.norm(strategy.real())
    event = BandedEvent(noise_multiplier=1.0, leaves=rounds, bands=bands, minimum_separation=separation, max_participations=cap)
    worst = brute_force(dense(column, rounds), separation, cap)
    assert worst <= matrix_sensitivity.banded(event) * (1 + 1e-12)
    assert matrix_sensitivity.banded(event) <= worst + 1.0  # only the last columns are shorter than 1


def test_sensitivity_agrees_with_jax_privacy():
    jax = pytest.importorskip("jax")
    toeplitz = pytest.importorskip("jax_privacy.matrix_factorization.toeplitz")
    column = matrix_sensitivity.coefficients(PUBLISHED["buf_decay"], PUBLISHED["output_scale"], 300)
    with jax.enable_x64():
        theirs = toeplitz.minsep_sensitivity_squared(jax.numpy.asarray(column), min_sep=40, max_participations=5)
    event = BltEvent(noise_multiplier=1.0, leaves=300, minimum_separation=39, max_participations=5, **PUBLISHED)
    assert matrix_sensitivity.blt(event) == pytest.approx(float(theirs), rel=1e-9)


@pytest.mark.parametrize("strategy", [strategies.square_root_banded(bands=5), BLT], ids=["banded", "blt"])
def test_variance_of_every_prefix(strategy: Banded | BufferedToeplitz):
    """20,000 coordinates, 24 prefixes, each within 5.5 standard errors (false alarm about 10^-6)."""
    mechanism = "banded" if isinstance(strategy, Banded) else "blt"
    rounds = 24
    plan = central.plan(
        mechanism=mechanism,
        dimension=20_000,
        clip_norm=1.0,
        noise_multiplier=2.0,
        rounds=rounds,
        minimum_separation=4,
        strategy=strategy,
    )
    column = strategy.real() if isinstance(strategy, Banded) else matrix_sensitivity.coefficients(
        strategy.buf_decay, strategy.output_scale, rounds
    )  # fmt: skip
    rows = np.tril(np.ones((rounds, rounds))) @ np.linalg.inv(dense(column, rounds))
    noise = plan.stream(KEY)
    total = np.zeros(20_000, np.int64)
    for row in rows:
        total += noise.next()
        deviation = plan.sigma * 2.0**-plan.fraction_bits
        assert total.var() / deviation**2 == pytest.approx(float(row @ row), rel=5.5 * np.sqrt(2 / 20_000))


def test_sigma_counts_the_column_norm_only_where_columns_are_normalised():
    banded = central.plan(
        mechanism="banded", dimension=10, clip_norm=1.0, noise_multiplier=2.0, rounds=9, minimum_separation=3, bands=4
    )
    assert isinstance(banded.strategy, Banded)
    bound = banded.grid.norm_bound_squared**0.5
    assert banded.sigma * 2.0**-banded.fraction_bits == pytest.approx(
        2 * bound * float(np.linalg.norm(banded.strategy.real())), rel=1e-7
    )
    blt = central.plan(mechanism="blt", dimension=10, clip_norm=1.0, noise_multiplier=2.0, rounds=9, strategy=BLT)
    assert blt.sigma * 2.0**-blt.fraction_bits == pytest.approx(2 * bound, rel=1e-7)


def test_released_prefixes_are_a_function_of_the_noised_queries():
    """Banded: solving for the release from y = 2^F C x + Z alone, without x, gives x + w, to the last integer."""
    strategy = strategies.square_root_banded(bands=4)
    plan = central.plan(
        mechanism="banded", dimension=5, clip_norm=1.0, noise_multiplier=1.0, rounds=12, minimum_separation=3, strategy=strategy
    )
    x = stream(1, "x").integers(-500, 500, (12, 5)).astype(object)
    noise = plan.stream(KEY)
    from privacy.matrix_noise import _gaussian

    released, half = [], 1 << (plan.fraction_bits - 1)
    for t in range(12):
        drawn = _gaussian(plan._sampler(), KEY, t, 5).astype(object)
        c = strategy.coefficients
        y = sum(c[lag] * x[t - lag] for lag in range(min(t, 3) + 1)) + drawn
        released.append(
            (y - sum(c[lag] * released[t - lag] for lag in range(1, min(t, 3) + 1)) + half) // (1 << plan.fraction_bits)
        )
        assert (released[-1] == x[t] + noise.next().astype(object)).all()


def test_blt_feedback_stays_within_the_stated_error_of_exact_arithmetic():
    plan = central.plan(mechanism="blt", dimension=4, clip_norm=1.0, noise_multiplier=1.0, rounds=200, strategy=BLT)
    noise = plan.stream(KEY)
    exact = [[Fraction(0)] * 4 for _ in BLT.decays]
    for _ in range(200):
        held = noise._buffers.copy()
        for coordinate in range(4):
            truth = sum(buffer[coordinate] for buffer in exact)
            kept = Fraction(int(held[:, coordinate].sum()), 1 << plan.fraction_bits)
            assert 0 <= truth - kept <= Fraction(BLT.numerical_error(200))
        w = noise.next()
        for index, (decay, scale) in enumerate(zip(BLT.buf_decay, BLT.output_scale, strict=True)):
            exact[index] = [Fraction(decay) * s + Fraction(scale) * int(v) for s, v in zip(exact[index], w, strict=True)]


@given(values=st.lists(st.integers(-(1 << 61), 1 << 61), min_size=1, max_size=20), decay=st.integers(0, 1 << 31))
def test_decay_is_an_exact_floor(values: list[int], decay: int):
    buffer = np.array(values, np.int64)
    _decay(buffer, decay)
    assert buffer.tolist() == [value * decay >> 31 for value in values]


@pytest.mark.parametrize("mechanism", ["banded", "blt"])
def test_a_resumed_run_repeats_the_noise(mechanism: str):
    strategy = BLT if mechanism == "blt" else strategies.square_root_banded(bands=3)
    plan = central.plan(
        mechanism=mechanism, dimension=9, clip_norm=1.0, noise_multiplier=1.0, rounds=8, minimum_separation=2, strategy=strategy
    )
    whole = plan.stream(KEY)
    noise = [whole.next() for _ in range(8)]
    resumed = plan.stream(KEY, first_leaf=5)
    assert all(np.array_equal(resumed.next(), noise[leaf]) for leaf in (5, 6, 7))


def test_numerical_inflation_is_charged_and_small():
    plan = central.plan(
        mechanism="blt", dimension=1_412_250, clip_norm=0.3, noise_multiplier=1.0, rounds=2000, minimum_separation=399,
        max_participations=5, strategy=strategies.buffered(**PUBLISHED),
    )  # fmt: skip
    event = plan.event(2000)
    assert isinstance(event, BltEvent)
    assert 0 < event.numerical_inflation < 1e-3
    ideal = BltEvent(**{**{f: getattr(event, f) for f in ("noise_multiplier", "leaves", "buf_decay", "output_scale")},
                        "minimum_separation": 399, "max_participations": 5})  # fmt: skip
    assert accounting.price(event, 1e-10).rho > accounting.price(ideal, 1e-10).rho
    assert from_json(to_json(event)) == event


@pytest.mark.parametrize(
    ("event", "message"),
    [
        (lambda: BandedEvent(noise_multiplier=1.0, leaves=9, bands=4, minimum_separation=2), "bands"),
        (lambda: BltEvent(noise_multiplier=1.0, leaves=9, buf_decay=(1.1,), output_scale=(0.1,)), "buf_decay"),
        (lambda: BltEvent(noise_multiplier=1.0, leaves=9, buf_decay=(0.5,), output_scale=(0.6, 0.6)), "one output scale"),
        (lambda: BltEvent(noise_multiplier=1.0, leaves=9, buf_decay=(0.5, 0.5), output_scale=(0.6, 0.6)), "sum of at most 1"),
    ],
)
def test_what_the_theorems_do_not_cover_is_refused(event: Callable[[], BandedEvent | BltEvent], message: str):
    with pytest.raises(ValueError, match=message):
        accounting.price(event(), 1e-6)
