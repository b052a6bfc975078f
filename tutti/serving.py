"""`tutti serve`: gRPC for devices, REST and pages for people, and a runner for simulated runs, in one process and its child."""

import asyncio
import contextlib
import ipaddress
import os
import signal
import socket
import ssl
import subprocess
import sys
from collections.abc import Generator, Iterable
from dataclasses import dataclass
from pathlib import Path

import structlog
import uvicorn

from contract.errors import ErrorCode, TuttiError
from contract.messages import Aborted, Accepted, EligibilityRequest, Rejected, Reply, Request, SubmitResult
from contract.task import TaskSpec
from server.observability import Metrics
from server.rest import create_app
from server.rest.connections import PromptConnection
from server.rpc.hosting import Host
from server.rpc.service import DEFAULT_PORT, Address, RpcServer
from tutti import device_runs, stores
from tutti.launching import SimulatedRuns

REST_PORT = 7311
RUNNER_STOP_S = 30.0
_LOG = structlog.get_logger("tutti.serve")


@dataclass(frozen=True, slots=True, kw_only=True)
class ServeOptions:
    """How to serve.

    Args:
      host: the address to listen on, for both faces.
      plaintext: whether an address that others can reach may be served without TLS (a proxy speaks it).
      data_directory: the files that tasks asked for over REST may name.
      runner: whether a runner plays the simulated runs that are asked for over REST.
      device_authority: public key of who certifies the devices of secure tasks, 32 bytes; None takes no such task.
    """

    store: str = ".tutti"
    host: str = "127.0.0.1"
    port: int = DEFAULT_PORT
    rest_port: int = REST_PORT
    certificate: Path | None = None
    key: Path | None = None
    plaintext: bool = False
    data_directory: Path | None = None
    runner: bool = True
    device_authority: bytes | None = None

    def __post_init__(self) -> None:
        """Refuses to speak in the clear to the world unless told to."""
        if self.certificate is None and not (self.plaintext or is_loopback(self.host)):
            detail = f"{self.host} can be reached by others: give --tls-cert and --tls-key, or --plaintext behind a proxy"
            raise TuttiError(ErrorCode.ARGUMENT_INVALID, detail)
        if (self.certificate is None) != (self.key is None):
            raise TuttiError(ErrorCode.ARGUMENT_INVALID, "TLS needs both --tls-cert and --tls-key")
        if self.certificate is not None:
            _require_pair(self.certificate, self.key)


def _require_pair(certificate: Path, key: Path | None) -> None:
    try:
        ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(certificate, key)
    except ssl.SSLError as error:
        detail = f"{certificate} and {key} are no PEM certificate with its key: {error.reason or error}"
        raise TuttiError(ErrorCode.ARGUMENT_INVALID, detail) from None
    except OSError as error:
        raise TuttiError(ErrorCode.ARGUMENT_INVALID, f"{certificate} or {key} cannot be read: {error.strerror}") from None


async def serve(options: ServeOptions, specs: Iterable[TaskSpec]) -> None:
    """Serves until SIGINT or SIGTERM; registers a run that waits for devices for each of `specs`.

    Raises:
      TuttiError: if an address cannot be had, or a task cannot be run.
    """
    wanted, authority = list(specs), options.device_authority
    for spec in wanted:
        device_runs.refuse(spec, authority=authority)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    with stores.opened(options.store) as (database, keys), _listening(options) as listener:
        for spec in wanted:
            run = device_runs.register(database, keys, spec, authority=authority)
            _LOG.info("registered", run=run.id[:12], task=spec.name, population=spec.population)
        metrics = Metrics()
        host = Host(_Counting(metrics))
        rpc = RpcServer(host, Address(host=options.host, port=options.port, certificate=options.certificate, key=options.key))
        app = create_app(
            database,
            signer=stores.ledger_key(options.store).signer(),
            launcher=SimulatedRuns(database, keys),
            open_access=is_loopback(options.host),
            data_directory=options.data_directory,
            metrics=metrics,
        )
        rest = _RestServer(
            uvicorn.Config(
                app,
                http=PromptConnection,
                log_config=None,
                access_log=False,
                lifespan="off",
                ssl_certfile=options.certificate,
                ssl_keyfile=options.key,
            )
        )
        await rpc.start()
        transcripts = stores.transcripts(options.store)
        keeper = device_runs.DeviceRuns(database, keys, host, authority=authority, transcripts=transcripts)
        trusted = {} if authority is None else {"device_authority": authority.hex()}
        rest_port = listener.getsockname()[1]
        _LOG.info("serving", grpc=f"{options.host}:{rpc.port}", rest=f"{options.host}:{rest_port}", **trusted)
        with _runner(options):
            async with asyncio.TaskGroup() as tasks:
                serving = tasks.create_task(rest.serve(sockets=[listener]))
                keeping = tasks.create_task(keeper.keep())
                stopping = tasks.create_task(stop.wait())
                await asyncio.wait((serving, keeping, stopping), return_when=asyncio.FIRST_COMPLETED)
                stop.set()
                _LOG.info("stopping")
                keeper.stop()
                rest.should_exit = True
            await keeper.close()
            await rpc.close()


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach `host`.

    >>> is_loopback("127.0.0.1"), is_loopback("localhost"), is_loopback("0.0.0.0")
    (True, True, False)
    """
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class _RestServer(uvicorn.Server):
    """Leaves the signals to `serve`, which stops both faces."""

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None]:
        yield


class _Counting:
    """Counts check-ins and uploads by their outcome."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def __call__(self, request: Request, reply: Reply) -> None:
        if isinstance(request, EligibilityRequest):
            outcome = reply.reason.value if isinstance(reply, Rejected) else "invited"
            self._metrics.check_ins.labels(outcome).inc()
        elif isinstance(request, SubmitResult) and isinstance(reply, Accepted | Aborted):
            self._metrics.uploads.labels("accepted" if isinstance(reply, Accepted) else reply.reason.value).inc()


@contextlib.contextmanager
def _listening(options: ServeOptions) -> Generator[socket.socket]:
    family = socket.AF_INET6 if ":" in options.host else socket.AF_INET
    try:
        listener = socket.create_server((options.host, options.rest_port), family=family, reuse_port=False)
    except OSError as error:
        detail = f"{options.host}:{options.rest_port} cannot be listened on: {error.strerror}"
        raise TuttiError(ErrorCode.UNAVAILABLE, detail) from None
    with listener:
        yield listener


@contextlib.contextmanager
def _runner(options: ServeOptions) -> Generator[None]:
    """The process that plays simulated runs; it gives its job back when the server stops."""
    if not options.runner:
        yield
        return
    # The store may be a URL with a password, and everybody on a machine can read arguments.
    environment = {**os.environ, "TUTTI_STORE": options.store}
    process = subprocess.Popen([sys.executable, "-m", "tutti.runner"], start_new_session=True, env=environment)
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(RUNNER_STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
