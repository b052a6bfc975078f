"""What a model made of a loader's own tuples is kept within a budget; of anything else nothing is."""

import numpy as np

from client_sim.data.loader import Example
from client_sim.kept_examples import KeptExamples, Read
from trainer import DeviceExamples


def made(calls: list[object]) -> "type[object]":
    def make(examples: tuple[Example, ...]) -> Read:
        calls.append(examples)
        return DeviceExamples({"x": np.zeros(10, np.uint8)}), {"kept": float(len(examples))}

    return make  # pyright: ignore[reportReturnType]


def test_what_was_not_asked_for_the_longest_gives_way() -> None:
    calls: list[object] = []
    kept, make = KeptExamples(20), made(calls)
    first, second, third = ({"x": 1},), ({"x": 2},), ({"x": 3},)
    for examples in (first, second, first, third, first, second):
        kept.read(examples, make)  # pyright: ignore[reportArgumentType]
    assert [id(examples) for examples in calls] == [id(first), id(second), id(third), id(second)]


def test_a_list_may_change_and_is_read_again() -> None:
    calls: list[object] = []
    kept, make = KeptExamples(1000), made(calls)
    rows: list[Example] = [{"x": 1}]
    assert kept.read(rows, make)[1] == {"kept": 1.0}  # pyright: ignore[reportArgumentType]
    rows.append({"x": 2})
    assert kept.read(rows, make)[1] == {"kept": 2.0}  # pyright: ignore[reportArgumentType]


def test_what_is_larger_than_the_budget_is_made_each_time() -> None:
    calls: list[object] = []
    kept, make = KeptExamples(9), made(calls)
    examples = ({"x": 1},)
    kept.read(examples, make)  # pyright: ignore[reportArgumentType]
    kept.read(examples, make)  # pyright: ignore[reportArgumentType]
    assert len(calls) == 2
