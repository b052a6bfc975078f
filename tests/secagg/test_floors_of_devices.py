"""What a device accepts when nobody configured it: no small cohorts, and nobody's word that nobody colludes."""

import pytest

from secagg import LOWEST_FLOORS, Floors, Vector, choose

UPDATE = Vector(name="u", length=4, lane_bits=20, largest=100)


@pytest.mark.parametrize(
    ("asked", "fault"),
    [
        ({"corrupt_fraction": 0.0}, "a corrupt fraction of 0 is below the floor of 0.05"),
        ({"roster_size": 12}, "rosters of 12 are below the floor of 16"),
        ({"minimum_survivors": 4}, "4 survivors are below the floor of 12"),
    ],
)
def test_unconfigured_device_refuses_what_only_asking_for_it_allows(asked, fault):
    parameters = choose(**{"roster_size": 32, "vectors": (UPDATE,), "corrupt_fraction": 0.05, "drop_fraction": 0.1, **asked})
    assert Floors().fault(parameters) == fault
    assert LOWEST_FLOORS.fault(parameters) is None


def test_unconfigured_device_takes_the_parameters_of_the_shipped_sizes():
    for roster_size in (16, 32, 100, 1000):
        parameters = choose(roster_size=roster_size, vectors=(UPDATE,), corrupt_fraction=0.05, drop_fraction=0.1)
        assert Floors().fault(parameters) is None
