"""Accounting against TensorFlow Privacy's, on random settings: deterministic."""

import math

import numpy as np
import pytest

from contract.randomness import stream
from privacy import accounting, tree_sensitivity
from privacy.events import Adjacency, GaussianEvent, TreeEvent
from tutti.engines.process import EngineProcess

pytestmark = pytest.mark.tff


def test_trees_cost_what_tensorflow_privacy_says_on_a_hundred_settings(engine: EngineProcess) -> None:
    generator, settings = stream(1, "trees"), list[tuple[float, int, int, int]]()
    while len(settings) < 100:
        leaves, cap, separation = (int(generator.integers(1, most)) for most in (129, 6, 17))
        settings.append((round(float(generator.uniform(0.1, 10)), 3), leaves, cap, separation))
    theirs = engine.call("tree_rho", {"settings": settings})[0]["rho"]
    for (noise, leaves, cap, separation), expected in zip(settings, theirs, strict=True):
        event = TreeEvent(noise_multiplier=noise, leaves=leaves, max_participations=cap, minimum_separation=separation)
        found = accounting.price(event, 1e-6).rho
        assert found is not None
        assert math.isclose(found, expected, rel_tol=1e-12), (noise, leaves, cap, separation)


def test_trees_that_restart_each_epoch_cost_what_tensorflow_privacy_says(engine: EngineProcess) -> None:
    generator, settings = stream(2, "epochs"), list[tuple[float, list[int]]]()
    for _ in range(30):
        steps, epochs = int(generator.integers(1, 40)), int(generator.integers(1, 5))
        settings.append((round(float(generator.uniform(0.5, 5)), 3), [steps] * epochs))
    theirs = engine.call("restarted_tree_rho", {"settings": settings})[0]["rho"]
    for (noise, steps), expected in zip(settings, theirs, strict=True):
        # Once an epoch: a separation of steps - 1 lets a device come at the same place of every epoch.
        zeta = tree_sensitivity.squared(
            leaves=sum(steps), minimum_separation=steps[0] - 1, max_participations=len(steps), restart_every=steps[0]
        )
        assert math.isclose(zeta / (2 * noise**2), expected, rel_tol=1e-12), (noise, steps)


def dp_sgd_settings(seed: int, count: int) -> list[tuple[int, int, float, float, float]]:
    generator = stream(seed, "dp-sgd")
    return [
        (
            int(generator.integers(10_000, 200_000)),
            int(generator.integers(64, 2048)),
            round(float(generator.uniform(0.7, 4.0)), 3),
            round(float(generator.uniform(0.5, 20.0)), 2),
            10.0 ** -int(generator.integers(5, 9)),
        )
        for _ in range(count)
    ]


def event_of(examples: int, batch: int, noise: float, epochs: float) -> GaussianEvent:
    return GaussianEvent(
        noise_multiplier=noise,
        releases=math.ceil(epochs * examples / batch),
        sampling_rate=batch / examples,
        adjacency=Adjacency.ADD_OR_REMOVE,
    )


def test_dp_sgd_costs_what_tensorflow_privacy_says_on_a_hundred_settings(engine: EngineProcess) -> None:
    settings = dp_sgd_settings(3, 100)
    theirs = np.array(engine.call("dp_sgd_epsilons", {"accountant": "RDP", "settings": settings})[0]["epsilon"])
    ours = np.array([accounting.price(event_of(*setting[:4]), setting[4]).epsilons["generic"] for setting in settings])
    # The same Renyi curve at whole orders. Ours is read at more of them, so that it is lower where theirs ends (order 63, small epsilon);
    # theirs has finer fractions between 1 and 11, worth up to one part in a hundred.
    assert (ours <= theirs * 1.01).all()
    np.testing.assert_allclose(ours[theirs > 0.7], theirs[theirs > 0.7], rtol=0.01)
    assert np.count_nonzero(theirs > 0.7) >= 30


def test_dp_sgd_by_privacy_loss_distributions_agrees_too(engine: EngineProcess) -> None:
    settings = dp_sgd_settings(4, 8)
    theirs = engine.call("dp_sgd_epsilons", {"accountant": "PLD", "settings": settings})[0]["epsilon"]
    for setting, expected in zip(settings, theirs, strict=True):
        found = accounting.price(event_of(*setting[:4]), setting[4], pld=True).epsilons["pld"]
        assert found is not None
        assert math.isclose(found, expected, rel_tol=2e-3), setting
