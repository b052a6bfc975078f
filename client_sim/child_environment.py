"""What a process is told when it starts that trains on one core."""

import os
import sys
from pathlib import Path

ALLOCATOR = {"MALLOC_ARENA_MAX": "1", "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}
"""For glibc, others do not look at it: one heap for all threads of a process that has one core, and pages of 2 MB for what XLA asks for
anew in each step. Together about a fifth less memory; benchmarks/results/training.md has the figures."""


def variables(platform: str = "cpu") -> dict[str, str]:
    """This process's modules, one thread for what has threads of its own, JAX's backend, and an allocator's settings where the user
    chose none.

    >>> variables()["OMP_NUM_THREADS"], variables("cuda")["JAX_PLATFORMS"]
    ('1', 'cuda')
    """
    return {name: os.environ.get(name, value) for name, value in ALLOCATOR.items()} | {
        "PYTHONPATH": os.pathsep.join(path or str(Path.cwd()) for path in sys.path),
        "JAX_PLATFORMS": platform,
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
    }
