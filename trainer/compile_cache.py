"""Keeps compiled programs between runs."""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# (JAX types its functions only in part.)

import hashlib
import os
import platform
from pathlib import Path
from typing import Any

import jax
from jax._src import xla_bridge


def enable(directory: Path) -> Path:
    """Compiled programs are kept in, and taken from, a folder of `directory` that is named after this machine's processor and the
    number of cores that this process may use.

    To be called before the first program is compiled. A program from the cache gives the same bits as a fresh one; one that was
    compiled for another processor might not run at all, and one for another number of cores adds in another order, hence the folder.

    Returns:
      The folder.
    """
    folder = directory / f"{platform.machine()}-{_processor()}-{usable_cores()}"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    return folder


def enable_on_one_core() -> Path | None:
    """`enable` in the user's own cache (`XDG_CACHE_HOME`, else `~/.cache`), for a process that trains on one pinned core.

    Nothing is done where programs would not be that core's alone (JAX has begun, or may use several cores), where somebody chose a
    folder already (`JAX_COMPILATION_CACHE_DIR`), or where the folder cannot be made or belongs to somebody else: what is loaded
    from it is run.

    Returns:
      The folder, or None.
    """
    if usable_cores() != 1 or begun() or os.environ.get("JAX_COMPILATION_CACHE_DIR"):
        return None
    parent = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tutti" / "compiled"
    try:
        parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        return enable(parent) if parent.stat().st_uid == os.getuid() else None
    except OSError:
        return None


def usable_cores() -> int:
    """How many cores this thread may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def begun() -> bool:
    """Whether JAX has chosen its threads already. It has no public word for that; without this one nothing is cached."""
    asked: Any = getattr(xla_bridge, "backends_are_initialized", None)
    return asked is None or bool(asked())


def _processor() -> str:
    """A short hash of the processor's features, where the system tells them."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = [platform.processor()]
    features = sorted({line for line in lines if line.startswith(("flags", "Features", "model name", "CPU part"))})
    return hashlib.sha256("\n".join(features).encode()).hexdigest()[:12]
