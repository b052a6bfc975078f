"""The gRPC face: statuses, health, reflection, TLS, timers, and a shutdown that leaves nothing behind."""

import asyncio
import contextlib
import datetime as dt
import gc
import ipaddress
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from google.rpc import error_details_pb2, status_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from client_sim.transports.grpc import GrpcTransport
from client_sim.transports.transport import LinkLostError
from contract.clock import SystemClock
from contract.errors import ErrorCode, TuttiError
from contract.ids import AggregationId, Digest, RunId, SessionId
from contract.messages import (
    MAX_CHUNK_BYTES,
    Aborted,
    AbortReason,
    Accepted,
    Acknowledged,
    AssignmentRequest,
    EligibilityRequest,
    EligibilitySpec,
    Rejected,
    RejectReason,
    Reply,
    Request,
    Resource,
    ResourceChunk,
    ResourceRequest,
    ResultStatus,
    RetryWindow,
    SubmitResult,
    TaskAssignment,
    TaskResult,
    UploadChunk,
    UploadProgress,
    UploadRequest,
    Wait,
)
from protos.tutti.v1 import aggregations_pb2
from server.rpc import hosting, servicers
from server.rpc.hosting import Host, HostedRun
from server.rpc.service import Address, RpcServer

RUN = RunId("ab" * 32)
SESSION = SessionId(f"{RUN[:16]}.0.x")
RETRY = RetryWindow(1.5, 2.25)


class ScriptedTable:
    """Answers as the test says."""

    def __init__(self, answer: Callable[[Request], Reply], due_s: float | None = None) -> None:
        self.run, self.over, self._answer, self._due_s = RUN, False, answer, due_s
        self.ticks = 0
        self.closed = False
        self.stage = 0
        self.seen: list[Request] = []

    def handle(self, request: Request, now_s: float) -> Reply:
        self.seen.append(request)
        return self._answer(request)

    def tick(self, now_s: float) -> Mapping[str, Any] | None:
        self.ticks += 1
        self._due_s = None
        self.over = True
        return {"round": 0}

    def due_s(self) -> float | None:
        return self._due_s

    def close(self) -> None:
        self.closed = True


@asynccontextmanager
async def serving(table: ScriptedTable) -> AsyncIterator[tuple[GrpcTransport, HostedRun, int]]:
    host = Host()
    run = HostedRun(table=table, population="phones", clock=SystemClock(), on_round=lambda facts: True)  # type: ignore[arg-type]
    host.add(run)
    server = RpcServer(host, Address(port=0))
    await server.start()
    transport = GrpcTransport(f"127.0.0.1:{server.port}")
    try:
        yield transport, run, server.port
    finally:
        await transport.close()
        await server.close(grace_s=0.0)


SPEC = EligibilitySpec(SESSION, "task", RUN, 7, 3, 4, 86_400.0, 1)
ASSIGNMENT = TaskAssignment(SESSION, AggregationId("a/0"), b"token", b"{}", Resource("model", 8, Digest("cd" * 32)))


@pytest.mark.parametrize(
    ("request_", "reply"),
    [
        (EligibilityRequest("phones", "1"), SPEC),
        (EligibilityRequest("phones", "1"), EligibilitySpec(SESSION, "task", RUN, 0, 0, None, 0.0, 1)),
        *[(EligibilityRequest("phones", "1"), Rejected(reason, RETRY)) for reason in RejectReason],
        (AssignmentRequest(SESSION, eligible=True), ASSIGNMENT),
        (AssignmentRequest(SESSION, eligible=True), Wait(0.25)),
        (AssignmentRequest(SESSION, eligible=False), Rejected(RejectReason.NOT_ELIGIBLE, RETRY)),
        (UploadRequest(SESSION, b"token", 8, Digest("ef" * 32)), UploadProgress(4)),
        (UploadRequest(SESSION, b"token", 8, Digest("ef" * 32)), Wait(0.5)),
        (UploadChunk(SESSION, 4, b"data"), UploadProgress(8)),
        (SubmitResult(SESSION), Accepted()),
        *[(SubmitResult(SESSION), Aborted(reason, RETRY)) for reason in AbortReason],
        *[(TaskResult(SESSION, status), Acknowledged()) for status in ResultStatus],
    ],
    ids=str,
)
async def test_messages_and_answers_arrive_as_they_were_sent(
    request_: Request, reply: Reply, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hosting, "HOLD_S", 0.0)
    table = ScriptedTable(lambda request: reply)
    async with serving(table) as (transport, _, _port):
        assert await transport.send(request_) == reply
    assert table.seen == [request_]


