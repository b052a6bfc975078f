"""The optimised BLT: its gradient, its parameters, its loss against the dense matrix and against jax-privacy's optimiser."""

import numpy as np
import pytest

from contract.randomness import stream
from privacy import blt_optimum, central, matrix_sensitivity, strategies, tree_sensitivity
from privacy.blt_optimum import Schedule, loss, optimum

SCHEDULES = [
    Schedule(rounds=6, minimum_separation=2, participations=2),
    Schedule(rounds=50, minimum_separation=3, participations=13),
    Schedule(rounds=60, minimum_separation=0, participations=60),
    Schedule(rounds=100, minimum_separation=99, participations=1),
    Schedule(rounds=500, minimum_separation=100, participations=3),
]


@pytest.mark.parametrize("schedule", SCHEDULES, ids=str)
def test_loss_is_that_of_the_dense_matrices(schedule: Schedule) -> None:
    column = matrix_sensitivity.coefficients((0.9, 0.3), (0.2, 0.3), schedule.rounds)
    n, apart = schedule.rounds, schedule.minimum_separation + 1
    dense = np.array([[column[i - j] if i >= j else 0.0 for j in range(n)] for i in range(n)])
    worst = dense[:, : schedule.participations * apart : apart].sum(axis=1)
    prefixes = np.tril(np.ones((n, n))) @ np.linalg.inv(dense)
    squared, error = loss(column, schedule)
    assert squared == pytest.approx(worst @ worst, rel=1e-12)
    assert error == pytest.approx((prefixes**2).sum(axis=1).mean(), rel=1e-10)
    assert error**0.5 == pytest.approx(strategies.prefix_error(column, n), rel=1e-10)


@pytest.mark.parametrize("schedule", SCHEDULES, ids=str)
@pytest.mark.parametrize("buffers", [1, 3])
def test_gradient_is_the_difference_quotient(schedule: Schedule, buffers: int) -> None:
    logits = stream(7, "logits").normal(size=2 * buffers + 1)
    value, gradient = blt_optimum._log_loss(logits, schedule)
    for index in range(len(logits)):
        step = np.zeros_like(logits)
        step[index] = 1e-5
        above, below = (blt_optimum._log_loss(logits + sign * step, schedule)[0] for sign in (1, -1))
        assert gradient[index] == pytest.approx((above - below) / 2e-5, abs=1e-6)
    decays, scales = blt_optimum._parameters(blt_optimum._gaps(logits))
    squared, error = loss(matrix_sensitivity.coefficients(decays, scales, schedule.rounds), schedule)
    assert value == pytest.approx(np.log(squared * error), rel=1e-9)  # gaps and (decays, scales) are the same strategy


@pytest.mark.parametrize("schedule", SCHEDULES, ids=str)
def test_optimum_is_a_strategy_that_the_theorems_cover_in_fixed_point_too(schedule: Schedule) -> None:
    for buffers in (1, 2, 3):
        found = optimum(schedule, buffers=buffers)
        assert 1 <= len(found.buf_decay) <= buffers
        strategy = strategies.buffered(buf_decay=found.buf_decay, output_scale=found.output_scale)
        column = matrix_sensitivity.coefficients(strategy.buf_decay, strategy.output_scale, schedule.rounds)
        squared, error = loss(column, schedule)
        assert (squared * error) ** 0.5 == pytest.approx(found.loss, rel=1e-5)
    assert found.loss <= optimum(schedule, buffers=1).loss * (1 + 1e-6)


@pytest.mark.parametrize(
    ("schedule", "buffers", "theirs"),
    [  # jax-privacy 2.0, buffered_toeplitz.optimize(error="mean")
        (Schedule(rounds=50, minimum_separation=3, participations=13), 3, 11.12209),
        (Schedule(rounds=500, minimum_separation=20, participations=24), 3, 22.38715),
        (Schedule(rounds=500, minimum_separation=100, participations=5), 3, 7.15121),
        (Schedule(rounds=500, minimum_separation=99, participations=5), 2, 7.16182),
        (Schedule(rounds=1000, minimum_separation=100, participations=6), 3, 9.34440),
        (Schedule(rounds=1000, minimum_separation=999, participations=1), 4, 3.04983),
        (Schedule(rounds=2000, minimum_separation=313, participations=6), 3, 9.24006),
    ],
    ids=str,
)
def test_loss_is_at_most_a_ten_thousandth_above_jax_privacys(schedule: Schedule, buffers: int, theirs: float) -> None:
    assert optimum(schedule, buffers=buffers).loss <= 1.0001 * theirs


@pytest.mark.slow
def test_jax_privacy_finds_nothing_better() -> None:
    jax = pytest.importorskip("jax")
    theirs = pytest.importorskip("jax_privacy.matrix_factorization.buffered_toeplitz")
    schedule = Schedule(rounds=120, minimum_separation=29, participations=4)
    with jax.enable_x64():
        found = theirs.optimize(n=120, min_sep=30, max_participations=4, error="mean", min_buffers=2, max_buffers=2)
        decays, scales = tuple(map(float, found.buf_decay)), tuple(map(float, found.output_scale))
    squared, error = loss(matrix_sensitivity.coefficients(decays, scales, 120), schedule)
    assert optimum(schedule, buffers=2).loss <= 1.0001 * (squared * error) ** 0.5


def test_optimised_blt_beats_honaker_and_the_tree_at_equal_rho() -> None:
    found = optimum(Schedule(rounds=500, minimum_separation=99, participations=5), buffers=2)
    zeta = tree_sensitivity.squared(leaves=500, minimum_separation=99, max_participations=5)
    levels = [sum(1 / (2 - 2.0**-m) for m in range(10) if t >> m & 1) for t in range(1, 501)]
    assert found.loss < (zeta * np.mean(levels)) ** 0.5


@pytest.mark.parametrize("buffers", [0, 9])
def test_a_number_of_buffers_that_no_strategy_has_is_refused(buffers: int) -> None:
    with pytest.raises(ValueError, match=r"buffers must lie in \[1, 8\]"):
        central.plan(mechanism="blt", dimension=2, clip_norm=1.0, noise_multiplier=1.0, rounds=4, buffers=buffers)


def test_more_rounds_than_a_verifier_would_fit_again_are_refused() -> None:
    with pytest.raises(ValueError, match="at most 20000 rounds, not 20001"):
        optimum(Schedule(rounds=20_001, minimum_separation=0, participations=1), buffers=1)
