"""The table of who may import whom, and what the pure packages may stand on."""

import subprocess
import sys
from importlib.metadata import packages_distributions
from pathlib import Path

import grimp
import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("contract", "privacy", "secagg", "trainer", "server", "client_sim", "protos", "tutti")
TRAINER_MAY_USE = {"contract", "jax", "numpy", "optax"}


@pytest.fixture(scope="module")
def graph() -> grimp.ImportGraph:
    return grimp.build_graph(*PACKAGES, include_external_packages=True, cache_dir=None)


def test_import_table_holds() -> None:
    # In a process of its own: import-linter keeps hold of the standard output that it first sees.
    program = "from importlinter import cli; raise SystemExit(cli.lint_imports(no_cache=True, no_logo=True))"
    result = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr


def test_trainer_stands_on_jax_optax_and_numpy_alone(graph: grimp.ImportGraph) -> None:
    foreign = _roots_reached(graph, "trainer") - TRAINER_MAY_USE - {"trainer"} - sys.stdlib_module_names
    assert not foreign


def test_what_trainer_takes_from_contract_drags_nothing_in(graph: grimp.ImportGraph) -> None:
    # pydantic in a worker's import chain would cost every device process its start-up time.
    taken = {target for module in _modules(graph, "trainer") for target in graph.find_modules_directly_imported_by(module)}
    reached = {name for name in taken if name.startswith("contract")}
    for module in sorted(reached):
        upstream = {name.partition(".")[0] for name in graph.find_upstream_modules(module)}
        assert upstream <= {"contract", "numpy"} | sys.stdlib_module_names, module


def test_nothing_of_ours_imports_tensorflow(graph: grimp.ImportGraph) -> None:
    # TensorFlow Federated lives in an environment of its own and is talked to through a process.
    reached = {name for package in PACKAGES for name in _roots_reached(graph, package)}
    assert "tutti" in reached
    assert not {name for name in reached if name.startswith("tensorflow") or name == "tff_engine"}


def test_no_other_distribution_owns_our_names() -> None:
    owners = packages_distributions()
    taken = {name: set(owners.get(name, ())) - {"tutti-fl"} for name in PACKAGES}
    assert not {name: others for name, others in taken.items() if others}


@pytest.mark.parametrize("name", ["tests", "docs", "benchmarks", "deploy"])
def test_folders_that_are_no_packages_stay_so(name: str) -> None:
    # jax-privacy installs packages named `tests` and `docs`: ours must never be found in their place, nor they in ours.
    assert not (ROOT / name / "__init__.py").exists()


def _modules(graph: grimp.ImportGraph, package: str) -> set[str]:
    return {package} | graph.find_descendants(package)


def _roots_reached(graph: grimp.ImportGraph, package: str) -> set[str]:
    direct = {target for module in _modules(graph, package) for target in graph.find_modules_directly_imported_by(module)}
    return {name.partition(".")[0] for name in direct}
