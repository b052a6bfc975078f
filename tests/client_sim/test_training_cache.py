import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from client_sim.training_cache import TrainingCache


@given(
    times=st.lists(st.floats(0, 1000), max_size=40).map(sorted),
    most=st.integers(1, 10),
    longest=st.floats(1, 500),
    wait=st.floats(0, 1000),
)
@settings(max_examples=100, deadline=None)
def test_it_holds_the_newest_that_have_not_expired(times: list[float], most: int, longest: float, wait: float) -> None:
    cache = TrainingCache(most_examples=most, longest_s=longest)
    for number, at_s in enumerate(times):
        cache.add({"text": str(number)}, at_s)
    now_s = (times[-1] if times else 0.0) + wait
    kept = [str(number) for number, at_s in enumerate(times) if now_s - at_s <= longest][-most:]
    assert [row["text"] for row in cache.examples(now_s)] == kept
    assert len(cache) == len(kept)
    cache.clear()
    assert not cache.examples(now_s)


def test_wrong_bounds_and_times_are_refused() -> None:
    with pytest.raises(ValueError, match="most_examples"):
        TrainingCache(most_examples=0)
    with pytest.raises(ValueError, match="longest_s"):
        TrainingCache(most_examples=1, longest_s=0.0)
    cache = TrainingCache(most_examples=1)
    cache.add({}, 5.0)
    with pytest.raises(ValueError, match="came after"):
        cache.add({}, 4.0)
