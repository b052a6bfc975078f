"""A worker: one process on one core, started by `client_sim.workers` as `python -m client_sim.worker_process SOCKET QUEUE`,
two descriptors.

Its core was chosen before it started, so nothing here can be imported too early.
"""

import gc
import pickle
import signal
import sys
from collections.abc import Iterator, Mapping
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np

from client_sim.executor import Job
from client_sim.local_work import LocalWork, WorkSetup, add_up
from client_sim.secure_work import SecureWork
from client_sim.shared_arrays import SharedArray
from client_sim.work_queue import taken
from client_sim.worker_messages import Answer, Attach, BeginSecure, ContinueSecure, Done, Failed, Order, Ready, Train
from contract.errors import ErrorCode, TuttiError
from secagg.messages import ServerMessage


def serve(connection: Connection, queue: int) -> None:
    """Obeys until the pool goes away; `queue` is where the pieces of a round are taken from."""
    setup: WorkSetup = pickle.loads(connection.recv_bytes())  # noqa: S301 - from the process that started this one
    try:
        work = LocalWork(setup)
    except (ValueError, TuttiError) as error:
        connection.send(_failed(error))
        return
    gc.freeze()  # what imports left is never garbage: without this every full collection looks at all of it
    connection.send(Ready(work.side_by_side))
    parameters = total = secure = None
    while True:
        order: Order = connection.recv()
        match order:
            case Attach(parameters_path, total_path, dimension, encoded_dimension):
                parameters = SharedArray.attach(Path(parameters_path), (dimension,), np.float32)
                total = SharedArray.attach(Path(total_path), (encoded_dimension,), np.int64)
                connection.send(Ready())
            case Train():
                if parameters is None or total is None:
                    raise ValueError("Train before Attach")
                connection.send(_train(work, order, parameters, total, queue))
            case BeginSecure():
                if parameters is None:
                    raise ValueError("BeginSecure before Attach")
                job = _job(order, parameters)
                secure = SecureWork(work, job, authority_seed=order.authority_seed)
                connection.send(secure.advertise())
            case ContinueSecure(messages):
                if secure is None:
                    raise ValueError("ContinueSecure before BeginSecure")
                connection.send(_continue(secure, messages))


def _job(order: Train | BeginSecure, parameters: SharedArray) -> Job:
    return Job(
        plan=order.plan,
        parameters=parameters.array,
        devices=order.devices,
        order_seed=order.order_seed,
        noise_seed=order.noise_seed,
        at_s=order.at_s,
        groups=order.groups if isinstance(order, BeginSecure) else None,
    )


def _continue(secure: SecureWork, messages: Mapping[int, ServerMessage]) -> Answer:
    try:
        return secure.answer(messages)
    except (ValueError, TuttiError) as error:
        return _failed(error)


def _train(work: LocalWork, order: Train, parameters: SharedArray, total: SharedArray, queue: int) -> Answer:
    job, pieces = _job(order, parameters), list[int]()

    def rows() -> Iterator[range]:
        for piece in taken(queue):
            pieces.append(piece)
            yield range(order.starts[piece], order.starts[piece + 1])

    try:
        updates = add_up(work, job, total.array, rows())
    except (ValueError, TuttiError) as error:
        return _failed(error)
    return Done(updates.count, updates.metrics, updates.norms_squared, tuple(pieces))


def _failed(error: ValueError | TuttiError) -> Failed:
    if isinstance(error, TuttiError):
        return Failed(error.code, error.detail)
    return Failed(ErrorCode.INTERNAL, f"a worker refused its work: {error}")


def main() -> None:
    """Connects to the socket and the queue whose descriptors are the arguments."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the pool decides when to stop
    try:
        serve(Connection(int(sys.argv[1])), int(sys.argv[2]))
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return  # the pool is gone


if __name__ == "__main__":
    main()
