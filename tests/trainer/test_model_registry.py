"""Models are found by name or by the path of a factory."""

import sys
import types

import pytest

from trainer import Model
from trainer.models import get, mlp


def test_equal_options_give_the_same_model() -> None:
    assert get("mlp", hidden=8) is get("mlp", hidden=8)
    assert get("mlp", hidden=8).num_parameters == 784 * 8 + 8 + 8 * 62 + 62


def test_factory_of_ones_own_is_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    module = types.ModuleType("my_models")
    module.small = lambda width: mlp.build(hidden=width)  # pyright: ignore[reportAttributeAccessIssue]
    module.wrong = dict  # pyright: ignore[reportAttributeAccessIssue]
    module.number = 3  # pyright: ignore[reportAttributeAccessIssue]
    monkeypatch.setitem(sys.modules, "my_models", module)
    assert isinstance(get("my_models:small", width=4), Model)
    with pytest.raises(ValueError, match=r"must give a trainer.Model, not dict"):
        get("my_models:wrong")
    with pytest.raises(ValueError, match="cannot be called"):
        get("my_models:number")
    with pytest.raises(ValueError, match="cannot be imported"):
        get("my_models:absent")


def test_size_that_makes_no_model_is_refused() -> None:
    with pytest.raises(ValueError, match="hidden must be at least 1"):
        get("mlp", hidden=0)
