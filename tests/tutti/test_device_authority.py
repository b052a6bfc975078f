"""The key files of a device authority: who may read which half, and what is said of a wrong one."""

import json
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from contract import task
from contract.errors import ErrorCode, TuttiError
from secagg import DeviceAuthority
from secagg.authority import is_certified
from tutti import cli, device_authority, device_runs

SECURE = task.parse_mapping(
    {
        "population": "p",
        "model": {"name": "mlp"},
        "cohort": {"report_goal": 16},
        "privacy": {"mechanism": "ddg", "clip_norm": 0.5, "noise_multiplier": 1.0, "delta": 1e-5},
        "aggregation": {"secure": True},
        "rounds": 2,
    }
)


def refusal(path: Path, *, public: bool) -> str:
    with pytest.raises(TuttiError) as caught:
        _ = device_authority.public_of(path) if public else device_authority.secret_of(path)
    assert caught.value.code is ErrorCode.ARGUMENT_INVALID
    return caught.value.detail


@pytest.fixture
def key(tmp_path: Path) -> Path:
    path = tmp_path / "keys" / "fleet.key"
    device_authority.create(path)
    return path


def test_the_public_half_checks_what_the_secret_half_certifies(key: Path) -> None:
    authority = DeviceAuthority(device_authority.secret_of(key))
    public = device_authority.public_of(key.with_suffix(".pub"))
    assert authority.public == public
    identity = authority.enrol(3, lambda n: b"7" * n)
    assert is_certified(identity.certificate, public, 3)


def test_the_secret_half_is_its_owners_alone(key: Path) -> None:
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    key.chmod(0o640)
    assert "chmod 600" in refusal(key, public=False)


def test_a_key_is_never_replaced(key: Path) -> None:
    before = key.read_bytes()
    for taken in (key, key.with_suffix(".other")):  # the other's public half would be the same file
        with pytest.raises(TuttiError) as caught:
            device_authority.create(taken)
        assert caught.value.code is ErrorCode.CONFLICT
    assert key.read_bytes() == before
    assert not key.with_suffix(".other").exists()
    with pytest.raises(TuttiError, match="public half"):
        device_authority.create(key.with_suffix(".pub"))


def test_each_half_is_known_where_the_other_is_wanted(key: Path) -> None:
    assert "secret half" in refusal(key, public=True)
    assert "fleet.pub" in refusal(key, public=True)
    assert "public half" in refusal(key.with_suffix(".pub"), public=False)


def test_what_is_no_key_is_refused_with_its_cure_and_never_quoted(tmp_path: Path) -> None:
    other = X25519PrivateKey.generate()
    wrong = {
        "text": b"zuoxu-9183",
        "broken": b"-----BEGIN PRIVATE KEY-----\nzuoxu9183\n-----END PRIVATE KEY-----\n",
        "kind": other.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
    }
    for name, content in wrong.items():
        path = tmp_path / name
        path.touch(mode=0o600)
        path.write_bytes(content)
        said = refusal(path, public=False)
        assert "tutti authority create" in said
        assert "zuoxu" not in said
    shown = tmp_path / "kind.pub"
    shown.write_bytes(other.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    assert "no public Ed25519 key" in refusal(shown, public=True)
    assert "cannot be read" in refusal(tmp_path / "absent", public=True)


def test_keys_of_other_programs_are_taken(tmp_path: Path) -> None:
    key = Ed25519PrivateKey.generate()
    path, public = tmp_path / "own.pem", tmp_path / "own.pub.pem"
    path.touch(mode=0o600)
    path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    shown: Ed25519PublicKey = key.public_key()
    public.write_bytes(shown.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    assert DeviceAuthority(device_authority.secret_of(path)).public == device_authority.public_of(public)


def test_a_server_without_an_authority_registers_no_secure_run() -> None:
    with pytest.raises(TuttiError, match="--device-authority") as caught:
        device_runs.refuse(SECURE, authority=None)
    assert caught.value.code is ErrorCode.MECHANISM_UNSUPPORTED
    device_runs.refuse(SECURE, authority=bytes(32))


def test_the_command_makes_both_halves_and_prints_the_public_one(tmp_path: Path) -> None:
    path = tmp_path / "fleet.key"
    code = "from tutti.cli import main; main()"
    made = subprocess.run(
        [sys.executable, "-c", code, "authority", "create", str(path), "--json"], capture_output=True, text=True, check=True
    )
    told = json.loads(made.stdout)
    assert told["public_key"] == device_authority.public_of(Path(told["public"])).hex()
    assert device_authority.secret_of(path).hex() not in made.stdout + made.stderr


def test_what_devices_are_told_of_their_caches_is_checked(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("devices", "--server", "127.0.0.1:1", "--count", "1", "--population", "p", "--longest-days", "0")
    monkeypatch.setattr(sys, "argv", ["tutti", *words])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == ErrorCode.ARGUMENT_INVALID.value.exit_code
    assert "--longest-days" in capsys.readouterr().err
