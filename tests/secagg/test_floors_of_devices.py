"""What a device accepts when nobody configured it: no small cohorts, and nobody's word that nobody colludes."""

import pytest

from secagg import LOWEST_FLOORS, Floors, Parameters, Vector, choose

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


@pytest.mark.parametrize(("roster_size", "degree"), [(65_536, 8000), (65_536, 60), (16_000, 65_535 // 16 * 2), (4000, 3999)])
def test_a_graph_whose_messages_cannot_be_sent_is_refused_before_it_is_looked_at(monkeypatch, roster_size, degree):
    parameters = Parameters(
        roster_size=roster_size, minimum_roster=roster_size, minimum_survivors=roster_size * 9 // 10, degree=degree,
        threshold=int(degree * 0.95), corrupt_fraction=0.05, drop_fraction=0.05, vectors=(UPDATE,),
    )  # fmt: skip
    monkeypatch.setattr(Parameters, "topology", lambda *_: pytest.fail("a graph was made"))
    for floors in (Floors(), LOWEST_FLOORS):
        assert "takes messages of" in (floors.fault(parameters) or "")
