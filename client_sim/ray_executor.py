"""The local workers' executor on a Ray cluster: a few actors that live for the whole run, each with a share of every round.

Partial sums exist under central differential privacy only, made by actors that are as trusted as local workers: they check each
device's norm before they add it. Secure aggregation stays with the processes of one machine.
"""

# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false
# (Ray is an extra, and has no types where it is not installed.)

import importlib.metadata
import os
import pickle
import platform
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from client_sim import child_environment, cores, ray_cluster
from client_sim.encoding import encoder_of
from client_sim.executor import Job, Updates
from client_sim.local_work import LocalWork, WorkSetup, add_up
from client_sim.secure_cohort import SecureCohort
from client_sim.splitting import MOST_STARTS, merged, shares
from client_sim.worker_messages import Done, Failed
from contract import plan
from contract.errors import ErrorCode, TuttiError

LEAST_DEVICES = 50
"""Fewest devices worth an actor: its share of a round is one message, never a message a device."""
START_S = 300.0
"""How long actors may take to start: on a busy machine they load JAX one after another."""


@dataclass(frozen=True, slots=True)
class Seat:
    """Where an actor finds itself: a machine, its usable cores, and the versions on which the bits of a sum depend."""

    machine: str
    cores: tuple[int, ...]
    versions: tuple[str, ...]


class Actor:
    """Trains on one core of its machine, chosen before JAX begins, so that it gives the same bits as any other worker."""

    def __init__(self, setup: bytes) -> None:
        self._setup = setup

    def seat(self) -> Seat:
        """Where it runs, and on what."""
        return seat()

    def begin(self, core: int) -> Failed | None:
        """Stays on `core` from now on; why it cannot work, if it cannot."""
        if hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(0, {core})
        try:
            self._work = LocalWork(pickle.loads(self._setup))  # noqa: S301 - from the process that started this actor
        except (ValueError, TuttiError) as error:
            return _failed(error)
        return None

    def train(self, parameters: npt.NDArray[np.float32], job: Job) -> tuple[npt.NDArray[np.int64] | None, Done | Failed]:
        """The sum of a share, and what was measured. `job` comes without its parameters, which all actors of a node share."""
        job = replace(job, parameters=parameters)
        total = np.zeros(encoder_of(plan.decode(job.plan)).encoded_dimension, np.int64)
        try:
            updates = add_up(self._work, job, total)
        except (ValueError, TuttiError) as error:
            return None, _failed(error)
        return total, Done(updates.count, updates.metrics, updates.norms_squared)

    def process_id(self) -> int:
        """For tests that kill it."""
        return os.getpid()