async def test_a_resource_arrives_in_chunks_from_any_offset() -> None:
    model = bytes(range(256)) * (3 * MAX_CHUNK_BYTES // 256 - 1)

    def answer(request: Request) -> Reply:
        assert isinstance(request, ResourceRequest)
        end = request.offset + MAX_CHUNK_BYTES
        return ResourceChunk(request.offset, model[request.offset : end], last=end >= len(model))

    async with serving(ScriptedTable(answer)) as (transport, _, _port):
        chunks = [chunk async for chunk in transport.fetch(ResourceRequest(SESSION, "model", 1000))]
    assert b"".join(chunk.data for chunk in chunks if isinstance(chunk, ResourceChunk)) == model[1000:]
    assert max(len(chunk.data) for chunk in chunks if isinstance(chunk, ResourceChunk)) <= MAX_CHUNK_BYTES


async def test_chunks_stop_where_the_server_refuses_one() -> None:
    def answer(request: Request) -> Reply:
        assert isinstance(request, UploadChunk)
        return UploadProgress(1) if request.offset == 0 else Aborted(AbortReason.GOAL_REACHED, RETRY)

    table = ScriptedTable(answer)
    async with serving(table) as (transport, _, _port):
        reply = await transport.send_chunks([UploadChunk(SESSION, offset, b"x") for offset in range(3)])
    assert reply == Aborted(AbortReason.GOAL_REACHED, RETRY)
    assert len(table.seen) == 2


async def test_a_stream_carries_one_session_only() -> None:
    table = ScriptedTable(lambda request: UploadProgress(1))
    async with serving(table) as (transport, _, _port):
        with pytest.raises(LinkLostError, match="INVALID_ARGUMENT"):
            await transport.send_chunks([UploadChunk(SESSION, 0, b"x"), UploadChunk(SessionId("other"), 0, b"x")])
    assert len(table.seen) == 1


async def test_only_so_many_streams_are_held_open() -> None:
    chunk = aggregations_pb2.UploadChunk(session_id=SESSION, data=b"x").SerializeToString()
    async with serving(ScriptedTable(lambda request: UploadProgress(1))) as (transport, _, port):
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            method = channel.stream_unary("/tutti.v1.Aggregations/UploadAggregationData")
            silent = [method() for _ in range(servicers.MOST_STREAMS)]
            for call in silent:
                await call.write(chunk)
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await method(iter([chunk]))
            assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert await first_answer(transport) == UploadProgress(1)


async def first_answer(transport: GrpcTransport) -> Reply | None:
    """The answer to a chunk, once the server has noticed that streams are gone."""
    for _ in range(200):
        with contextlib.suppress(LinkLostError):
            return await transport.send(UploadChunk(SESSION, 0, b"x"))
        await asyncio.sleep(0.02)
    return None


async def test_an_aborted_contribution_carries_error_info() -> None:
    reply = Aborted(AbortReason.DEADLINE_PASSED, RETRY)
    async with (
        serving(ScriptedTable(lambda request: reply)) as (_, _run, port),
        grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel,
    ):
        call = channel.unary_unary("/tutti.v1.Aggregations/SubmitAggregationResult")
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call(b"\x0a" + bytes([len(SESSION)]) + SESSION.encode())
    assert caught.value.code() is grpc.StatusCode.ABORTED
    details = dict(caught.value.trailing_metadata() or ())["grpc-status-details-bin"]
    assert isinstance(details, bytes)
    info = error_details_pb2.ErrorInfo()
    assert status_pb2.Status.FromString(details).details[0].Unpack(info)
    assert (info.reason, info.domain, info.metadata["abort_reason"]) == ("ABORTED", "tutti", "deadline-passed")


async def test_a_bug_of_ours_tells_a_device_nothing(caplog: pytest.LogCaptureFixture) -> None:
    def answer(request: Request) -> Reply:
        raise RuntimeError("the noise key is 1234")

    async with serving(ScriptedTable(answer)) as (transport, run, _port):
        with pytest.raises(LinkLostError) as caught:
            await transport.send(SubmitResult(SESSION))
        assert not run.ended.done()
    assert "INTERNAL" in str(caught.value)
    assert "1234" not in str(caught.value)
    assert "could not be answered" in caplog.text


async def test_a_run_that_cannot_go_on_ends_with_its_reason() -> None:
    def answer(request: Request) -> Reply:
        raise TuttiError(ErrorCode.TOO_FEW_DEVICES, "20 rounds in a row")

    async with serving(ScriptedTable(answer)) as (transport, run, _port):
        with pytest.raises(LinkLostError, match="UNAVAILABLE"):
            await transport.send(EligibilityRequest("phones", "1"))
        with pytest.raises(TuttiError, match="20 rounds"):
            await run.ended
        assert isinstance(await transport.send(EligibilityRequest("phones", "1")), Rejected)


async def test_a_deadline_is_kept_without_any_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hosting, "HOLD_S", 0.0)
    table = ScriptedTable(lambda request: Wait(1.0), due_s=0.05)
    async with serving(table) as (transport, run, _port):
        await transport.send(AssignmentRequest(SESSION, eligible=True))
        await asyncio.wait_for(run.ended, 5.0)
    assert table.ticks == 1


