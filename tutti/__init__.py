"""Tutti: train on many devices without seeing any device's data, prove how private the result is, check the proof by attack."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tutti import runs as runs
    from tutti.runs import run

__all__ = ["run"]


def __getattr__(name: str) -> Any:
    # `tutti.run` needs JAX and all the rest, which most commands should not wait for.
    if name in ("run", "runs"):
        runs = import_module("tutti.runs")
        return runs.run if name == "run" else runs
    raise AttributeError(f"module 'tutti' has no attribute {name!r}")