class RayExecutor:
    """`num_actors` actors of a Ray cluster.

    An actor that is lost is started again and its share of the round done anew; a sum counts once it has arrived, whole, so that no
    device counts twice.

    Args:
      num_actors: None takes every core: of this machine, or those of the cluster that are free.
      address: of a running cluster; None starts one on this machine, which ends with the executor.

    Raises:
      TuttiError: ENGINE_MISSING without Ray; UNAVAILABLE if the cluster cannot be reached or its actors do not start;
        ARGUMENT_INVALID for more actors than the cluster has processors, or if its machines have other versions than this one.
    """

    def __init__(self, setup: WorkSetup, *, num_actors: int | None, address: str | None = None) -> None:
        self._setup, self._pickled = setup, pickle.dumps(setup)
        self._ray: Any = ray_cluster.load(own=address is None)
        self._lost = (self._ray.exceptions.RayActorError, self._ray.exceptions.ObjectLostError)
        self._ours = not self._ray.is_initialized()
        if self._ours and address is None:
            ray_cluster.open_here(self._ray, num_actors or len(cores.available()))
        elif self._ours and address is not None:
            ray_cluster.join(self._ray, address)
        self._actors: list[Any] = []
        self._cores: list[tuple[str, int]] = []
        try:
            self._actors = [self._start() for _ in range(self._count(num_actors))]
            self._begin(range(len(self._actors)))
        except BaseException as error:
            self.close()
            if isinstance(error, self._ray.exceptions.RayError):
                why = str(error).strip().rpartition("\n")[2]
                detail = f"Ray's actors did not start: {why} (every machine of the cluster needs the same installation)"
                raise TuttiError(ErrorCode.UNAVAILABLE, detail) from None
            raise

    @property
    def process_ids(self) -> tuple[int, ...]:
        """The actors' processes, in order."""
        return tuple(self._ray.get([actor.process_id.remote() for actor in self._actors]))

    def run(self, job: Job) -> Updates:
        """The updates of all devices of `job`.

        Raises:
          TuttiError: with an actor's reason, or INTERNAL if a share of the job was lost `MOST_STARTS` times; UNAVAILABLE if the
            cluster has no room left for a lost actor's successor.
        """
        used = min(len(self._actors), max(1, len(job.devices) // LEAST_DEVICES))
        split = shares(self._setup, job, used)
        parameters = self._ray.put(np.ascontiguousarray(job.parameters))
        jobs = [replace(job, parameters=job.parameters[:0], devices=job.devices[share]) for share in split]
        waiting = [self._actors[place].train.remote(parameters, part) for place, part in enumerate(jobs)]
        total = np.zeros(encoder_of(plan.decode(job.plan)).encoded_dimension, np.int64)
        answers: list[Done | None] = []
        for place, part in enumerate(jobs):
            found, answer = self._answer(place, waiting[place], parameters, part)
            if isinstance(answer, Failed):
                raise TuttiError(answer.code, answer.detail)
            total += found
            answers.append(answer)
        return merged(job, split, answers, total)

    def begin_secure(self, job: Job, authority_seed: bytes) -> SecureCohort:
        """Refused: the devices of a secure round stay in processes of this machine.

        Raises:
          TuttiError: MECHANISM_UNSUPPORTED.
        """
        del job, authority_seed
        raise TuttiError(ErrorCode.MECHANISM_UNSUPPORTED, "secure aggregation runs with local workers, not with --executor ray")

    def close(self) -> None:
        """Ends the actors, and the cluster if it was started for them."""
        for actor in self._actors:
            self._ray.kill(actor)
        self._actors = []
        if self._ours:
            self._ray.shutdown()

    def _count(self, asked: int | None) -> int:
        """How many actors to start, once it is clear that the cluster can ever have so many."""
        there = int(self._ray.cluster_resources().get("CPU", 0))
        if asked is None:
            return max(1, int(self._ray.available_resources().get("CPU", 0)))
        if asked > there:
            detail = f"{asked} actors were asked for, and the Ray cluster has {there} CPUs: ask for fewer with --workers, or add nodes"
            raise TuttiError(ErrorCode.ARGUMENT_INVALID, detail)
        return asked

    def _start(self) -> Any:
        remote = self._ray.remote(num_cpus=1, max_restarts=0, runtime_env={"env_vars": child_environment.variables()})(Actor)
        return remote.remote(self._pickled)

    def _begin(self, places: Sequence[int]) -> None:
        """Gives each of these actors a core of its machine that no other has, as far as there are enough."""
        seats = self._wait([self._actors[place].seat.remote() for place in places])
        self._cores += [("", -1)] * (len(self._actors) - len(self._cores))
        for place, found in zip(places, seats, strict=True):
            if found.versions != seat().versions:
                detail = f"an actor runs on {', '.join(found.versions)}, this process on {', '.join(seat().versions)}"
                raise TuttiError(ErrorCode.ARGUMENT_INVALID, f"{detail}: install the same on every machine of the cluster")
            taken = [core for machine, core in self._cores if machine == found.machine]
            self._cores[place] = (found.machine, min(found.cores, key=taken.count))
        for fault in self._wait([self._actors[place].begin.remote(self._cores[place][1]) for place in places]):
            if fault is not None:
                raise TuttiError(fault.code, fault.detail)

    def _wait(self, waiting: list[Any]) -> list[Any]:
        try:
            return self._ray.get(waiting, timeout=START_S)
        except self._ray.exceptions.GetTimeoutError:
            free = int(self._ray.available_resources().get("CPU", 0))
            detail = f"{len(waiting)} Ray actors did not start within {START_S:.0f} s ({free} CPUs of the cluster are free)"
            raise TuttiError(ErrorCode.UNAVAILABLE, detail) from None

    def _answer(self, place: int, waiting: Any, parameters: Any, part: Job) -> tuple[Any, Done | Failed]:
        for start in range(MOST_STARTS):
            try:
                if start > 0:
                    self._replace(place)
                    waiting = self._actors[place].train.remote(parameters, part)
                return self._ray.get(waiting)
            except self._lost:
                continue
        raise TuttiError(ErrorCode.INTERNAL, f"a Ray actor was lost {MOST_STARTS} times at the same work")

    def _replace(self, place: int) -> None:
        # An actor that could not be reached may live on; it must not keep its processor.
        self._ray.kill(self._actors[place])
        self._actors[place], self._cores[place] = self._start(), ("", -1)
        self._begin([place])


def seat() -> Seat:
    """Of this process.

    >>> seat() == seat()
    True
    """
    # Containers of one machine have hosts' names of their own, but one boot.
    boot = Path("/proc/sys/kernel/random/boot_id")
    machine = boot.read_text().strip() if boot.exists() else platform.node()
    libraries = [f"{name} {importlib.metadata.version(name)}" for name in ("jax", "jaxlib", "numpy")]
    return Seat(machine, cores.available(), (f"Python {platform.python_version()}", *libraries))


def _failed(error: ValueError | TuttiError) -> Failed:
    if isinstance(error, TuttiError):
        return Failed(error.code, error.detail)
    return Failed(ErrorCode.INTERNAL, f"a worker refused its work: {error}")
