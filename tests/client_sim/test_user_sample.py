"""A sample of users: who is in it, and that nothing else changes."""

import pickle

import numpy as np
import pytest

from client_sim.data.synthetic_text import SyntheticText
from client_sim.data.user_sample import UserSample

BASE = SyntheticText(num_devices=60, seed=3)


def test_a_sample_holds_as_many_different_users_as_asked_for_each_with_its_own_examples() -> None:
    sample = UserSample(base=BASE, most=20, seed=1)
    everyone = {tuple(str(row["text"]) for row in BASE.examples(index)) for index in range(60)}
    drawn = [tuple(str(row["text"]) for row in sample.examples(index)) for index in range(20)]
    assert sample.num_devices == 20
    assert len(set(drawn)) == 20
    assert set(drawn) <= everyone
    assert sample.num_examples(np.arange(20)).tolist() == [len(rows) for rows in drawn]


def test_another_seed_draws_other_users_and_the_digest_says_so() -> None:
    one, two = (UserSample(base=BASE, most=20, seed=seed) for seed in (1, 2))
    assert one.digest != two.digest
    assert [one.examples(k) for k in range(20)] != [two.examples(k) for k in range(20)]


def test_held_out_users_stay_as_they_are() -> None:
    assert list(UserSample(base=BASE, most=5).held_out()) == list(BASE.held_out())


def test_a_sample_of_more_than_there_are_is_everybody() -> None:
    sample = UserSample(base=BASE, most=1000)
    assert [sample.examples(k) for k in range(60)] == [BASE.examples(k) for k in range(60)]


def test_a_sample_means_the_same_in_another_process() -> None:
    sample = UserSample(base=BASE, most=9, seed=4)
    again = pickle.loads(pickle.dumps(sample))
    assert again.digest == sample.digest
    assert again.examples(8) == sample.examples(8)


@pytest.mark.parametrize("index", [-1, 20])
def test_a_device_outside_the_sample_is_refused(index: int) -> None:
    with pytest.raises(ValueError, match=r"0\.\.19"):
        UserSample(base=BASE, most=20).examples(index)


def test_a_sample_of_nobody_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        UserSample(base=BASE, most=0)
