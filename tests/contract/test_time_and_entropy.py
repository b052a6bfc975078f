"""Time and secret randomness as arguments."""

from datetime import UTC

import pytest

from contract import clock, entropy


def test_virtual_time_moves_only_when_told_to() -> None:
    virtual = clock.VirtualClock(3.0)
    assert virtual.now_s() == virtual.now_s() == 3.0
    virtual.advance_to(3.0)
    virtual.advance_to(4.5)
    assert virtual.now_s() == 4.5


def test_virtual_time_never_goes_back() -> None:
    virtual = clock.VirtualClock(3.0)
    with pytest.raises(ValueError, match=r"from 3\.0 to 2\.0"):
        virtual.advance_to(2.0)


def test_system_time_never_goes_back() -> None:
    system = clock.SystemClock()
    readings = [system.now_s() for _ in range(100)]
    assert readings == sorted(readings)


def test_wall_time_says_its_zone() -> None:
    assert clock.wall_time().tzinfo is UTC


def test_entropy_gives_as_many_bytes_as_asked_and_never_the_same() -> None:
    draws = [entropy.system_entropy(32) for _ in range(100)]
    assert {len(draw) for draw in draws} == {32}
    assert len(set(draws)) == 100
    assert entropy.system_entropy(0) == b""


def test_negative_number_of_bytes_is_refused() -> None:
    with pytest.raises(ValueError, match="-1"):
        entropy.system_entropy(-1)
