"""The guard beside the noise key: a database put back to an earlier backup cannot make the same noise serve other data."""

from pathlib import Path

import pytest

from contract.errors import ErrorCode, TuttiError
from server.keys import KeyDirectory, NoiseKey


def test_the_same_sum_may_be_released_again_and_another_may_not(tmp_path: Path) -> None:
    keys = KeyDirectory(tmp_path)
    keys.create("run", NoiseKey(bytes(32)))
    keys.mark_release("run", 0, "a")
    keys.mark_release("run", 3, "b")
    keys.mark_release("run", 3, "b")
    for leaf, seal in ((3, "c"), (2, "b"), (0, "a")):
        with pytest.raises(TuttiError) as refused:
            keys.mark_release("run", leaf, seal)
        assert refused.value.code is ErrorCode.RUN_STATE
    keys.mark_release("run", 4, "d")


def test_the_guard_goes_with_the_key(tmp_path: Path) -> None:
    keys = KeyDirectory(tmp_path)
    keys.create("run", NoiseKey(bytes(32)))
    keys.mark_release("run", 0, "a")
    keys.destroy("run")
    assert list(tmp_path.iterdir()) == []
