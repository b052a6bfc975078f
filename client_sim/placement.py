"""Where devices are trained: on which backend of this machine, or on a cluster; and whether that is possible here."""

import importlib.util
from dataclasses import dataclass
from pathlib import Path

from contract.errors import ErrorCode, TuttiError

BACKENDS = ("auto", "cpu", "gpu", "tpu")
EXECUTORS = ("processes", "ray")
PLATFORMS = {"cpu": "cpu", "gpu": "cuda", "tpu": "tpu"}
"""What JAX calls them."""
_PLUGINS = {"gpu": ("jax_cuda13_plugin", "jax_cuda12_plugin"), "tpu": ("libtpu",)}
_DEVICE_FILES = {"gpu": ("nvidia[0-9]*", "nvidiactl"), "tpu": ("accel[0-9]*", "vfio/[0-9]*")}
_EXTRAS = {"gpu": "cuda", "tpu": "tpu"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """Where to train.

    Args:
      workers: processes; one a core unless given, 0 trains in the calling process. An accelerator has one. With Ray, actors: one for
        each free processor of the cluster unless given.
      backend: `auto` takes an accelerator if one can be used here, and the processor otherwise.
      executor: `processes` of this machine, or `ray`.
      ray_address: of a running cluster (`auto` finds the one of this machine); None starts one here.

    Raises:
      TuttiError: ARGUMENT_INVALID for a backend or an executor that there is not.
    """

    workers: int | None = None
    backend: str = "auto"
    executor: str = "processes"
    ray_address: str | None = None

    def __post_init__(self) -> None:
        for name, value, known in (("backend", self.backend, BACKENDS), ("executor", self.executor, EXECUTORS)):
            if value not in known:
                raise TuttiError(ErrorCode.ARGUMENT_INVALID, f"{name} must be one of {', '.join(known)}, not {value!r}")
        if self.ray_address is not None and self.executor != "ray":
            raise TuttiError(ErrorCode.ARGUMENT_INVALID, "a Ray address is for --executor ray")
        if self.executor == "ray" and self.backend in ("gpu", "tpu"):
            raise TuttiError(ErrorCode.ARGUMENT_INVALID, f"Ray's actors train on processors, not on {self.backend}")

    @classmethod
    def of(cls, workers: "int | Placement | None") -> "Placement":
        """A number of workers is a placement on the processor's cores.

        >>> Placement.of(2).workers, Placement.of(None).backend
        (2, 'cpu')
        """
        return workers if isinstance(workers, Placement) else cls(workers=workers, backend="cpu")

    def chosen_backend(self) -> str:
        """`cpu`, `gpu` or `tpu`.

        Raises:
          TuttiError: ENGINE_MISSING if what was asked for cannot be used here, with the cure.
        """
        if self.backend == "auto":
            return next((name for name in _PLUGINS if self.executor == "processes" and why_not(name) is None), "cpu")
        fault = why_not(self.backend)
        if fault is not None:
            raise TuttiError(ErrorCode.ENGINE_MISSING, fault)
        return self.backend


def why_not(backend: str) -> str | None:
    """Why `backend` cannot be used here, and what would help; None if it can. JAX is not begun for it.

    >>> why_not("cpu") is None
    True
    """
    if backend == "cpu":
        return None
    if not any(next(Path("/dev").glob(pattern), None) for pattern in _DEVICE_FILES[backend]):
        return f"this machine shows no {backend.upper()}; use --backend cpu, or run where there is one"
    if not any(importlib.util.find_spec(name) for name in _PLUGINS[backend]):
        extra = _EXTRAS[backend]
        return f"JAX has no {backend.upper()} support here: install the extra with `uv sync --inexact --extra {extra}`"
    return None
