"""The key files of a device authority: the secret half for the fleet that it certifies, the public half for servers.

In production another party holds the secret half, behind attestation and a `secagg.IssuingDesk`. A fleet of simulated devices has it as a
file, since nobody else would certify them. The server gets the public half and nothing more: who has the secret one can invent devices.
"""

from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

from contract.entropy import Entropy, system_entropy
from contract.errors import ErrorCode, TuttiError
from secagg.authority import fresh_key
from server import whole_files

PUBLIC_SUFFIX = ".pub"


def create(path: Path, entropy: Entropy = system_entropy) -> Path:
    """Writes a fresh authority's secret half to `path`, for its owner's eyes only, and its public half beside it, as PEM.

    Returns:
      Where the public half lies.

    Raises:
      TuttiError: CONFLICT if either file is there: a key is never replaced; ARGUMENT_INVALID for the name of a public half.
    """
    public_path = path.with_suffix(PUBLIC_SUFFIX)
    if public_path == path:
        raise TuttiError(
            ErrorCode.ARGUMENT_INVALID, f"{path} is the name of a public half: give another, such as authority.key"
        )
    seed, public = fresh_key(entropy)
    secret = Ed25519PrivateKey.from_private_bytes(seed).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    shown = Ed25519PublicKey.from_public_bytes(public).public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if public_path.exists():
        raise _taken(public_path)
    _write(path, secret, mode=0o600)
    _write(public_path, shown, mode=0o644)
    return public_path


def secret_of(path: Path) -> bytes:
    """The seed of the authority whose secret half is at `path`, 32 bytes.

    Raises:
      TuttiError: ARGUMENT_INVALID if others may read the file, or it is no such half.
    """
    content = _read(path)
    if b"PUBLIC KEY" in content:
        raise _wrong(path, "is the public half: devices need the secret one, beside it")
    if path.stat().st_mode & 0o077:
        raise _wrong(
            path, f"may be read by others, who could certify devices: `chmod 600 {path}`, and make another if they have"
        )
    try:
        key = load_pem_private_key(content, None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        key = None  # what the library says may quote what the file holds
    if not isinstance(key, Ed25519PrivateKey):
        raise _wrong(path, "holds no Ed25519 key in PEM without a password: `tutti authority create` makes one")
    return key.private_bytes_raw()


def public_of(path: Path) -> bytes:
    """The public key of the authority whose public half is at `path`, 32 bytes.

    Raises:
      TuttiError: ARGUMENT_INVALID if it is no such half, or the secret one.
    """
    content = _read(path)
    if b"PRIVATE KEY" in content:
        detail = f"is the secret half, with which a server could invent devices: give it {path.with_suffix(PUBLIC_SUFFIX)}"
        raise _wrong(path, detail)
    try:
        key = load_pem_public_key(content)
    except (ValueError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, Ed25519PublicKey):
        raise _wrong(path, "holds no public Ed25519 key in PEM: `tutti authority create` makes one")
    return key.public_bytes_raw()


def _write(path: Path, content: bytes, *, mode: int) -> None:
    try:
        whole_files.create(path, content, mode=mode)
    except FileExistsError:
        raise _taken(path) from None


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise _wrong(path, f"cannot be read ({error.strerror}): `tutti authority create` makes one") from None


def _taken(path: Path) -> TuttiError:
    return TuttiError(ErrorCode.CONFLICT, f"{path} is there already: a key is never replaced, give another name")


def _wrong(path: Path, fault: str) -> TuttiError:
    return TuttiError(ErrorCode.ARGUMENT_INVALID, f"{path} {fault}")
