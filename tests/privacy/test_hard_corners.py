"""Prices where a shortcut would be too low: groups that spread over rounds, many trials, many restarts, caps of other mechanisms."""

import math

import pytest

from privacy import accounting, curves, ddg, group, selection
from privacy.events import BandedEvent, BltEvent, DistributedEvent, GaussianEvent, SelectionEvent, to_json
from privacy.report.claims import remarks
from privacy.tree_sensitivity import squared


def narrow(participations: int) -> DistributedEvent:
    """A sum whose distance from a discrete Gaussian, and not its signal, is most of the price."""
    return DistributedEvent(
        mechanism="ddg", dimension=1 << 12, squared_norm=16, local_sigma=0.8, contributors=(40_000,) * participations,
        participations=participations,
    )  # fmt: skip


def test_two_devices_of_a_person_may_be_in_different_rounds() -> None:
    assert group.price(narrow(3), 1e-6, size=2).epsilon >= accounting.price(narrow(6), 1e-6).epsilon


def test_trials_of_every_shape_draw_as_often_as_they_are_expected_to() -> None:
    trial = GaussianEvent(noise_multiplier=4.0, releases=1, draws=1 << 20, distance_log2=-60)
    event = SelectionEvent(trial=trial, shape=5.0, stop_probability=0.1)
    mean = selection.mean_trials(shape=5.0, stop_probability=0.1)
    assert curves.curve(event).distance >= math.ldexp(float(1 << 20), -60) * mean


def test_a_tree_may_restart_in_every_round() -> None:
    assert squared(leaves=3000, minimum_separation=10, restart_every=1) == 273


@pytest.mark.parametrize(
    "event",
    [
        BandedEvent(noise_multiplier=1.411, leaves=2000, bands=400, minimum_separation=484, max_participations=3),
        BltEvent(
            noise_multiplier=1.0,
            leaves=2000,
            buf_decay=(0.5,),
            output_scale=(0.5,),
            minimum_separation=484,
            max_participations=3,
        ),
    ],
    ids=lambda event: event.kind,
)
def test_a_report_says_why_k_is_three(event: BandedEvent | BltEvent) -> None:
    (said,) = remarks(to_json(event), 1e-10)
    assert said.startswith("k is 3, not the 5 that a separation of 484 allows over 2000 rounds")


@pytest.mark.parametrize(("fraction", "devices", "corrupt"), [(0.29, 100, 29), (0.07, 100, 7), (0.05, 39, 1)])
def test_a_share_of_the_devices_is_not_rounded_down_by_its_binary_form(fraction: float, devices: int, corrupt: int) -> None:
    chosen = ddg.plan(dimension=8, clip_norm=1.0, noise_multiplier=1.0, devices=devices, corrupt_fraction=fraction, bits=16)
    assert chosen.corrupt == corrupt


@pytest.mark.parametrize("devices", [1, 3])
def test_values_that_wrap_on_a_device_are_refused(devices: int) -> None:
    with pytest.raises(ValueError, match="bits"):
        ddg.plan(dimension=8, clip_norm=1.0, noise_multiplier=1.0, devices=devices, bits=32)
