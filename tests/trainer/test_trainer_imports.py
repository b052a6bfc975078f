"""The trainer stands on JAX, optax and NumPy alone, so that it runs wherever they do."""

import ast
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
THIRD_PARTY = {"jax", "optax", "numpy"}


def imported(folder: Path) -> set[str]:
    """The top-level names that the modules of a folder import, the standard library's left out."""
    names: set[str] = set()
    for path in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                names.add(node.module.split(".")[0])
    return names - set(sys.stdlib_module_names)


def test_trainer_imports_nothing_else_of_others_and_only_contract_of_ours() -> None:
    assert imported(ROOT / "trainer") <= THIRD_PARTY | {"trainer", "contract"}


def test_programs_for_accelerators_import_only_these_and_the_trainer() -> None:
    assert imported(ROOT / "benchmarks" / "gpu") <= THIRD_PARTY | {"trainer"}
