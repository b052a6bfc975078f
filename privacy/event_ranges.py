"""What each field of an event may hold: an event outside these ranges describes no mechanism, and a price of it would be no price.

Field names mean the same in every kind of event, so that one table serves all of them.
"""

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, TypeAlias

LARGEST_COUNT = (1 << 53) - 1
LARGEST_INTEGER = 1 << 200
"""Of draws and squared norms, which are products of counts; a float still holds them."""
LARGEST, SMALLEST = 1e100, 1e-100
"""Of real parameters: their squares are numbers too."""
LEAST_DISTANCE_LOG2 = -1000

Check: TypeAlias = Callable[[str, object], None]


def _whole(least: int, most: int = LARGEST_COUNT, *, optional: bool = False) -> Check:
    def check(name: str, value: object) -> None:
        if not (optional and value is None) and not (type(value) is int and least <= value <= most):
            raise ValueError(f"{name} must be a whole number in [{least}, {most}], not {value!r:.80}")

    return check


def _real(least: float, most: float = LARGEST, *, above: bool = False, optional: bool = False) -> Check:
    def check(name: str, value: object) -> None:
        if optional and value is None:
            return
        number = value if isinstance(value, int | float) and not isinstance(value, bool) else math.nan
        if least <= number <= most and not (above and number == least):
            return
        told = f"in {'(' if above else '['}{least:g}, {most:g}]"
        raise ValueError(f"{name} must be a finite number {told}, not {value!r:.80}")

    return check


def _positive(name: str, value: object) -> None:
    _real(SMALLEST)(name, value)


def _noise(name: str, value: object) -> None:
    """0 for no noise, and else a number whose square is one."""
    if isinstance(value, bool) or value != 0:
        _real(SMALLEST)(name, value)


def _fractions(name: str, value: object) -> None:
    if not isinstance(value, tuple) or not value:
        raise ValueError(f"{name} must hold numbers, not {value!r:.80}")
    for one in value:  # pyright: ignore[reportUnknownVariableType]
        _real(0, 1)(f"each of {name}", one)  # pyright: ignore[reportUnknownArgumentType]


def _counts(name: str, value: object) -> None:
    if not isinstance(value, tuple):
        raise ValueError(f"{name} must hold whole numbers, not {value!r:.80}")
    for one in value:  # pyright: ignore[reportUnknownVariableType]
        _whole(0)(f"each of {name}", one)  # pyright: ignore[reportUnknownArgumentType]


def _mechanism(name: str, value: object) -> None:
    if value not in ("ddg", "skellam"):
        raise ValueError(f"{name} must be ddg or skellam, not {value!r:.80}")


def _text(name: str, value: object) -> None:
    if not isinstance(value, str):
        raise ValueError(f"{name} must be words, not {value!r:.80}")


RANGES: Mapping[str, Check] = MappingProxyType(
    {
        "noise_multiplier": _noise,
        "local_sigma": _noise,
        "vector_noise_multiplier": _positive,
        "bit_noise_multiplier": _positive,
        "column_norm_squared": _positive,
        "numerical_inflation": _real(0),
        "sampling_rate": _real(0, 1, above=True, optional=True),
        "shape": _real(-1, 1e6, above=True),
        "stop_probability": _real(SMALLEST, 1),
        "leaves": _whole(0),
        "releases": _whole(0),
        "minimum_separation": _whole(0),
        "max_participations": _whole(1, optional=True),
        "restart_every": _whole(1, optional=True),
        "bands": _whole(1),
        "buf_decay": _fractions,
        "output_scale": _fractions,
        "draws": _whole(0, LARGEST_INTEGER),
        "distance_log2": _whole(LEAST_DISTANCE_LOG2, 0),
        "mechanism": _mechanism,
        "dimension": _whole(1),
        "squared_norm": _whole(1, LARGEST_INTEGER),
        "contributors": _counts,
        "participations": _whole(0),
        "reason": _text,
    }
)
"""By field; fields that hold one of an enumeration or another event are not in it."""


def check(kind: str, fields: Mapping[str, Any]) -> None:
    """Refuses a value that no mechanism of this kind has.

    Raises:
      ValueError: naming the kind, the field and the value.

    >>> check("tree", {"noise_multiplier": float("inf"), "leaves": 3})
    Traceback (most recent call last):
    ValueError: tree event: noise_multiplier must be a finite number in [1e-100, 1e+100], not inf
    """
    for name, value in fields.items():
        if name in RANGES:
            try:
                RANGES[name](name, value)
            except ValueError as error:
                raise ValueError(f"{kind} event: {error}") from None
