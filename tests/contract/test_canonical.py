"""Canonical JSON against RFC 8785's published vectors and a second, naive implementation."""

import hashlib
import json
from decimal import Decimal
from enum import Enum
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract import canonical

VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "rfc8785.json").read_text())["vectors"]

values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["name"])
def test_published_vector_comes_out(vector: dict[str, str]) -> None:
    assert canonical.encode(json.loads(vector["input"])) == vector["canonical"].encode()


@given(values)
def test_bytes_are_those_of_a_naive_implementation(value: Any) -> None:
    assert canonical.encode(value) == _naive(value).encode()


@given(values)
def test_what_was_written_reads_back(value: Any) -> None:
    assert json.loads(canonical.encode(value)) == value


def test_digest_is_sha256_of_the_bytes() -> None:
    value: Any = {"b": [1, "é"], "a": None}
    assert canonical.digest(value) == hashlib.sha256('{"a":null,"b":[1,"é"]}'.encode()).hexdigest()


@pytest.mark.parametrize(("value", "place"), [(0.5, "$"), ({"a": [1, 2.0]}, "$.a[1]"), ([float("nan")], "$[0]")])
def test_float_is_refused_and_its_place_is_named(value: Any, place: str) -> None:
    with pytest.raises(ValueError, match="decimal string") as caught:
        canonical.encode(value)
    assert place in str(caught.value)


@pytest.mark.parametrize("value", [2**53, {1: 2}, "\ud800", {"a": b"bytes"}])
def test_what_json_cannot_say_exactly_is_refused(value: Any) -> None:
    with pytest.raises(ValueError, match="canonical JSON"):
        canonical.encode(value)


@given(st.floats(allow_nan=False, allow_infinity=False), st.integers(2, 17))
def test_decimal_up_never_says_less_and_hardly_more(number: float, digits: int) -> None:
    written = Decimal(canonical.decimal_up(number, digits))
    assert Decimal(number) <= written <= Decimal(number) + abs(Decimal(number)) * Decimal(10) ** (1 - digits)


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_decimal_of_reads_back_as_the_same_float(number: float) -> None:
    assert float(canonical.decimal_of(number)) == number


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")])
def test_parameter_that_is_no_number_is_refused(number: float) -> None:
    with pytest.raises(ValueError, match="finite"):
        canonical.decimal_of(number)


def test_derived_number_that_is_no_number_is_refused() -> None:
    with pytest.raises(ValueError, match="not a number"):
        canonical.decimal_up(float("nan"))


def test_plain_reaches_into_enums_and_collections() -> None:
    class Colour(Enum):
        RED = "red"

    assert canonical.plain({"a": (Colour.RED, 0.25), "b": [None, True]}) == {"a": ["red", "0.25"], "b": [None, True]}


def test_plain_refuses_what_has_no_form() -> None:
    with pytest.raises(ValueError, match="bytes"):
        canonical.plain(b"secret")


def _naive(value: Any) -> str:
    if isinstance(value, dict):
        keys = sorted(value, key=lambda key: key.encode("utf-16-be", "surrogatepass"))
        return "{" + ",".join(f"{json.dumps(key, ensure_ascii=False)}:{_naive(value[key])}" for key in keys) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(_naive, value)) + "]"
    return json.dumps(value, ensure_ascii=False)
