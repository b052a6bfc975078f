"""The environment of the TensorFlow Federated engine: where it is, and how it is made on first use.

It cannot be ours: TFF 0.87 pins the numpy and JAX of 2023. Its project, with a lock file of its own, lies beside the simulator; what is
installed from it lies beside the checkout, or in the user's cache where there is no checkout to write to.
"""

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from contract.errors import ErrorCode, TuttiError

ROOT = Path(__file__).parents[2]
PROJECT = ROOT / "client_sim" / "tff_engine"
DIRECTORY_VARIABLE = "TUTTI_TFF_ENV"


def directory() -> Path:
    """Where the environment lies: `TUTTI_TFF_ENV`, else `.tff-venv` in the checkout, else a folder of the user's cache that is named
    by the lock file.
    """
    given = os.environ.get(DIRECTORY_VARIABLE)
    if given:
        return Path(given).expanduser()
    if (ROOT / "pyproject.toml").is_file():
        return ROOT / ".tff-venv"
    cache = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
    return cache / "tutti" / f"tff-{hashlib.sha256((PROJECT / 'uv.lock').read_bytes()).hexdigest()[:12]}"


def command() -> str:
    """What makes the environment, as one would type it."""
    return f"UV_PROJECT_ENVIRONMENT={directory()} uv sync --frozen --project {PROJECT}"


def is_made() -> bool:
    """Whether what the lock file says was installed to the end."""
    marker = directory() / "tutti-lock"
    return _python().is_file() and marker.is_file() and marker.read_text() == _lock_digest()


def interpreter(tell: Callable[[str], None] = lambda _: None) -> Path:
    """The engine's Python; the environment is made if it is not there yet.

    Args:
      tell: is told in a sentence what takes so long; uv shows a progress bar on standard error.

    Raises:
      TuttiError: ENGINE_MISSING, with the command, if it cannot be made.
    """
    if not is_made():
        make(tell)
    return _python()


def make(tell: Callable[[str], None]) -> None:
    """Installs what the engine's lock file says.

    Raises:
      TuttiError: ENGINE_MISSING, with the command, if that fails.
    """
    uv = shutil.which("uv") or _own_uv()
    if uv is None:
        raise TuttiError(ErrorCode.ENGINE_MISSING, f"uv, which makes it, is not installed; install uv, then run: {command()}")
    tell(f"making the environment of TensorFlow Federated in {directory()} (first use only; about 2.5 GB)")
    settings = {**os.environ, "UV_PROJECT_ENVIRONMENT": str(directory())}
    settings.pop("VIRTUAL_ENV", None)
    ended = subprocess.run(
        [uv, "sync", "--frozen", "--project", str(PROJECT)],
        env=settings,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        check=False,
    )
    if ended.returncode or not _python().is_file():
        raise TuttiError(ErrorCode.ENGINE_MISSING, f"it could not be made; its messages are above; run: {command()}")
    (directory() / "tutti-lock").write_text(_lock_digest())


def _own_uv() -> str | None:
    own = ROOT / ".uv" / "bin" / "uv"
    return str(own) if own.is_file() else None


def _python() -> Path:
    return directory() / "bin" / "python"


def _lock_digest() -> str:
    return hashlib.sha256((PROJECT / "uv.lock").read_bytes()).hexdigest()


def main() -> None:
    """Makes the environment, or says that it is there: `python -m tutti.engines.environment`."""
    try:
        interpreter(lambda sentence: print(sentence, file=sys.stderr))  # noqa: T201
    except TuttiError as error:
        sys.exit(f"{error.code.slug}: {error.detail}")


if __name__ == "__main__":
    main()
