"""Keeps compiled programs between runs."""

# pyright: reportUnknownMemberType=false
# (JAX types its functions only in part.)

import hashlib
import platform
from pathlib import Path

import jax


def enable(directory: Path) -> Path:
    """Compiled programs are kept in, and taken from, a folder of `directory` that is named after this machine's processor.

    To be called before the first program is compiled. A program from the cache gives the same bits as a fresh one; one that was
    compiled for another processor might not run at all, hence the folder.

    Returns:
      The folder.
    """
    folder = directory / f"{platform.machine()}-{_processor()}"
    folder.mkdir(parents=True, exist_ok=True)
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    return folder


def _processor() -> str:
    """A short hash of the processor's features, where the system tells them."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = [platform.processor()]
    features = sorted({line for line in lines if line.startswith(("flags", "Features", "model name", "CPU part"))})
    return hashlib.sha256("\n".join(features).encode()).hexdigest()[:12]
