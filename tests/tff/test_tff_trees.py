"""Tree aggregation and clipping quantiles against TensorFlow Privacy, draw by draw: deterministic unless a test says otherwise."""

import math
from dataclasses import dataclass

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from contract.randomness import stream
from privacy import adaptive_clip
from privacy.adaptive_clip import QuantileState
from privacy.keystream import Keystream
from privacy.noise import TreeNoise
from tutti.engines.process import EngineProcess

pytestmark = pytest.mark.tff
UNIT = 1 << 40
DRAWS = 96


@dataclass
class OneHotSampler:
    """The k-th draw is `UNIT` at place k, so that noise shows which draws it is made of."""

    drawn: int = 0
    reach: int = UNIT

    def draw(self, stream: Keystream, size: int) -> NDArray[np.int64]:
        out = np.zeros(size, np.int64)
        out[self.drawn] = UNIT
        self.drawn += 1
        return out


def our_weights(*, steps: int, honaker: bool, restart_every: int | None) -> NDArray[np.float64]:
    noise = TreeNoise(dimension=DRAWS, sampler=OneHotSampler(), key=bytes(32), honaker=honaker, restart_every=restart_every)  # pyright: ignore[reportArgumentType]
    return np.cumsum([noise.next() for _ in range(steps)], axis=0) / UNIT


@pytest.mark.parametrize("restart_every", [None, 1, 4, 6, 7])
@pytest.mark.parametrize("honaker", [True, False])
def test_prefix_noise_has_the_covariance_of_tensorflow_privacys(
    engine: EngineProcess, honaker: bool, restart_every: int | None
) -> None:
    asked = {"steps": 21, "draws": DRAWS, "honaker": honaker, "restart_every": restart_every}
    theirs = engine.call("tree_weights", asked)[1]["weights"].astype(np.float64)
    ours = our_weights(steps=21, honaker=honaker, restart_every=restart_every)
    # Equal covariances of all prefixes mean the same mechanism; theirs may draw numbers that it never uses.
    np.testing.assert_allclose(ours @ ours.T, theirs @ theirs.T, rtol=0, atol=2e-4)


@pytest.mark.parametrize("honaker", [True, False])
def test_each_node_has_the_weight_that_tensorflow_privacy_gives_it(engine: EngineProcess, honaker: bool) -> None:
    asked = {"steps": 16, "draws": DRAWS, "honaker": honaker, "restart_every": None}
    theirs = engine.call("tree_weights", asked)[1]["weights"].astype(np.float64)
    ours = our_weights(steps=16, honaker=honaker, restart_every=None)
    used = [weights[:, (weights != 0).any(axis=0)] for weights in (ours, theirs)]
    np.testing.assert_allclose(sorted(map(tuple, used[0].T.round(3))), sorted(map(tuple, used[1].T.round(3))), atol=2e-3)


def test_clip_follows_the_quantile_as_tensorflow_privacys_does(engine: EngineProcess) -> None:
    norms = np.exp(stream(1, "norms").normal(size=(30, 8)))
    asked = {"initial": 0.1, "target": 0.7, "learning_rate": 0.2, "bit_noise": 0.0}
    theirs = engine.call("quantiles", asked, {"norms": norms})[1]["estimates"]
    state, ours = QuantileState(estimate=0.1, target_quantile=0.7, learning_rate=0.2), list[float]()
    for row in norms:
        bits = sum(adaptive_clip.bit(float(norm), state) for norm in row)
        state = adaptive_clip.update(state, noised_sum=float(bits), devices=8)
        ours.append(state.estimate)
    np.testing.assert_allclose(ours, theirs, rtol=2e-5)


def test_noised_steps_of_the_clip_have_the_same_law(engine: EngineProcess) -> None:
    # One step from the same start, 300 times. False alarms: 1e-5 for the mean, 1e-5 for the variance.
    devices, noise, rate, repeats = 8, 0.4, 0.2, 300
    asked = {"initial": 1.0, "target": 0.5, "learning_rate": rate, "bit_noise": noise, "repeat_first": True}
    norms = np.tile(np.array([0.5] * 5 + [2.0] * 3), (repeats, 1))
    steps = np.log(engine.call("quantiles", asked, {"norms": norms})[1]["estimates"])
    expected, deviation = -rate * (5 / 8 - 0.5), rate * noise / devices
    state = QuantileState(estimate=1.0, target_quantile=0.5, learning_rate=rate)
    # Ours: bits in halves, so that noise of 2 sigma_b halves on a sum of 5 - 3 = 2 halves moves the log by the same law.
    assert math.isclose(math.log(adaptive_clip.update(state, noised_sum=2.0, devices=devices).estimate), expected)
    one = math.log(adaptive_clip.update(state, noised_sum=2.0 + 2 * noise, devices=devices).estimate) - expected
    assert math.isclose(abs(one), deviation, rel_tol=1e-9)
    assert abs(steps.mean() - expected) <= stats.norm.isf(5e-6) * deviation / math.sqrt(repeats)
    spread = float(np.sum((steps - expected) ** 2)) / deviation**2
    assert stats.chi2.ppf(5e-6, repeats) <= spread <= stats.chi2.isf(5e-6, repeats)


def test_noise_is_split_between_vectors_and_bits_alike(engine: EngineProcess) -> None:
    generator = stream(2, "splits")
    for _ in range(20):
        multiplier, devices = float(generator.uniform(0.2, 8.0)), int(generator.integers(200, 7000))
        asked = {"noise_multiplier": multiplier, "clients": float(devices), "bit_noise": None}
        theirs = engine.call("adaptive_noise", asked)[0]
        ours = adaptive_clip.vector_noise_multiplier(multiplier, [devices / adaptive_clip.DEFAULT_BIT_SHARE])
        assert math.isclose(theirs["bit_noise"], devices / 20)
        assert math.isclose(ours, theirs["value_noise_multiplier"], rel_tol=1e-9)
