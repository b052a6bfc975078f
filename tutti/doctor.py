"""What `tutti doctor` looks at: each check is a name, a fact and a cure."""

import importlib.metadata
import os
import socket
import sys
from dataclasses import dataclass
from typing import Any

import jax
from sqlalchemy.exc import SQLAlchemyError

from contract.entropy import system_entropy
from contract.errors import TuttiError
from tutti import stores

PORTS = {7310: "gRPC", 7311: "REST"}


@dataclass(frozen=True, slots=True)
class Check:
    """One finding."""

    name: str
    ok: bool
    detail: str
    cure: str

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {"name": self.name, "ok": self.ok, "detail": self.detail, "cure": self.cure}


def examine(store: str) -> list[Check]:
    """All checks, in the order in which they matter."""
    return [_python(), _jax(), _cores(), _entropy(), _store(store), *(_port(port, name) for port, name in PORTS.items())]


def _python() -> Check:
    version = ".".join(map(str, sys.version_info[:3]))
    return Check("python", sys.version_info >= (3, 11), version, "Use Python 3.11 or newer.")


def _jax() -> Check:
    return Check("jax", True, f"{importlib.metadata.version('jax')} on {jax.default_backend()}", "Run `uv sync --frozen`.")


def _cores() -> Check:
    count = len(os.sched_getaffinity(0))
    return Check("cores", count > 0, f"{count} usable; a worker is pinned to each", "Allow this process at least one core.")


def _entropy() -> Check:
    drawn = system_entropy(32)
    return Check(
        "entropy", len(set(drawn)) > 1, "the operating system's generator answers", "Do not run here: keys would be weak."
    )


def _store(store: str) -> Check:
    cure = "Give another --store, or run `tutti db upgrade`."
    try:
        with stores.opened(store) as (database, _):
            runs = sum(found.runs for found in database.lists.counts().values())
            return Check("store", True, f"{store}: {runs} runs, {database.tree_head().size} entries", cure)
    except (TuttiError, SQLAlchemyError, OSError) as error:
        return Check("store", False, f"{store}: {error}", cure)


def _port(port: int, name: str) -> Check:
    with socket.socket() as probe:
        taken = probe.connect_ex(("127.0.0.1", port)) == 0
    detail = f"{port} is {'in use: a server may be running already' if taken else 'free'}"
    return Check(f"port {name}", True, detail, "Choose another port with `tutti serve`.")
