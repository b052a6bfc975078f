"""Processor time: of this process and of TFF's worker, which does the work."""

import psutil


def seconds() -> float:
    """What both have used so far."""
    own = psutil.Process()
    times = [process.cpu_times() for process in (own, *own.children(recursive=True))]
    return sum(each.user + each.system for each in times)
