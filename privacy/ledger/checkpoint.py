"""Checkpoints (C2SP tlog-checkpoint): a log's origin, its size and its root, as a signed note.

An operator who holds the key can sign any history. What binds it is that others keep earlier checkpoints: a later tree must begin
with every earlier one.
"""

import base64
import binascii
import re
from dataclasses import dataclass

from privacy.ledger.merkle import HASH_BYTES
from privacy.ledger.notes import NoteInvalid, SignerKey, VerifierKey, open_note, split_note

_SIZE = re.compile(r"0|[1-9][0-9]{0,18}")


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The head of a log at one moment.

    >>> Checkpoint("example.org/log", 0, bytes(32)).text().splitlines()[:2]
    ['example.org/log', '0']
    """

    origin: str
    size: int
    root: bytes

    def text(self) -> str:
        """The note's text: three lines."""
        return f"{self.origin}\n{self.size}\n{base64.b64encode(self.root).decode()}\n"

    def sign(self, key: SignerKey) -> str:
        """The checkpoint as a signed note.

        Raises:
          ValueError: if the key's name is not the log's origin.
        """
        if key.name != self.origin:
            raise ValueError(f"{key.name} cannot sign for the log {self.origin}")
        return key.sign(self.text())


def open_checkpoint(note: str, *keys: VerifierKey) -> Checkpoint:
    """The checkpoint in a note that one of `keys` has signed.

    Raises:
      NoteInvalid: if it is not signed so, is no checkpoint, or is another log's.
    """
    checkpoint = parse(open_note(note, *keys))
    if all(key.name != checkpoint.origin for key in keys):
        raise NoteInvalid(f"this is a checkpoint of the log {checkpoint.origin}")
    return checkpoint


def unverified(note: str) -> Checkpoint:
    """The checkpoint that a note claims; nobody has checked who signed it.

    Raises:
      NoteInvalid: if it is no checkpoint.
    """
    return parse(split_note(note)[0])


def parse(text: str) -> Checkpoint:
    """The checkpoint in a note's text; extension lines are allowed and mean nothing here.

    Raises:
      NoteInvalid: if it is no checkpoint.
    """
    lines = text.split("\n")[:-1]
    if len(lines) < 3 or not all(lines):
        raise NoteInvalid("a checkpoint has three lines: origin, size and root")
    try:
        root = base64.b64decode(lines[2], validate=True)
    except binascii.Error:
        root = b""
    if not _SIZE.fullmatch(lines[1]) or len(root) != HASH_BYTES:
        raise NoteInvalid(f"no size and root: {lines[1][:40]!r}, {lines[2][:60]!r}")
    return Checkpoint(lines[0], int(lines[1]), root)
