import csv
import gzip
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from client_sim.conditions import SLOT_S, conditions_at
from client_sim.population import SPEED_SPREAD, make_population
from client_sim.timing import Loss, Phase, effort_of, timeline

SPEEDS = Path(__file__).parents[2].parent / "shared" / "data" / "phone_speed.csv.gz"


def test_speed_spread_is_that_of_measured_phones() -> None:
    if not SPEEDS.exists():
        pytest.skip("the phone scores are not beside this checkout")
    with gzip.open(SPEEDS, "rt") as file:
        scores = [float(row["cpu_float_score"]) for row in csv.DictReader(file) if row["cpu_float_score"]]
    assert np.std(np.log(scores)) == pytest.approx(SPEED_SPREAD, abs=0.02)
    assert np.std(np.log(make_population(50_000, 1).speed)) == pytest.approx(SPEED_SPREAD, abs=0.01)


def test_a_devices_row_does_not_depend_on_the_population_around_it() -> None:
    small, large = make_population(5, 3), make_population(500, 3)
    assert np.array_equal(small.speed, large.speed[:5])
    assert np.array_equal(small.utc_offset_s, large.utc_offset_s[:5])


def test_availability_swings_fourfold_over_the_day() -> None:
    population = make_population(40_000, 2)
    devices = np.arange(population.size)
    by_hour = [conditions_at(population, devices, np.full(population.size, 3600.0 * hour)).hold.mean() for hour in range(24)]
    # Four time zones blur the peak of the sum a little.
    assert 3.5 <= max(by_hour) / min(by_hour) <= 4.3


def test_conditions_hold_for_a_slot_at_a_time() -> None:
    population = make_population(200, 2)
    devices = np.arange(200)
    first = conditions_at(population, devices, np.full(200, 10 * SLOT_S)).hold
    assert np.array_equal(first, conditions_at(population, devices, np.full(200, 11 * SLOT_S - 1)).hold)
    assert not np.array_equal(first, conditions_at(population, devices, np.full(200, 11 * SLOT_S)).hold)


def test_six_to_ten_percent_are_lost_over_the_phases() -> None:
    population = make_population(20_000, 5)
    devices = np.arange(population.size)
    times = timeline(
        population,
        devices,
        examples=np.full(population.size, 30),
        start_s=5.0,
        draw=1,
        effort=effort_of(90_000),
        loss=Loss(),
    )
    shares = np.bincount(times.lost, minlength=4) / population.size
    assert 0.06 <= 1 - shares[Phase.FINISHED] <= 0.10
    assert np.allclose(shares[:3], [0.015, 0.045, 0.02], atol=0.006)
    assert (times.downloaded_s > 5.0).all()
    assert (times.trained_s > times.downloaded_s).all()
    assert (times.uploaded_s > times.trained_s).all()


def test_a_timeline_is_a_function_of_seed_draw_and_device() -> None:
    population = make_population(100, 5)

    def of(devices: list[int], draw: int) -> npt.NDArray[np.float64]:
        chosen = np.array(devices)
        times = timeline(population, chosen, examples=chosen, draw=draw, start_s=0.0, effort=effort_of(1000), loss=Loss())
        return times.uploaded_s

    assert np.array_equal(of(list(range(100)), 1)[[70, 3]], of([70, 3], 1))
    assert not np.array_equal(of([70, 3], 1), of([70, 3], 2))


@pytest.mark.parametrize("shares", [{"training": -0.1}, {"download": 1.1}, {"training": 0.6, "upload": 0.5}])
def test_losses_that_are_no_shares_are_refused(shares: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"loss"):
        Loss(**shares)
