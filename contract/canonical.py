"""Canonical JSON (RFC 8785) and the digests that are taken over it.

Everything that is hashed or signed in Tutti is first written by `encode`, so that two parties who hold the same value hold
the same bytes. Floats are refused: derived numbers enter as decimal strings, rounded towards "costs more" (`decimal_up`).
"""

import dataclasses
import hashlib
from collections.abc import Mapping
from decimal import ROUND_CEILING, ROUND_HALF_EVEN, Context, Decimal
from enum import Enum
from types import MappingProxyType
from typing import Any, TypeAlias, cast

import rfc8785

Json: TypeAlias = "None | bool | int | str | list[Json] | dict[str, Json]"
SILENT_DEFAULT: Mapping[str, bool] = MappingProxyType({"silent_default": True})
"""Metadata of a dataclass field that `plain` leaves out while it has its default: a field that came later and changes no old digest."""


def encode(value: Json) -> bytes:
    """The RFC 8785 bytes of `value`.

    Raises:
      ValueError: if the value holds a float, a key that is no string, or an integer beyond 2^53.

    >>> encode({"b": 1, "a": [True, None]})
    b'{"a":[true,null],"b":1}'
    """
    _refuse_floats(value, "$")
    try:
        return rfc8785.dumps(value)  # pyright: ignore[reportArgumentType] - the library's own type is recursive too
    except rfc8785.CanonicalizationError as error:
        raise ValueError(f"no canonical JSON for this value: {error}") from error


def digest(value: Json) -> str:
    """Lower-case hex SHA-256 over the canonical bytes of `value`.

    >>> digest({})
    '44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a'
    """
    return hashlib.sha256(encode(value)).hexdigest()


def decimal_up(number: float, digits: int = 12) -> str:
    """`number` as a decimal string of at most `digits` significant digits, never below the number itself.

    >>> decimal_up(0.1), decimal_up(2 / 3, 3), decimal_up(float("inf"))
    ('0.100000000001', '0.667', 'inf')
    """
    if number != number:
        raise ValueError("not a number cannot be written in a ledger entry")
    if number in (float("inf"), float("-inf")):
        return "inf" if number > 0 else "-inf"
    return format(_shorten(Context(prec=digits, rounding=ROUND_CEILING).create_decimal(Decimal(number))), "f")


def decimal_of(number: float) -> str:
    """A parameter as the shortest decimal string that reads back as the same float64.

    >>> decimal_of(0.3), decimal_of(7.0)
    ('0.3', '7')
    """
    if number != number or number in (float("inf"), float("-inf")):
        raise ValueError(f"a parameter must be finite, not {number}")
    return format(_shorten(Context(prec=17, rounding=ROUND_HALF_EVEN).create_decimal(repr(float(number)))), "f")


def plain(value: object) -> Json:
    """A frozen dataclass (or tuple, enum, scalar) as canonical-ready JSON; floats become decimal strings.

    >>> @dataclasses.dataclass(frozen=True)
    ... class Pair:
    ...     left: float
    ...     right: tuple[int, ...]
    >>> plain(Pair(0.5, (1, 2)))
    {'left': '0.5', 'right': [1, 2]}
    >>> @dataclasses.dataclass(frozen=True)
    ... class Later:
    ...     old: int
    ...     new: int = dataclasses.field(default=1, metadata=SILENT_DEFAULT)
    >>> plain(Later(0)), plain(Later(0, 2))
    ({'old': 0}, {'old': 0, 'new': 2})
    """
    if isinstance(value, Enum):
        return plain(cast(object, value.value))
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return decimal_of(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        said = {field.name: getattr(value, field.name) for field in dataclasses.fields(value) if not _is_silent(field, value)}
        return {name: plain(item) for name, item in said.items()}
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in cast(dict[object, object], value).items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in cast(list[object], value)]
    raise ValueError(f"no canonical form for a {type(value).__name__}")


def _is_silent(field: "dataclasses.Field[Any]", value: object) -> bool:
    if "silent_default" not in field.metadata:
        return False
    default = field.default if field.default_factory is dataclasses.MISSING else field.default_factory()
    return getattr(value, field.name) == default


def _shorten(number: Decimal) -> Decimal:
    return number.to_integral_value() if number == number.to_integral_value() else number.normalize()


def _refuse_floats(value: object, path: str) -> None:
    match value:
        case float():
            raise ValueError(f"{path} is the float {value!r}: write it as a decimal string")
        case dict():
            for key, item in cast(dict[object, object], value).items():
                _refuse_floats(item, f"{path}.{key}")
        case list() | tuple():
            for index, item in enumerate(cast(list[object], value)):
                _refuse_floats(item, f"{path}[{index}]")
        case _:
            pass
