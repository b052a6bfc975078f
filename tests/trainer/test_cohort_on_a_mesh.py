"""Cohorts on a mesh: the same sums as one device after the other, on one accelerator or eight."""

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from contract.randomness import stream
from trainer import CohortTrainer, DeviceExamples, LocalTrainer
from trainer.models import get

ROOT = Path(__file__).parents[2]


def device(index: int, size: int) -> DeviceExamples:
    generator = stream(5, "device", index)
    return DeviceExamples({"x": generator.random((size, 12), np.float32), "y": generator.integers(0, 5, size).astype(np.int32)})


def cohort(lanes: int, accelerators: int) -> tuple[CohortTrainer, list[DeviceExamples]]:
    model = get("mlp", inputs=12, hidden=6, classes=5)
    trainer = CohortTrainer(
        model=model, batch_size=4, learning_rate=0.5, clip_norm=0.2, lanes=lanes, num_accelerators=accelerators
    )
    return trainer, [device(i, size) for i, size in enumerate([9, 0, 3, 4, 17, 1, 8, 30, 2, 5, 6])]


def test_sum_is_that_of_clipped_updates_one_by_one() -> None:
    trainer, devices = cohort(4, 1)
    params = trainer.model.init(0)
    alone = LocalTrainer(model=trainer.model, batch_size=4, learning_rate=0.5, lanes=1)
    expected = np.zeros(trainer.model.num_parameters)
    targets = 0.0
    for delta, metrics in alone.train_many(params, devices, range(11)):
        expected += delta * min(1.0, 0.2 / max(float(np.linalg.norm(delta)), 1e-30))
        targets += metrics.get("targets", 0.0)
    result = trainer.sum_updates(params, devices, range(11))
    np.testing.assert_allclose(result.total, expected, atol=2e-6)
    assert result.num_devices == 11
    assert result.metrics["targets"] == targets == 85


def test_next_word_in_lanes_gives_the_same_sum() -> None:
    model = get("next_word", words=60, width=4, units=5)
    devices = [model.featurize([{"text": text}] * (i + 2)) for i, text in enumerate(["how are you", "i am fine , you ?"])]
    params = model.init(0)
    expected = sum(
        delta for delta, _ in LocalTrainer(model=model, batch_size=2, learning_rate=0.5).train_many(params, devices, [1, 2])
    )
    trainer = CohortTrainer(model=model, batch_size=2, learning_rate=0.5, clip_norm=1e6, lanes=2, num_accelerators=1)
    np.testing.assert_allclose(trainer.sum_updates(params, devices, [1, 2]).total, expected, atol=1e-6)


@pytest.mark.slow
def test_eight_accelerators_give_the_sum_of_one() -> None:
    trainer, devices = cohort(2, 1)
    expected = trainer.sum_updates(trainer.model.init(0), devices, range(11))
    program = (
        "import json, sys; sys.path.insert(0, sys.argv[1]); import jax; from test_cohort_on_a_mesh import cohort\n"
        "trainer, devices = cohort(2, 8)\n"
        "result = trainer.sum_updates(trainer.model.init(0), devices, range(11))\n"
        "print(json.dumps([len(jax.devices()), result.total.tolist()]))"
    )
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=8"
    done = subprocess.run(
        [sys.executable, "-c", program, str(Path(__file__).parent)],
        env={**os.environ, "XLA_FLAGS": flags, "PYTHONPATH": str(ROOT)}, check=True, capture_output=True, text=True,
        timeout=240,
    )  # fmt: skip
    count, total = json.loads(done.stdout)
    assert count == 8
    np.testing.assert_allclose(total, expected.total, atol=2e-6)


def test_wrong_arguments_are_named() -> None:
    trainer, devices = cohort(2, 1)
    with pytest.raises(ValueError, match="clip_norm"):
        dataclasses.replace(trainer, clip_norm=0.0)
    with pytest.raises(ValueError, match="num_accelerators"):
        dataclasses.replace(trainer, num_accelerators=10_000)
    with pytest.raises(ValueError, match="order seeds"):
        trainer.sum_updates(trainer.model.init(0), devices, [1])


def test_lanes_over_eight_accelerators_give_the_updates_of_one() -> None:
    script = (
        "import sys, hashlib; sys.path.insert(0, sys.argv[1])\n"
        "from test_cohort_on_a_mesh import device\n"
        "from trainer import LocalTrainer\n"
        "from trainer.models import get\n"
        "model = get('mlp', inputs=12, hidden=6, classes=5)\n"
        "devices = [device(i, size) for i, size in enumerate([9, 0, 3, 4, 17, 1, 8, 30, 2, 5, 6] * 3)]\n"
        "for count in (1, 8):\n"
        "    trainer = LocalTrainer(model=model, batch_size=4, learning_rate=0.5, lanes=2, accelerators=count)\n"
        "    found = [delta.tobytes() for delta, _ in trainer.train_many(model.init(0), devices, range(len(devices)))]\n"
        "    print(count, len(found), hashlib.sha256(b''.join(found)).hexdigest())\n"
    )
    environment = os.environ | {
        "JAX_PLATFORMS": "cpu", "XLA_FLAGS": "--xla_force_host_platform_device_count=8", "PYTHONPATH": str(ROOT),
    }  # fmt: skip
    ran = subprocess.run(
        [sys.executable, "-c", script, str(Path(__file__).parent)], env=environment, capture_output=True, text=True, check=True
    )
    one, eight = (line.split() for line in ran.stdout.splitlines())
    assert one[1:] == eight[1:]
    assert eight[:2] == ["8", "33"]
