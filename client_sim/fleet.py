"""A fleet over gRPC: worker processes, each pinned to a core before it starts, each playing its share of the devices."""

import os
import pickle
import socket
import subprocess
import sys
from collections.abc import Mapping
from multiprocessing.connection import Connection, wait
from typing import Any

from client_sim import child_environment, cores
from client_sim.fleet_setup import Begin, Broken, FleetSetup, Seen, Word
from client_sim.fleet_sightings import Sighted
from client_sim.session_shapes import Tally
from client_sim.workers import can_be_sent
from contract.errors import ErrorCode, TuttiError
from contract.task import DataSpec

STOP_S = 10.0


class Fleet:
    """Processes that play devices until `stop`.

    Args:
      workers: processes; one a core unless given.

    Raises:
      TuttiError: ARGUMENT_INVALID if the devices' data cannot be sent to other processes.
    """

    def __init__(self, setup: FleetSetup, *, workers: int | None = None) -> None:
        if not isinstance(setup.data, DataSpec) and not can_be_sent(setup.data):
            detail = f"a {type(setup.data).__name__} cannot be sent to worker processes: define it in a module"
            raise TuttiError(ErrorCode.ARGUMENT_INVALID, detail)
        usable = cores.available()
        places = max(1, min(setup.num_devices, len(usable) if workers is None else workers))
        self.sighted = Sighted()
        """What an observed fleet's processes told until the last call of `ended`."""
        self._ended = Tally()
        self._processes: list[_Process] = []
        for place in range(places):
            self._processes.append(_Process(usable[place % len(usable)], Begin(setup, place, places)))

    @property
    def process_ids(self) -> tuple[int, ...]:
        """The processes, in order."""
        return tuple(process.id for process in self._processes)

    def ended(self) -> tuple[Mapping[str, int], Mapping[str, Mapping[str, int]]]:
        """How many sessions of each shape ended since the last call, and for which reasons.

        Raises:
          TuttiError: if a process cannot go on, with its reason.
        """
        self.listen()
        return self._ended.take()

    def listen(self, most_s: float = 0.0) -> None:
        """Takes in what the processes have to say; waits for a word for `most_s` at most.

        Raises:
          TuttiError: if a process cannot go on, with its reason.
        """
        wait([process.connection for process in self._processes], most_s)
        for process in self._processes:
            for word in process.words():
                if isinstance(word, Broken):
                    raise TuttiError(word.code, word.detail)
                if isinstance(word, Seen):
                    self.sighted.add(word)
                else:
                    self._ended.update(word.shapes, word.reasons)
            if (status := process.status()) is not None:
                raise TuttiError(ErrorCode.INTERNAL, f"a process of the fleet ended by itself (exit status {status})")

    def stop(self) -> None:
        """Ends the processes and waits for them."""
        for process in self._processes:
            process.leave()
        for process in self._processes:
            process.wait()
        self._processes = []


class _Process:
    def __init__(self, core: int, begin: Begin) -> None:
        ours, theirs = socket.socketpair()
        environment = os.environ | child_environment.variables()
        with cores.pinned(core):
            self._process = subprocess.Popen(
                [sys.executable, "-m", "client_sim.fleet_process", str(theirs.fileno())],
                pass_fds=(theirs.fileno(),),
                env=environment,
                stdin=subprocess.DEVNULL,
            )
        theirs.close()
        self.connection: Connection[Any, Any] = Connection(ours.detach())
        self.connection.send_bytes(pickle.dumps(begin))

    @property
    def id(self) -> int:
        return self._process.pid

    def words(self) -> list[Word]:
        found: list[Word] = []
        try:
            while self.connection.poll():
                found.append(self.connection.recv())
        except (EOFError, OSError):
            pass
        return found

    def status(self) -> int | None:
        return self._process.poll()

    def leave(self) -> None:
        self.connection.close()

    def wait(self) -> None:
        try:
            self._process.wait(timeout=STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
