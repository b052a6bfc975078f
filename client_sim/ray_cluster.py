"""Reaching a Ray cluster: one that runs, or one of our own on this machine, which nobody else can reach."""

# pyright: reportMissingImports=false, reportUnknownVariableType=false, reportUnknownArgumentType=false, reportUnknownMemberType=false
# (Ray is an extra.)

import os
import signal
import socket
import sys
import threading
from collections.abc import Generator
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Self

from contract.entropy import Entropy, system_entropy
from contract.errors import ErrorCode, TuttiError

MOST_TRIES = 3
"""How often a cluster is started on this machine. Ray 2.60 gives its agents a quarter of a minute and its node half of one, with no
setting for either, which a busy machine may need more than once.
"""
KNOCK_S = 10.0
AGENT_START_MS = 300_000
"""How long a node that is up waits for its agents to report, before it ends itself."""
_ALWAYS = {
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",  # under `uv run`, Ray would pack the working directory and start actors by `uv run`
    "RAY_USAGE_STATS_ENABLED": "0",
}


def load(*, own: bool, entropy: Entropy = system_entropy) -> Any:
    """The module `ray`, told before it is imported what it reads then.

    Args:
      own: whether the cluster will be started here. Ray listens to all of the network and runs what anybody sends; a cluster of our
        own therefore stays on the loopback device and asks for a token, which only the processes of this one know.

    Raises:
      TuttiError: ENGINE_MISSING if it is not installed; ARGUMENT_INVALID if it was imported before it could be told.
    """
    settings = dict(_ALWAYS)
    if own:
        # The switch's name is of the systems on which Ray keeps to the loopback device by itself.
        settings |= {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0", "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": entropy(32).hex()}
        early = sys.modules.get("ray")
        if early is not None and not early.is_initialized() and settings.keys() - os.environ.keys():
            detail = "ray was imported before it could be told to stay on the loopback device: call ray.init() first, or do not import it"
            raise TuttiError(ErrorCode.ARGUMENT_INVALID, detail)
    for name, value in settings.items():
        os.environ.setdefault(name, value)
    try:
        import ray
    except ImportError:
        detail = "Ray is not installed: install the extra with `uv sync --inexact --extra ray`, or leave --executor ray out"
        raise TuttiError(ErrorCode.ENGINE_MISSING, detail) from None
    return ray


def join(ray: Any, address: str) -> None:
    """Connects to a running cluster.

    Raises:
      TuttiError: UNAVAILABLE if it cannot be reached, or does not let us in.
    """
    try:
        _knock(address)
        with _our_signals():
            ray.init(address=address, log_to_driver=False, logging_level="ERROR")
    except (OSError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
        raise TuttiError(ErrorCode.UNAVAILABLE, f"no Ray cluster at {address}: {error}") from None


def _knock(address: str) -> None:
    """Ray asks for minutes where nobody listens; a connection that is refused says so at once."""
    host, _, port = address.rpartition(":")
    if host and "/" not in host and port.isdigit():
        socket.create_connection((host.strip("[]"), int(port)), timeout=KNOCK_S).close()


def open_here(ray: Any, num_cpus: int) -> None:
    """Starts a cluster on this machine, which ends with this process.

    Raises:
      TuttiError: UNAVAILABLE if it does not start.
    """
    fault: str | None = None
    for _ in range(MOST_TRIES):
        fault = _try_to_open(ray, num_cpus)
        if fault is None:
            return
        ray.shutdown()
    detail = f"Ray did not start on this machine in {MOST_TRIES} tries (its logs: session_latest/logs in its temporary folder): {fault}"
    raise TuttiError(ErrorCode.UNAVAILABLE, detail)


def _try_to_open(ray: Any, num_cpus: int) -> str | None:
    """What was wrong, in a line.

    In this thread: the system ends Ray's processes with the thread that started them.
    """
    with _RayFault() as found, _our_signals():
        # Without an address `init` would join whatever RAY_ADDRESS names; "local" always starts anew.
        ray.init(
            address="local",
            num_cpus=num_cpus,
            include_dashboard=False,
            log_to_driver=False,
            logging_level="ERROR",
            _system_config={"agent_register_timeout_ms": AGENT_START_MS},
        )
    return found.line


class _RayFault:
    """Keeps what Ray raises when it does not start; that its processes took too long it says with a bare `Exception`, no other."""

    line: str | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None) -> bool:
        if kind is Exception or isinstance(fault, (OSError, RuntimeError, ValueError)):
            self.line = str(fault).partition("\n")[0]
        return self.line is not None


@contextmanager
def _our_signals() -> Generator[None]:
    """Ray puts a handler of its own in the place of one that this program may have."""
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if callable(before) and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, before)
