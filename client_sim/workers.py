"""The local executors: worker processes, one a core, or this process itself; the same sums, bit for bit."""

import os
import pickle
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from client_sim import child_environment, cores
from client_sim.data.loader import Loader
from client_sim.encoding import Encoder, encoder_of
from client_sim.executor import Job, Updates
from client_sim.local_work import LocalWork, WorkSetup, add_up
from client_sim.placement import PLATFORMS, Placement
from client_sim.secure_cohort import SecureCohort
from client_sim.secure_work import SecureWork
from client_sim.shared_arrays import SharedArray
from client_sim.splitting import MOST_STARTS, merged, pieces, shares
from client_sim.work_queue import MOST_PIECES, WorkQueue
from client_sim.worker_messages import Answer, Attach, BeginSecure, ContinueSecure, Done, Failed, Order, Ready, Train
from contract import plan
from contract.errors import ErrorCode, TuttiError
from contract.task import ModelSpec, TaskSpec
from trainer.vocabulary import Vocabulary

if TYPE_CHECKING:
    from client_sim.ray_executor import RayExecutor


def open_executor(
    spec: TaskSpec, loader: Loader, *, workers: int | Placement | None = None, vocabulary: Vocabulary | None = None
) -> "WorkerPool | InMemoryExecutor | RayExecutor":
    """The executor for a task: a number of worker processes, one a core unless given (0 trains in this process), or a `Placement`.

    `vocabulary` replaces the model's named one (words counted in the data). A loader that cannot be sent to another process (one
    defined in a notebook) is used in this process unless `workers` says otherwise.

    Raises:
      TuttiError: ARGUMENT_INVALID if workers were asked for and the loader cannot be sent to them; ENGINE_MISSING if the backend
        or Ray cannot be used here.
    """
    options = model_options(spec.model) | ({} if vocabulary is None else {"vocabulary": vocabulary})
    setup = WorkSetup(
        loader=loader,
        model=spec.model.name,
        model_options=options,
        training=spec.training,
        locale=spec.data.locale,
        cache=spec.data.cache,
        data_seed=spec.data.seed,
    )
    placement = Placement.of(workers)
    backend, count = placement.chosen_backend(), placement.workers
    elsewhere = placement.executor == "ray" or backend != "cpu"
    if (count or elsewhere) and not can_be_sent(loader):
        detail = f"a {type(loader).__name__} cannot be sent to worker processes: define it in a module, or use workers=0"
        raise TuttiError(ErrorCode.ARGUMENT_INVALID, detail)
    if placement.executor == "ray":
        from client_sim.ray_executor import RayExecutor

        return RayExecutor(setup, num_actors=None if count is None else max(1, count), address=placement.ray_address)
    if count is None:
        count = len(cores.available()) if can_be_sent(loader) else 0
    if backend != "cpu":
        return WorkerPool(setup, num_workers=1, backend=backend)
    return WorkerPool(setup, num_workers=count) if count else InMemoryExecutor(setup)


def model_options(model: ModelSpec) -> dict[str, Any]:
    """What the registry is told about a model besides its name.

    >>> model_options(ModelSpec(name="next_word_small"))
    {'vocabulary': 'public-en'}
    """
    if model.name.startswith("next_word"):
        return {"vocabulary": model.vocabulary}
    if model.name == "text_selection":
        return {"trainable": model.trainable} | ({"init_from": model.init_from} if model.init_from else {})
    return {}


def can_be_sent(loader: Loader) -> bool:
    """Whether another process can have this loader."""
    if type(loader).__module__ == "__main__":
        return False
    try:
        pickle.dumps(loader)
    except (pickle.PicklingError, TypeError, AttributeError):
        return False
    return True


class InMemoryExecutor:
    """Trains in this process, on one core.

    Its sums are those of any worker pool if nothing in this process used JAX on several cores before.
    """

    def __init__(self, setup: WorkSetup) -> None:
        with cores.pinned(cores.available()[0]):
            self._work = LocalWork(setup)

    def run(self, job: Job) -> Updates:
        """The updates of all devices of `job`."""
        total = np.zeros(encoder_of(plan.decode(job.plan)).encoded_dimension, np.int64)
        with cores.pinned(cores.available()[0]):
            return add_up(self._work, job, total)

    def begin_secure(self, job: Job, authority_seed: bytes) -> SecureCohort:
        """The devices of `job` as clients of a secure round, in this process."""
        begun: list[SecureWork] = []

        def exchange(orders: Mapping[int, Order]) -> dict[int, Answer]:
            with cores.pinned(cores.available()[0]):
                match orders[0]:
                    case BeginSecure():
                        begun.append(SecureWork(self._work, job, authority_seed=authority_seed))
                        return {0: begun[-1].advertise()}
                    case ContinueSecure(messages):
                        return {0: begun[-1].answer(messages)}
                    case _:
                        raise ValueError("this order belongs to a worker process")

        return SecureCohort(exchange, {int(device): 0 for device in job.devices}, job, authority_seed)

    def close(self) -> None:
        """Nothing to end."""


