"""One process of the TensorFlow Federated engine: calls and answers over its standard input and output."""

import contextlib
import os
import signal
import subprocess
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any, Self, cast

from numpy.typing import NDArray

from contract.errors import ErrorCode, TuttiError
from tutti.engines import environment, frames
from tutti.engines.frames import Arrays

LAST_WORDS = 2000
"""Characters of the engine's own messages that are shown when it ends by itself."""
SECONDS_TO_END = 10.0


class EngineProcess:
    """A running engine. Calls are answered one after another; `close` ends it with everything that it started.

    Args:
      python: interpreter of the engine's environment.
    """

    def __init__(self, python: Path) -> None:
        self._messages = _spool()
        settings = {
            **os.environ,
            "PYTHONPATH": str(environment.PROJECT),
            "TF_CPP_MIN_LOG_LEVEL": "2",
            "CUDA_VISIBLE_DEVICES": "",
        }
        settings.pop("VIRTUAL_ENV", None)
        self._process = subprocess.Popen(
            [str(python), "-m", "tff_engine"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._messages,  # a file: TFF's worker may outlive it and would hold a pipe open
            env=settings,
            start_new_session=True,
        )

    def call(
        self, operation: str, facts: Mapping[str, Any] | None = None, arrays: Arrays | None = None
    ) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        """What the engine answers to `operation`.

        Raises:
          TuttiError: INTERNAL if it answers with a fault, or has ended.
        """
        sink, source = self._process.stdin, self._process.stdout
        if sink is None or source is None or sink.closed:
            raise TuttiError(ErrorCode.INTERNAL, "the TensorFlow Federated engine was closed")
        try:
            frames.write(cast(IO[bytes], sink), {**(facts or {}), "op": operation}, arrays or {})  # pyright: ignore[reportArgumentType]
            answer = frames.read(cast(IO[bytes], source))  # pyright: ignore[reportArgumentType]
        except BrokenPipeError:
            answer = None
        if answer is None:
            self._process.wait()
            raise TuttiError(ErrorCode.INTERNAL, f"the TensorFlow Federated engine ended: {self._last_words()}")
        if "error" in answer[0]:
            raise TuttiError(ErrorCode.INTERNAL, f"TensorFlow Federated, {operation}: {answer[0]['error']}")
        return answer

    def close(self) -> None:
        """Ends the process; a second call does nothing."""
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None and not stream.closed:
                stream.close()
        try:
            self._process.wait(SECONDS_TO_END)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)  # TFF's worker, where it was left behind
        self._messages.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _last_words(self) -> str:
        size = self._messages.seek(0, os.SEEK_END)
        self._messages.seek(max(0, size - LAST_WORDS))
        return self._messages.read().decode(errors="replace").strip() or "it said nothing"


def _spool() -> IO[bytes]:
    return tempfile.TemporaryFile(prefix="tutti-engine-")


def start(tell: Callable[[str], None] = lambda _: None) -> EngineProcess:
    """A process of the engine, whose environment is made if need be.

    Raises:
      TuttiError: ENGINE_MISSING, with the command, if it cannot be made.
    """
    return EngineProcess(environment.interpreter(tell))
