"""`tutti serve` and `tutti devices` as a user starts them: processes of their own, over TLS, with a restart in between."""

import datetime as dt
import ipaddress
import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from contract.errors import ErrorCode, TuttiError
from server.store.store import Store
from server.store.values import RunState
from tutti import device_authority, results
from tutti.serving import ServeOptions

TASK: dict[str, Any] = {
    "name": "served",
    "population": "phones",
    "model": {"name": "mlp"},
    "cohort": {"report_goal": 6, "over_selection": 1.5, "minimum_reports": 4},
    "training": {"batch_size": 10, "max_examples": 10, "learning_rate": 0.1},
    "privacy": {"mechanism": "tree", "clip_norm": 0.5, "noise_multiplier": 2.0, "delta": 1e-5},
    "rounds": 4,
}
PATIENCE_S = 400.0
TUTTI = (sys.executable, "-c", "from tutti.cli import main; main()")


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def identity(folder: Path) -> tuple[Path, Path]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    start = dt.datetime(2020, 1, 1, tzinfo=dt.UTC)
    names = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    signed = (
        x509.CertificateBuilder(name, name, key.public_key(), 1, start, start + dt.timedelta(days=36_500))
        .add_extension(names, critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    (folder / "cert.pem").write_bytes(signed.public_bytes(pem))
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (folder / "key.pem").write_bytes(private)
    return folder / "cert.pem", folder / "key.pem"


def environment() -> dict[str, str]:
    return os.environ | {"PYTHONPATH": os.pathsep.join(path or str(Path.cwd()) for path in sys.path)}


@contextmanager
def process(printed: Path, *words: object, errors: bool = False) -> Iterator[subprocess.Popen[bytes]]:
    """A command that prints into a file, its `errors` too if wanted, asked to stop at the end, and made to if it does not."""
    with printed.open("wb") as file:
        started = subprocess.Popen(
            [*TUTTI, *map(str, words)], env=environment(), stdout=file, stderr=subprocess.STDOUT if errors else None
        )
    try:
        yield started
    finally:
        if started.poll() is None:
            started.send_signal(signal.SIGTERM)
        try:
            started.wait(60)
        finally:
            started.kill()
            started.wait()


def committed(folder: Path) -> int:
    store = Store.open(str(folder))
    try:
        return sum(row.state == "committed" for run in store.runs() for row in store.rounds(run.id))
    finally:
        store.close()


def wait_for(rounds: int, folder: Path, *processes: subprocess.Popen[bytes]) -> None:
    patience = time.perf_counter() + PATIENCE_S
    while committed(folder) < rounds:
        assert all(one.poll() is None for one in processes), "a process ended by itself"
        assert time.perf_counter() < patience, f"not {rounds} rounds in {PATIENCE_S:g} s"
        time.sleep(0.5)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_server_that_restarts_goes_on_with_its_devices(tmp_path: Path) -> None:
    cert, key = identity(tmp_path)
    store, port, rest_port = tmp_path / "store", free_port(), free_port()
    (tmp_path / "served.yaml").write_text(yaml.safe_dump(TASK))
    serve = (
        "serve", "--store", store, "--port", port, "--rest-port", rest_port, "--tls-cert", cert, "--tls-key", key, "--no-runner",
    )  # fmt: skip
    devices = (
        "devices", "--server", f"127.0.0.1:{port}", "--population", "phones", "--count", 40, "--tls-ca", cert, "--workers", 1,
        "--idle-s", 0.1, "--records", tmp_path / "devices.db", "--json",
    )  # fmt: skip
    Store.open(str(store)).close()
    with process(tmp_path / "sessions.json", *devices) as fleet:
        with process(tmp_path / "first.log", *serve, tmp_path / "served.yaml") as server:
            wait_for(1, store, fleet, server)
            health = httpx.get(f"https://127.0.0.1:{rest_port}/healthz", verify=ssl.create_default_context(cafile=cert))
            assert health.status_code == 200
        assert server.returncode == 0
        with process(tmp_path / "second.log", *serve) as server:
            wait_for(TASK["rounds"], store, fleet, server)
        assert server.returncode == 0
    sessions = json.loads((tmp_path / "sessions.json").read_text())["sessions"]
    assert sessions["-v[]+^"] >= TASK["rounds"] * TASK["cohort"]["minimum_reports"]
    opened = Store.open(str(store))
    (run,) = opened.runs()
    assert run.state is RunState.COMPLETED
    newest = opened.rounds(run.id)[-1].facts  # of a run that two servers played
    assert newest["epsilon"] == results.run_line(opened, run)["epsilon"]
    opened.close()
    assert not list((store / "keys").glob("*.key"))


SECURE: dict[str, Any] = {
    **TASK,
    "name": "served-secure",
    "cohort": {"report_goal": 16, "over_selection": 1.25, "minimum_reports": 16},
    "privacy": {"mechanism": "ddg", "clip_norm": 0.5, "noise_multiplier": 1.0, "delta": 1e-5},
    "aggregation": {"secure": True, "minimum_survivors": 14},
    "deadlines": {"reporting_s": 24},  # a roster that stays empty is waited for half as long
    "rounds": 2,
}


def wait_until_said(text: str, printed: Path, server: subprocess.Popen[bytes]) -> None:
    patience = time.perf_counter() + PATIENCE_S
    while text not in printed.read_text():
        assert server.poll() is None, printed.read_text()
        assert time.perf_counter() < patience, printed.read_text()
        time.sleep(0.2)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_server_takes_only_devices_of_the_authority_that_it_trusts(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    store, port, rest_port = tmp_path / "store", free_port(), free_port()
    (tmp_path / "secure.yaml").write_text(yaml.safe_dump(SECURE))
    for name in ("trusted", "another"):
        device_authority.create(tmp_path / f"{name}.key")
    serve = (
        "serve", tmp_path / "secure.yaml", "--store", store, "--port", port, "--rest-port", rest_port, "--no-runner",
        "--device-authority", tmp_path / "trusted.pub",
    )  # fmt: skip
    devices = (
        "devices", "--server", f"127.0.0.1:{port}", "--population", "phones", "--workers", 1, "--idle-s", 0.1, "--no-dropout",
    )  # fmt: skip
    Store.open(str(store)).close()
    another, none = tmp_path / "another.log", tmp_path / "none.log"
    few = (*devices, "--count", 10)  # half a cohort each, so that both have come before one is refused
    with process(tmp_path / "serve.log", *serve, errors=True) as server:
        wait_until_said("hosted", tmp_path / "serve.log", server)
        with (
            process(another, *few, "--authority", tmp_path / "another.key", errors=True) as one,
            process(none, *few, errors=True) as other,
        ):
            for fleet in (one, other):
                assert fleet.wait(PATIENCE_S) == ErrorCode.ARGUMENT_INVALID.value.exit_code
        assert "another device authority" in another.read_text()
        assert "give them --authority" in none.read_text()
        with process(tmp_path / "devices.log", *devices, "--count", 40, "--authority", tmp_path / "trusted.key") as fleet:
            wait_for(SECURE["rounds"], store, fleet, server)
    assert server.returncode == 0
    opened = Store.open(str(store))
    (run,) = opened.runs()
    assert run.state is RunState.COMPLETED
    kinds = [json.loads(entry.body)["kind"] for entry in opened.entries(run=run.id)]
    opened.close()
    assert kinds.count("round-charged") == kinds.count("secagg-transcript") == SECURE["rounds"]
    assert len(list((store / "transcripts").rglob("*.json*"))) == SECURE["rounds"]
    assert device_authority.public_of(tmp_path / "trusted.pub").hex() in (tmp_path / "serve.log").read_text()


def test_the_world_is_not_served_in_plain_text() -> None:
    with pytest.raises(TuttiError, match="--tls-cert"):
        ServeOptions(host="0.0.0.0")
    assert ServeOptions(host="0.0.0.0", plaintext=True).plaintext
    assert ServeOptions(host="::1").host == "::1"
