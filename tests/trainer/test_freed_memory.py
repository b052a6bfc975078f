"""What a compiler left free goes back to the system after each new program, and only then."""

import ctypes

import numpy as np
import pytest

from trainer import DeviceExamples, LocalTrainer, freed_memory
from trainer.models import get


def device(rows: int) -> DeviceExamples:
    return DeviceExamples({"x": np.zeros((rows, 3), np.float32), "y": np.zeros(rows, np.int32)})


@pytest.mark.parametrize("lanes", [1, 2])
def test_memory_is_released_after_a_new_program_and_only_then(lanes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    released: list[int] = []
    monkeypatch.setattr(freed_memory, "release", lambda: released.append(1))
    model = get("mlp", inputs=3, hidden=2, classes=2)
    trainer = LocalTrainer(model=model, batch_size=8, learning_rate=0.1, lanes=lanes)
    list(trainer.train_many(model.init(0), [device(8), device(8)], [1, 2]))
    assert len(released) == 1
    list(trainer.train_many(model.init(0), [device(8), device(4)], [3, 4]))
    assert len(released) == (2 if lanes == 1 else 1)  # lanes always have full batches


def test_another_c_library_releases_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def none(name: str | None) -> None:
        raise OSError(name)

    monkeypatch.setattr(ctypes, "CDLL", none)
    freed_memory._trim.cache_clear()  # pyright: ignore[reportPrivateUsage]
    try:
        freed_memory.release()
    finally:
        freed_memory._trim.cache_clear()  # pyright: ignore[reportPrivateUsage]
