"""Where devices are trained is decided before anything starts, with a cure for what is missing."""

import builtins
from pathlib import Path
from typing import Any

import pytest

from client_sim import placement, workers
from client_sim.data import SyntheticFeatures
from client_sim.placement import Placement
from contract.errors import ErrorCode, TuttiError
from contract.task import parse_mapping

SPEC = parse_mapping(
    {"population": "p", "model": {"name": "mlp"}, "data": {"source": "synthetic"}, "cohort": {"report_goal": 2}, "rounds": 1}
)


def test_an_absent_accelerator_is_refused_with_its_cure(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(placement, "_DEVICE_FILES", {"gpu": ("no-such-device",), "tpu": ("no-such-device",)})
    for backend in ("gpu", "tpu"):
        with pytest.raises(TuttiError, match="--backend cpu") as caught:
            Placement(backend=backend).chosen_backend()
        assert caught.value.code is ErrorCode.ENGINE_MISSING


def test_a_card_without_the_extra_is_refused_with_the_command_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(placement, "_DEVICE_FILES", {"gpu": ("null",), "tpu": ("null",)})
    monkeypatch.setattr(placement, "_PLUGINS", {"gpu": ("no_such_plugin",), "tpu": ("no_such_plugin",)})
    with pytest.raises(TuttiError, match="uv sync --inexact --extra cuda"):
        Placement(backend="gpu").chosen_backend()
    assert Placement(backend="auto").chosen_backend() == "cpu"


def test_auto_takes_an_accelerator_that_can_be_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(placement, "_DEVICE_FILES", {"gpu": ("null",), "tpu": ("no-such-device",)})
    monkeypatch.setattr(placement, "_PLUGINS", {"gpu": ("numpy",), "tpu": ("numpy",)})
    assert Placement().chosen_backend() == "gpu"
    assert Placement(executor="ray").chosen_backend() == "cpu"


def test_an_accelerator_gets_one_worker_that_is_told_its_platform(monkeypatch: pytest.MonkeyPatch) -> None:
    made: dict[str, Any] = {}

    class Pool:
        def __init__(self, setup: Any, **options: Any) -> None:
            made.update(options)

    monkeypatch.setattr(placement, "why_not", lambda backend: None)
    monkeypatch.setattr(workers, "WorkerPool", Pool)
    workers.open_executor(SPEC, SyntheticFeatures(num_devices=3, seed=0), workers=Placement(workers=4, backend="gpu"))
    assert made == {"num_workers": 1, "backend": "gpu"}


@pytest.mark.parametrize(
    "options", [{"backend": "npu"}, {"executor": "threads"}, {"ray_address": "auto"}, {"executor": "ray", "backend": "gpu"}]
)
def test_a_placement_that_makes_no_sense_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(TuttiError) as caught:
        Placement(**options)
    assert caught.value.code is ErrorCode.ARGUMENT_INVALID


def test_ray_that_is_not_installed_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without_ray(name: str, *arguments: Any, **named: Any) -> Any:
        if name == "ray":
            raise ImportError(name)
        return real(name, *arguments, **named)

    monkeypatch.setattr(builtins, "__import__", without_ray)
    with pytest.raises(TuttiError, match="--extra ray") as caught:
        workers.open_executor(SPEC, SyntheticFeatures(num_devices=3, seed=0), workers=Placement(executor="ray"))
    assert caught.value.code is ErrorCode.ENGINE_MISSING
