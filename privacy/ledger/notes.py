"""Signed notes (C2SP signed-note) with Ed25519 keys: a text, a blank line, and one line for each signature.

Keys are written as the Go tools of transparency logs write them: `NAME+ID+DATA` for the public one,
`PRIVATE+KEY+NAME+ID+DATA` for the secret one, where ID is the first four bytes of SHA-256(NAME || 0x0A || 0x01 || public key).
"""

import base64
import binascii
import hashlib
import re
from dataclasses import dataclass, field

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from contract.entropy import Entropy

ED25519 = b"\x01"
"""The algorithm byte of plain Ed25519 signatures."""
_NAME = re.compile(r"[^\s+]+")
_SIGNATURE_LINE = re.compile(r"\u2014 ([^\s+]+) ([A-Za-z0-9+/]+={0,2})")
_MOST_SIGNATURES = 100


@dataclass(frozen=True, slots=True)
class VerifierKey:
    """A name and an Ed25519 public key (32 bytes).

    >>> VerifierKey.parse("PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW").name
    'PeterNeumann'
    """

    name: str
    public: bytes

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise ValueError(f"a key's name has no spaces and no plus sign: {self.name!r}")
        if len(self.public) != 32:
            raise ValueError(f"an Ed25519 public key has 32 bytes, not {len(self.public)}")

    @classmethod
    def parse(cls, text: str) -> "VerifierKey":
        """The key that `str` wrote.

        Raises:
          ValueError: for anything else, a wrong id included.
        """
        name, key_id, data = _parts(text.strip(), 3)
        key = cls(name, _key_bytes(data))
        if key.id.hex() != key_id:
            raise ValueError(f"the id of key {name} is {key.id.hex()}, not {key_id}")
        return key

    @property
    def id(self) -> bytes:
        """Four bytes that tell keys of one name apart."""
        return hashlib.sha256(self.name.encode() + b"\n" + ED25519 + self.public).digest()[:4]

    def __str__(self) -> str:
        return f"{self.name}+{self.id.hex()}+{base64.b64encode(ED25519 + self.public).decode()}"

    def accepts(self, text: bytes, signature: bytes) -> bool:
        """Whether this key signed `text`."""
        try:
            Ed25519PublicKey.from_public_bytes(self.public).verify(signature, text)
        except InvalidSignature:
            return False
        return True


@dataclass(frozen=True, slots=True)
class SignerKey:
    """A name and an Ed25519 seed (32 bytes)."""

    name: str
    seed: bytes = field(repr=False)

    @classmethod
    def create(cls, name: str, entropy: Entropy) -> "SignerKey":
        """A fresh key."""
        return cls(name, entropy(32))

    @classmethod
    def parse(cls, text: str) -> "SignerKey":
        """The key that `secret_text` wrote.

        Raises:
          ValueError: for anything else; the message holds nothing of the key.
        """
        word, kind, name, key_id, data = _parts(text.strip(), 5)
        key = cls(name, _key_bytes(data))
        if (word, kind) != ("PRIVATE", "KEY") or key.verifier.id.hex() != key_id:
            raise ValueError(f"this is no signing key of {name!r}")
        return key

    @property
    def verifier(self) -> VerifierKey:
        """The public half."""
        public = Ed25519PrivateKey.from_private_bytes(self.seed).public_key().public_bytes_raw()
        return VerifierKey(self.name, public)

    def secret_text(self) -> str:
        """For the key file, and nothing else."""
        return f"PRIVATE+KEY+{self.name}+{self.verifier.id.hex()}+{base64.b64encode(ED25519 + self.seed).decode()}"

    def sign(self, text: str) -> str:
        """The note that holds `text` and this key's signature.

        Raises:
          ValueError: unless the text ends with a newline and holds neither a blank line nor control characters.
        """
        _check_text(text)
        signature = Ed25519PrivateKey.from_private_bytes(self.seed).sign(text.encode())
        return f"{text}\n\u2014 {self.name} {base64.b64encode(self.verifier.id + signature).decode()}\n"


class NoteInvalid(ValueError):
    """This is no note, or not one that the expected key has signed."""


def open_note(note: str, *keys: VerifierKey) -> str:
    """The text of a note that one of `keys` has signed, its last newline included.

    Signatures of unknown keys do not matter; a wrong signature under a known name and id refuses the whole note.

    Raises:
      NoteInvalid: if the form is wrong or none of the keys has signed it.
    """
    text, signatures = split_note(note)
    found = False
    for name, data in signatures:
        for key in keys:
            if key.name == name and key.id == data[:4]:
                if not key.accepts(text.encode(), data[4:]):
                    raise NoteInvalid(f"the signature of {name} ({key.id.hex()}) does not fit the text")
                found = True
    if not found:
        signers = ", ".join(f"{name} ({data[:4].hex()})" for name, data in signatures)
        raise NoteInvalid(f"not signed by {', '.join(f'{key.name} ({key.id.hex()})' for key in keys)}, but by {signers}")
    return text


def split_note(note: str) -> tuple[str, list[tuple[str, bytes]]]:
    """Text and (name, id || signature) pairs of a note, whose signatures nobody has checked yet.

    Raises:
      NoteInvalid: if the form is wrong.
    """
    body, separator, tail = note.rpartition("\n\n")
    if not separator or not tail.endswith("\n"):
        raise NoteInvalid("a note is a text, a blank line and signature lines")
    try:
        _check_text(body + "\n")
    except ValueError as error:
        raise NoteInvalid(str(error)) from None
    lines = tail[:-1].split("\n")
    if len(lines) > _MOST_SIGNATURES:
        raise NoteInvalid(f"{len(lines)} signatures are more than {_MOST_SIGNATURES}")
    return body + "\n", [_signature(line) for line in lines]


def _signature(line: str) -> tuple[str, bytes]:
    match = _SIGNATURE_LINE.fullmatch(line)
    try:
        data = base64.b64decode(match[2], validate=True) if match else b""
    except binascii.Error:
        data = b""
    if match is None or len(data) < 5:
        raise NoteInvalid(f"this is no signature line: {line[:80]!r}")
    return match[1], data


def _check_text(text: str) -> None:
    if not text.endswith("\n") or text == "\n":
        raise ValueError("the text of a note ends with a newline")
    if any(ord(character) < 0x20 and character != "\n" for character in text):
        raise ValueError("the text of a note holds no control characters")


def _parts(text: str, count: int) -> list[str]:
    parts = text.split("+", count - 1)
    if len(parts) != count:
        raise ValueError("this is no key")
    return parts


def _key_bytes(data: str) -> bytes:
    try:
        raw = base64.b64decode(data, validate=True)
    except binascii.Error:
        raw = b""
    if len(raw) != 33 or raw[:1] != ED25519:
        raise ValueError("this is no Ed25519 key")
    return raw[1:]
