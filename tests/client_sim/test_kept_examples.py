"""What a model made of a loader's own tuples is kept within a budget; of anything else nothing is."""

import numpy as np

from client_sim.data import SyntheticFeatures
from client_sim.data.loader import Example
from client_sim.kept_examples import KeptExamples, Read
from client_sim.local_work import LocalWork, WorkSetup
from contract.task import TrainingSpec
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
        kept.read(lambda examples=examples: examples, make)  # pyright: ignore[reportArgumentType]
    assert [id(examples) for examples in calls] == [id(first), id(second), id(third), id(second)]


def test_a_list_may_change_and_is_read_again() -> None:
    calls: list[object] = []
    kept, make = KeptExamples(1000), made(calls)
    rows: list[Example] = [{"x": 1}]
    assert kept.read(lambda: rows, make)[1] == {"kept": 1.0}  # pyright: ignore[reportArgumentType]
    rows.append({"x": 2})
    assert kept.read(lambda: rows, make)[1] == {"kept": 2.0}  # pyright: ignore[reportArgumentType]


def test_what_is_larger_than_the_budget_is_made_each_time() -> None:
    calls: list[object] = []
    kept, make = KeptExamples(9), made(calls)
    examples = ({"x": 1},)
    kept.read(lambda: examples, make)  # pyright: ignore[reportArgumentType]
    kept.read(lambda: examples, make)  # pyright: ignore[reportArgumentType]
    assert len(calls) == 2


def test_of_a_loader_that_makes_its_tuples_anew_nothing_stays() -> None:
    """Its examples would live here alone, and those of a file are ten times as large as the arrays made of them."""
    loader = SyntheticFeatures(num_devices=5, seed=1, num_held_out=1)
    work = LocalWork(
        WorkSetup(loader=loader, model="mlp", training=TrainingSpec(batch_size=10, max_examples=20, learning_rate=0.1))
    )
    assert work.side_by_side > 1
    for device in range(5):
        read, _ = work._examples(device, 0.0)  # pyright: ignore[reportPrivateUsage]
        assert read.num_examples == len(loader.examples(device))
    assert not work._kept._kept  # pyright: ignore[reportPrivateUsage]

    calls: list[object] = []
    kept, make, own = KeptExamples(1000), made(calls), ({"x": 1},)
    kept.read(lambda: own, make)  # pyright: ignore[reportArgumentType]
    kept.read(lambda: ({"x": len(calls)},), make)  # pyright: ignore[reportArgumentType]
    kept.read(lambda: own, make)  # pyright: ignore[reportArgumentType]
    assert len(calls) == 3
