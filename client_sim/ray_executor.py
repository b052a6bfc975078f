"""The local workers' executor on a Ray cluster: a few actors that live for the whole run, each with a share of every round.

Partial sums exist under central differential privacy only, made by actors that are as trusted as local workers: they check each
device's norm before they add it. Secure aggregation stays with the processes of one machine.
"""

# pyright: reportMissingImports=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# (Ray is an extra.)

import os
import pickle
import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from client_sim import cores
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


class Actor:
    """Trains on one core of its node, chosen before JAX begins, so that it gives the same bits as any other worker."""

    def __init__(self, setup: bytes, place: int) -> None:
        usable = cores.available()
        if hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(0, {usable[place % len(usable)]})
        self._fault: Failed | None = None
        try:
            self._work = LocalWork(pickle.loads(setup))  # noqa: S301 - from the process that started this actor
        except (ValueError, TuttiError) as error:
            self._fault = _failed(error)

    def ready(self) -> Failed | None:
        """Why it cannot work."""
        return self._fault

    def train(
        self, parameters: npt.NDArray[np.float32], facts: tuple[bytes, npt.NDArray[np.int64], int, bytes | None, float]
    ) -> tuple[npt.NDArray[np.int64] | None, Done | Failed]:
        """The sum of a share, and what was measured."""
        encoded, devices, order_seed, noise_seed, at_s = facts
        job = Job(plan=encoded, parameters=parameters, devices=devices, order_seed=order_seed, noise_seed=noise_seed, at_s=at_s)
        total = np.zeros(encoder_of(plan.decode(encoded)).encoded_dimension, np.int64)
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
      address: of a running cluster; None starts one on this machine, which ends with the executor.

    Raises:
      TuttiError: ENGINE_MISSING without Ray; UNAVAILABLE if the cluster cannot be reached.
    """

    def __init__(self, setup: WorkSetup, *, num_actors: int, address: str | None = None) -> None:
        self._setup, self._pickled = setup, pickle.dumps(setup)
        self._ray: Any = _ray()
        self._ours = not self._ray.is_initialized()
        if self._ours:
            self._connect(address, num_actors)
        self._actors = [self._start(place) for place in range(num_actors)]
        for actor in self._actors:
            fault = self._ray.get(actor.ready.remote())
            if fault is not None:
                self.close()
                raise TuttiError(fault.code, fault.detail)

    @property
    def process_ids(self) -> tuple[int, ...]:
        """The actors' processes, in order."""
        return tuple(self._ray.get([actor.process_id.remote() for actor in self._actors]))

    def run(self, job: Job) -> Updates:
        """The updates of all devices of `job`.

        Raises:
          TuttiError: with an actor's reason, or INTERNAL if a share of the job was lost `MOST_STARTS` times.
        """
        used = min(len(self._actors), max(1, len(job.devices) // LEAST_DEVICES))
        split = shares(self._setup, job, used)
        parameters = self._ray.put(np.ascontiguousarray(job.parameters))
        waiting = [self._order(place, parameters, job, share) for place, share in enumerate(split)]
        total = np.zeros(encoder_of(plan.decode(job.plan)).encoded_dimension, np.int64)
        answers: list[Done | None] = []
        for place, share in enumerate(split):
            part, answer = self._answer(place, waiting[place], parameters, job, share)
            if isinstance(answer, Failed):
                raise TuttiError(answer.code, answer.detail)
            total += part
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

    def _connect(self, address: str | None, num_actors: int) -> None:
        # Without an address `init` would join whatever RAY_ADDRESS names; "local" always starts anew.
        options: dict[str, Any] = {"address": "local", "num_cpus": num_actors, "include_dashboard": False}
        try:
            self._ray.init(**(options if address is None else {"address": address}), log_to_driver=False, logging_level="ERROR")
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise TuttiError(ErrorCode.UNAVAILABLE, f"no Ray cluster at {address}: {error}") from None

    def _start(self, place: int) -> Any:
        variables = {
            "PYTHONPATH": os.pathsep.join(path or str(Path.cwd()) for path in sys.path),
            "JAX_PLATFORMS": "cpu",
            "OMP_NUM_THREADS": "1",
            "OPENBLAS_NUM_THREADS": "1",
        }
        remote = self._ray.remote(num_cpus=1, max_restarts=0, runtime_env={"env_vars": variables})(Actor)
        return remote.remote(self._pickled, place)

    def _order(self, place: int, parameters: Any, job: Job, share: npt.NDArray[np.int64]) -> Any:
        facts = (job.plan, job.devices[share], job.order_seed, job.noise_seed, job.at_s)
        return self._actors[place].train.remote(parameters, facts)

    def _answer(
        self, place: int, waiting: Any, parameters: Any, job: Job, share: npt.NDArray[np.int64]
    ) -> tuple[Any, Done | Failed]:
        for start in range(MOST_STARTS):
            try:
                return self._ray.get(waiting)
            except self._ray.exceptions.RayActorError:
                if start + 1 < MOST_STARTS:
                    self._actors[place] = self._start(place)
                    waiting = self._order(place, parameters, job, share)
        raise TuttiError(ErrorCode.INTERNAL, f"a Ray actor was lost {MOST_STARTS} times at the same work")


def _ray() -> Any:
    try:
        import ray
    except ImportError:
        detail = "Ray is not installed: install the extra with `uv sync --inexact --extra ray`, or leave --executor ray out"
        raise TuttiError(ErrorCode.ENGINE_MISSING, detail) from None
    return ray


def _failed(error: ValueError | TuttiError) -> Failed:
    if isinstance(error, TuttiError):
        return Failed(error.code, error.detail)
    return Failed(ErrorCode.INTERNAL, f"a worker refused its work: {error}")