class WorkerPool:
    """`num_workers` processes, each pinned to a core before it starts; on another `backend` they are not pinned.

    A worker that dies is started again and its share of the job done anew; what it had summed is dropped, so that no device counts
    twice. Only sums leave a worker: its part of memory holds the total of its share.

    Raises:
      ValueError: if `num_workers` is below 1.
      TuttiError: if a worker cannot start.
    """

    def __init__(self, setup: WorkSetup, *, num_workers: int, backend: str = "cpu") -> None:
        if num_workers < 1:
            raise ValueError(f"num_workers must be at least 1, not {num_workers}")
        self._setup = setup
        self._pickled = pickle.dumps(setup)
        self._parameters: list[SharedArray] = []
        self._totals: list[SharedArray] = []
        self._queue = WorkQueue()
        self._under_way = False
        usable = cores.available()
        self._workers = [
            _Worker(usable[index % len(usable)], backend, queue=self._queue.descriptor) for index in range(num_workers)
        ]
        for worker in self._workers:
            worker.start(self._pickled)
        self._side_by_side = max([self._expect_ready(worker) for worker in self._workers])

    @property
    def process_ids(self) -> tuple[int, ...]:
        """The workers' processes, in order."""
        return tuple(worker.process_id for worker in self._workers)

    def run(self, job: Job) -> Updates:
        """The updates of all devices of `job`.

        Raises:
          TuttiError: with a worker's reason, or INTERNAL if a share of the job killed its worker `MOST_STARTS` times.
        """
        return self.begin(job)()

    def begin(self, job: Job) -> Callable[[], Updates]:
        """Lets the workers begin with a job; what is given waits for its updates, and raises as `run`.

        Raises:
          ValueError: if nobody has waited for the job before: its workers are still at it, and their sum would be taken for this one's.
        """
        encoder = self._broadcast(job)
        pieces = self._pieces(job)
        starts = np.cumsum([0, *map(len, pieces)]).tolist()
        devices = job.devices[np.concatenate([np.empty(0, np.int64), *pieces])]
        order = Train(job.plan, devices, tuple(starts), job.order_seed, job.noise_seed, job.at_s)
        self._under_way = True
        asked = self._ask(order, list(range(len(pieces))), range(len(self._workers))) if pieces else []

        def wait() -> Updates:
            try:
                answers = self._answers(order, asked, job.parameters) if pieces else {}
            except TuttiError:
                self._under_way = False  # all have answered, or ended
                raise
            self._under_way = False
            split = [
                np.concatenate([np.empty(0, np.int64), *(pieces[k] for k in answer.pieces)]) for answer in answers.values()
            ]
            return merged(job, split, list(answers.values()), self._total(answers, encoder.encoded_dimension))

        return wait

    def _total(self, answers: Mapping[int, Done], length: int) -> npt.NDArray[np.int64]:
        parts = [self._totals[index].array for index, answer in answers.items() if answer.count]
        if len(parts) < 2:
            return parts[0].copy() if parts else np.zeros(length, np.int64)
        total = np.add(parts[0], parts[1])
        for part in parts[2:]:
            total += part
        return total

    def begin_secure(self, job: Job, authority_seed: bytes) -> SecureCohort:
        """The devices of `job` as clients of a secure round, spread over the workers."""
        self._broadcast(job)
        owners = {int(job.devices[row]): index for index, share in enumerate(self._shares(job)) for row in share}
        return SecureCohort(self._exchange, owners, job, authority_seed)

    def _broadcast(self, job: Job) -> Encoder:
        if self._under_way:
            raise ValueError("the workers are still at a job that nobody waited for")
        encoder = encoder_of(plan.decode(job.plan))
        self._share_memory(encoder.dimension, encoder.encoded_dimension)
        for shared in self._parameters:
            shared.array[:] = job.parameters
        return encoder

    def _exchange(self, orders: Mapping[int, Order]) -> dict[int, Answer]:
        """One order and answer for each worker; one that died is started again, and its devices are gone."""
        sent = {index: self._workers[index].send(order) for index, order in orders.items()}
        answers: dict[int, Answer] = {}
        for index, alive in sent.items():
            answer = self._workers[index].receive() if alive else None
            if answer is None:
                self._workers[index].stop()
                self._workers[index].start(self._pickled)
                self._expect_ready(self._workers[index])
                self._attach(index)
            else:
                answers[index] = answer
        return answers

    def close(self) -> None:
        """Ends the processes and waits for them."""
        for worker in self._workers:
            worker.stop()
        if self._workers:
            self._queue.close()
        self._workers = []

    def _shares(self, job: Job) -> list[npt.NDArray[np.int64]]:
        return shares(self._setup, job, len(self._workers))

    def _pieces(self, job: Job) -> list[npt.NDArray[np.int64]]:
        """Where there are several workers, whoever is done takes the next few devices: as many as one program trains."""
        if len(self._workers) == 1 and self._side_by_side > 1:
            return [share for share in self._shares(job) if len(share)]
        return pieces(self._setup, job, most=min(MOST_PIECES, -(-len(job.devices) // self._side_by_side)))

    def _ask(self, order: Train, pieces: list[int], workers: Sequence[int]) -> list[int]:
        """Lets these workers take these pieces; those that heard it."""
        self._queue.fill(pieces)
        return [index for index in workers if self._workers[index].send(order)]

    def _answers(self, order: Train, asked: list[int], parameters: npt.NDArray[np.float32]) -> dict[int, Done]:
        """What each worker answered, by its index, with every piece in one answer; a sum that its worker did not finish is dropped."""
        answers: dict[int, Done] = {}
        left, idle, ended = list(range(len(order.starts) - 1)), list(range(len(self._workers))), ""
        for start in range(MOST_STARTS):
            answers |= self._heard(asked if start == 0 else self._ask(order, left, idle))
            left = sorted(set(left).difference(*(answer.pieces for answer in answers.values())))
            idle = [index for index in idle if index not in answers]
            for index in idle:
                ended = self._replace(index, parameters)
            if not left:
                return answers
        raise TuttiError(ErrorCode.INTERNAL, f"a worker died {MOST_STARTS} times at the same work ({ended})")

    def _heard(self, workers: Sequence[int]) -> dict[int, Done]:
        """The answers of those that lived.

        Raises:
          TuttiError: with the reason of the first that could not do its work.
        """
        answers = {index: self._workers[index].receive() for index in workers}
        for answer in answers.values():
            if isinstance(answer, Failed):
                raise TuttiError(answer.code, answer.detail)
        return {index: answer for index, answer in answers.items() if isinstance(answer, Done)}

    def _replace(self, index: int, parameters: npt.NDArray[np.float32]) -> str:
        """Starts a worker anew, with a sum of its own; how the old one ended."""
        worker = self._workers[index]
        worker.stop()
        ended = worker.how_it_ended()
        worker.start(self._pickled)
        self._expect_ready(worker)
        self._attach(index)
        self._parameters[index].array[:] = parameters
        return ended

    def _share_memory(self, dimension: int, encoded_dimension: int) -> None:
        shapes = (len(self._parameters[0].array), len(self._totals[0].array)) if self._totals else None
        if shapes != (dimension, encoded_dimension):
            self._parameters = [SharedArray.create((dimension,), np.float32)] * len(self._workers)
            self._totals = [SharedArray.create((encoded_dimension,), np.int64) for _ in self._workers]
            for index in range(len(self._workers)):
                self._tell(index)
            for shared in (self._parameters[0], *self._totals):
                shared.forget()

    def _attach(self, index: int) -> None:
        """Memory for one worker that was started again: the names of the old are gone."""
        self._parameters[index] = SharedArray.create(self._parameters[index].array.shape, np.float32)
        self._totals[index] = SharedArray.create(self._totals[index].array.shape, np.int64)
        self._tell(index)
        self._parameters[index].forget()
        self._totals[index].forget()

    def _tell(self, index: int) -> None:
        parameters, total, worker = self._parameters[index], self._totals[index], self._workers[index]
        order = Attach(str(parameters.path), str(total.path), len(parameters.array), len(total.array))
        if not worker.send(order) or worker.receive() is None:
            raise TuttiError(ErrorCode.INTERNAL, f"a worker died before it had work ({worker.how_it_ended()})")

    def _expect_ready(self, worker: "_Worker") -> int:
        """How many devices it trains side by side."""
        answer = worker.receive()
        if isinstance(answer, Failed):
            raise TuttiError(answer.code, answer.detail)
        if not isinstance(answer, Ready):
            raise TuttiError(ErrorCode.INTERNAL, f"a worker did not start ({worker.how_it_ended()})")
        return answer.side_by_side


class _Worker:
    """One process and the socket to it. `send` and `receive` say by their result whether it lives."""

    def __init__(self, core: int, backend: str, *, queue: int) -> None:
        self._core, self._backend, self._queue = core, backend, queue
        self._process: subprocess.Popen[bytes] | None = None
        self._connection: Connection[Any, Any] | None = None

    @property
    def process_id(self) -> int:
        return 0 if self._process is None else self._process.pid

    def start(self, setup: bytes) -> None:
        ours, theirs = socket.socketpair()
        environment = os.environ | child_environment.variables(PLATFORMS[self._backend])
        with cores.pinned(self._core) if self._backend == "cpu" else nullcontext():
            self._process = subprocess.Popen(
                [sys.executable, "-m", "client_sim.worker_process", str(theirs.fileno()), str(self._queue)],
                pass_fds=(theirs.fileno(), self._queue),
                env=environment,
                stdin=subprocess.DEVNULL,
            )
        theirs.close()
        self._connection = Connection(ours.detach())
        self._connection.send_bytes(setup)

    def send(self, order: Order) -> bool:
        if self._connection is None:
            return False
        try:
            self._connection.send(order)
        except OSError:
            return False
        return True

    def receive(self) -> Answer | None:
        if self._connection is None:
            return None
        try:
            return self._connection.recv()
        except (EOFError, OSError):
            return None

    def stop(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        if self._process is not None:
            try:
                self._process.wait(timeout=1.0)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()

    def how_it_ended(self) -> str:
        status = None if self._process is None else self._process.poll()
        return f"exit status {status}"