async def test_what_is_due_is_done_at_once_and_on_the_run_s_thread() -> None:
    table = ScriptedTable(lambda request: Accepted(), due_s=-np.inf)
    async with serving(table) as (transport, run, _port):
        await transport.send(SubmitResult(SESSION))
        await asyncio.wait_for(run.ended, 5.0)
    assert table.ticks == 1


async def test_unknown_sessions_and_populations_are_turned_away() -> None:
    async with serving(ScriptedTable(lambda request: Accepted())) as (transport, _, _port):
        rejected = await transport.send(EligibilityRequest("tablets", "1"))
        aborted = await transport.send(SubmitResult(SessionId("nobody")))
        assert await transport.send(TaskResult(SessionId("nobody"), ResultStatus.CANCELED)) == Acknowledged()
    assert isinstance(rejected, Rejected)
    assert rejected.reason is RejectReason.NO_TASK
    assert isinstance(aborted, Aborted)
    assert aborted.reason is AbortReason.UNKNOWN_SESSION


async def test_health_and_reflection_name_every_service() -> None:
    async with (
        serving(ScriptedTable(lambda request: Accepted())) as (_, _run, port),
        grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel,
    ):
        health = health_pb2_grpc.HealthStub(channel)
        names = [f"tutti.v1.{name}" for name in ("Aggregations", "EligibilityEvalTasks", "Resources", "TaskAssignments")]
        for name in ("", *names):
            answer = await health.Check(health_pb2.HealthCheckRequest(service=name))
            assert answer.status == health_pb2.HealthCheckResponse.SERVING
        reflection = reflection_pb2_grpc.ServerReflectionStub(channel)
        asked = reflection_pb2.ServerReflectionRequest(list_services="")
        (listed,) = [answer async for answer in reflection.ServerReflectionInfo(iter([asked]))]
    found = {service.name for service in listed.list_services_response.service}
    assert found >= {*names, "grpc.health.v1.Health"}


async def test_a_cancelled_call_leaves_no_task_behind() -> None:
    table = ScriptedTable(lambda request: UploadProgress(1))
    async with serving(table) as (transport, _, port):
        await transport.send(UploadChunk(SESSION, 0, b"x"))
        before = len(asyncio.all_tasks())
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            for _ in range(20):
                call = channel.stream_unary("/tutti.v1.Aggregations/UploadAggregationData")()
                await call.write(b"\x0a\x01s\x1a\x01x")
                call.cancel()
        for _ in range(100):
            await asyncio.sleep(0.02)
            gc.collect()
            if len(asyncio.all_tasks()) <= before:
                break
        assert len(asyncio.all_tasks()) <= before


async def test_shutting_down_closes_runs_and_the_port() -> None:
    table = ScriptedTable(lambda request: Accepted())
    async with serving(table) as (_, run, port):
        pass
    assert table.closed
    assert run.ended.done()
    with pytest.raises(OSError, match=r"refused|Connect"):
        await asyncio.open_connection("127.0.0.1", port)


async def test_a_taken_port_is_named() -> None:
    async with serving(ScriptedTable(lambda request: Accepted())) as (_, _run, port):
        with pytest.raises(TuttiError, match=str(port)):
            await RpcServer(Host(), Address(port=port)).start()


def certificate(folder: Path) -> tuple[Path, Path]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    start = dt.datetime(2020, 1, 1, tzinfo=dt.UTC)
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(start)
        .not_valid_after(start + dt.timedelta(days=36_500))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    (folder / "cert.pem").write_bytes(signed.public_bytes(pem))
    (folder / "key.pem").write_bytes(key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))
    return folder / "cert.pem", folder / "key.pem"


async def test_tls_is_spoken_and_plain_text_refused(tmp_path: Path) -> None:
    cert, key = certificate(tmp_path)
    server = RpcServer(Host(), Address(port=0, certificate=cert, key=key))
    await server.start()
    trusting = GrpcTransport(f"127.0.0.1:{server.port}", root_certificate=cert)
    plain = GrpcTransport(f"127.0.0.1:{server.port}")
    assert isinstance(await trusting.send(EligibilityRequest("phones", "1")), Rejected)
    with pytest.raises(LinkLostError):
        await plain.send(EligibilityRequest("phones", "1"))
    for transport in (trusting, plain):
        await transport.close()
    await server.close(grace_s=0.0)


async def test_half_of_a_tls_identity_is_refused(tmp_path: Path) -> None:
    cert, key = certificate(tmp_path)
    for address in (Address(port=0, certificate=cert), Address(port=0, key=key)):
        with pytest.raises(TuttiError, match="both"):
            await RpcServer(Host(), address).start()
    with pytest.raises(TuttiError, match="cannot be read"):
        await RpcServer(Host(), Address(port=0, certificate=tmp_path / "none", key=key)).start()
