"""Where a process's time goes: exclusive wall and processor seconds of named stages, by wrapping the methods that are the stages."""

import functools
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

TICK = os.sysconf("SC_CLK_TCK")


@dataclass(slots=True)
class Stage:
    """Exclusive seconds: what a stage inside of it took is not in it."""

    wall_s: float = 0.0
    cpu_s: float = 0.0
    calls: int = 0


@dataclass(slots=True)
class Stages:
    """Stages of one thread. `wrap` replaces a method for as long as the process lives."""

    found: dict[str, Stage] = field(default_factory=dict[str, Stage])
    aside: str = ""
    """Behind the names of stages that begin now."""
    _inner: list[list[float]] = field(default_factory=list[list[float]])

    def wrap(self, owner: type, method: str, name: str) -> None:
        """Counts calls of `owner.method` as stage `name`."""
        original = getattr(owner, method)

        @functools.wraps(original)
        def timed(*arguments: Any, **named: Any) -> Any:
            return self.time(name, lambda: original(*arguments, **named))

        setattr(owner, method, timed)

    def name_aside(self, owner: type, method: str, aside: str, *, after: bool = False) -> None:
        """From a call of `owner.method` on (from its end, if `after`), `aside` stands behind the names of stages that begin."""
        original = getattr(owner, method)

        @functools.wraps(original)
        def named(*arguments: Any, **keywords: Any) -> Any:
            if not after:
                self.aside = aside
            result = original(*arguments, **keywords)
            if after:
                self.aside = aside
            return result

        setattr(owner, method, named)

    def time(self, name: str, work: Callable[[], Any]) -> Any:
        """Does `work` as stage `name`."""
        name += self.aside
        self._inner.append([0.0, 0.0])
        wall, cpu = time.perf_counter(), time.thread_time()
        try:
            return work()
        finally:
            wall, cpu = time.perf_counter() - wall, time.thread_time() - cpu
            inner_wall, inner_cpu = self._inner.pop()
            if self._inner:
                self._inner[-1][0] += wall
                self._inner[-1][1] += cpu
            stage = self.found.setdefault(name, Stage())
            stage.wall_s += wall - inner_wall
            stage.cpu_s += cpu - inner_cpu
            stage.calls += 1

    def clear(self) -> None:
        """Forgets what was counted, as after the first rounds."""
        self.found.clear()


def children(process: int) -> list[int]:
    """The processes that `process` started and that live, at any depth."""
    by_parent: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            stat = _read(entry / "stat")
            if stat:
                by_parent.setdefault(int(stat.rpartition(")")[2].split()[1]), []).append(int(entry.name))
    found, waiting = list[int](), [process]
    while waiting:
        more = by_parent.get(waiting.pop(), [])
        found += more
        waiting += more
    return found


def cpu_seconds(process: int) -> float:
    """User and system seconds of a process so far, its dead children included."""
    stat = _read(Path(f"/proc/{process}/stat"))
    return sum(map(int, stat.rpartition(")")[2].split()[11:15])) / TICK if stat else 0.0


def pss_mb(processes: list[int]) -> float:
    """Memory of all of them together in MB, shared pages counted once."""
    total = 0
    for process in processes:
        for line in _read(Path(f"/proc/{process}/smaps_rollup")).splitlines():
            total += int(line.split()[1]) if line.startswith("Pss:") else 0
    return total / 1024


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:  # it has ended meanwhile
        return ""
