"""A label bug planted in the devices' pipeline shows in the metrics that leave the devices inside the sum, and only where it bites."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

STUDY = Path(__file__).parents[2] / "benchmarks" / "text_selection_studies.py"


def study() -> ModuleType:
    """The study, at the size of a test."""
    spec = importlib.util.spec_from_file_location("text_selection_studies", STUDY)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
def test_addresses_cut_short_show_in_the_federated_metrics_of_addresses_alone(shared_data: Path) -> None:
    found = study().labels(
        str(shared_data / "text_selection.jsonl.gz"), str(shared_data / "text_selection_public_weights.npz"), devices=40
    )
    right, change = found["right_labels"], found["change"]
    assert right["exact_address"] > 0.6
    assert change["exact_address"] < -0.3
    assert change["precision_address"] < -0.3
    assert abs(change["exact_none"]) < 0.12
    assert abs(change["exact_phone_several"]) < 0.12
