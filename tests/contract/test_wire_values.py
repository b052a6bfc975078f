"""Messages and plans: no secret is shown, no device is named, and a plan reads back or is refused."""

import dataclasses
from typing import Any, get_args

import pytest

from contract import messages, plan
from contract.errors import ErrorCode, TuttiError

PLAN = plan.Plan(
    task={"rounds": 3},
    run="ab" * 32,
    round_index=4,
    leaf=3,
    model_digest="cd" * 32,
    encoding={"step": "0.001", "clip_norm": "0.3"},
    outputs=(plan.Output(name="delta", length=10, aggregated=True),),
)

MESSAGES = [*get_args(messages.Request), *get_args(messages.Reply)]


def test_plan_reads_back() -> None:
    assert plan.decode(plan.encode(PLAN)) == PLAN


def test_equal_plans_have_equal_bytes() -> None:
    turned = dataclasses.replace(PLAN, encoding=dict(reversed(PLAN.encoding.items())))
    assert plan.encode(turned) == plan.encode(PLAN)


@pytest.mark.parametrize(
    "text", [b"", b"{", b"[]", b"null", b"{}", b'{"outputs":[{"name":"x"}]}', b'{"outputs":[],"more":1}', b"\xff"]
)
def test_text_that_is_no_plan_is_refused(text: bytes) -> None:
    with pytest.raises(ValueError, match=r"plan|utf-8"):
        plan.decode(text)


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: message.__name__)
def test_message_shows_no_bytes_and_names_no_device(message: Any) -> None:
    for field in dataclasses.fields(message):
        assert field.type is not bytes or not field.repr, field.name
        assert "device" not in field.name


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: message.__name__)
def test_message_is_a_frozen_value(message: Any) -> None:
    assert message.__dataclass_params__.frozen
    assert hasattr(message, "__slots__")


def test_error_carries_its_code_and_says_its_detail() -> None:
    error = TuttiError(ErrorCode.BUDGET_EXCEEDED, "epsilon 9 is above 8")
    assert (error.code, str(error)) == (ErrorCode.BUDGET_EXCEEDED, "epsilon 9 is above 8")
