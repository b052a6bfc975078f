"""The compared work gives the same first update as the peers that run it (the `--check` number of their scripts)."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from trainer import DeviceExamples, LocalTrainer, Model
from trainer.models import get

WORKLOAD = Path(__file__).parents[2].parent / "shared" / "peers" / "workload.py"
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not WORKLOAD.exists(), reason="the peers' scripts are not beside the checkout"),
]


@pytest.fixture(scope="module")
def workload() -> ModuleType:
    spec = importlib.util.spec_from_file_location("workload", WORKLOAD)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["workload"] = module
    spec.loader.exec_module(module)
    return module


def first_mean_update(model: Model, workload: ModuleType, name: str, devices: list[DeviceExamples]) -> float:
    trainer = LocalTrainer(model=model, batch_size=workload.BATCH[name], learning_rate=workload.LR[name], products="float32")
    params = model.ravel(workload.init_params(name))
    total = np.zeros(model.num_parameters)
    for delta, _ in trainer.train_many(params, devices, [None] * len(devices)):
        total += delta
    return float(np.linalg.norm(total / len(devices)))


def test_next_word_round(workload: ModuleType) -> None:
    devices = []
    for device in workload.cohort("nwp", 32, 0):
        x, y = workload.client_data("nwp", device)
        devices.append(DeviceExamples({"tokens": np.concatenate([x, y[:, -1:]], axis=1), "counted": np.ones_like(y, bool)}))
    assert first_mean_update(get("next_word"), workload, "nwp", devices) == pytest.approx(0.0096393, abs=1e-7)


def test_small_round(workload: ModuleType) -> None:
    devices = []
    for device in workload.cohort("small", 100, 0):
        x, y = workload.client_data("small", device)
        devices.append(DeviceExamples({"x": x, "y": y}))
    assert first_mean_update(get("mlp"), workload, "small", devices) == pytest.approx(0.185431, abs=1e-6)
