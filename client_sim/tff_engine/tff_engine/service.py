"""Answers calls until its input ends: one learning process at a time, and the reference operations."""

import importlib.metadata
import os
import signal
import sys
import time
from collections.abc import Mapping
from typing import Any, BinaryIO

import grpc
import numpy as np
import tensorflow as tf
from google._upb import _message

from tff_engine import frames, learning, processor, reference

# Computations of secure aggregators nest deeper than the hundred levels that protobuf allows by default.
_message.SetAllowOversizeProtos(True)
FAULTS = (ValueError, TypeError, KeyError, RuntimeError, AssertionError, tf.errors.OpError, grpc.RpcError)


class Service:
    """The operations by name."""

    def __init__(self) -> None:
        self._process: learning.Process | None = None
        self._operations = {operation.__name__: operation for operation in reference.OPERATIONS}

    def answer(self, facts: Mapping[str, Any], arrays: Mapping[str, np.ndarray[Any, Any]]) -> reference.Answer:
        """What the operation gives.

        Raises:
          ValueError: for an operation that there is not, or a round before a process is built.
        """
        name = facts["op"]
        if name == "versions":
            return {part: importlib.metadata.version(part) for part in ("tensorflow-federated", "tensorflow-privacy")}, {}
        if name == "build":
            self._process, found = learning.build(facts, arrays)
            return found, {}
        if name == "round":
            if self._process is None:
                raise ValueError("no process is built")
            began = time.perf_counter()
            measured, parameters = self._process.round(
                arrays, rows=facts["rows"], epochs=facts["epochs"], batch_size=facts["batch_size"]
            )
            return {"measured": measured, "seconds": time.perf_counter() - began}, {"parameters": parameters}
        if name not in self._operations:
            raise ValueError(f"there is no operation {name!r}")
        return self._operations[name](facts, arrays)


def serve(source: BinaryIO, sink: BinaryIO) -> None:
    """Reads calls and writes answers until `source` ends; a fault is an answer with `error`."""
    service = Service()
    while (message := frames.read(source)) is not None:
        facts, arrays = message
        began = processor.seconds()
        try:
            found, results = service.answer(facts, arrays)
        except FAULTS as error:
            frames.write(sink, {"error": f"{type(error).__name__}: {str(error)[:2000]}"}, {})
            continue
        frames.write(sink, {**found, "cpu_s": processor.seconds() - began}, results)


def main() -> None:
    """Serves on the file descriptors that were standard input and output; whatever prints, prints to standard error."""
    # TFF interrupts a worker that it is done with and waits for it. Who runs in a shell's background has SIGINT ignored, and would pass
    # that on to the workers.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sink = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    try:
        serve(sys.stdin.buffer, sink)
    finally:
        # TFF's workers outlive their process otherwise, and its threads do not end by themselves: who started us made us lead a group.
        if os.getpgrp() == os.getpid():
            os.killpg(os.getpid(), signal.SIGKILL)
        os._exit(0)
