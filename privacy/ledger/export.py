"""A ledger as a file: JSON lines with the public key first, then every entry with its leaf hash, then the signed checkpoints."""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from privacy.ledger import merkle
from privacy.ledger.notes import VerifierKey
from privacy.ledger.verification import LoggedEntry

NAME = "tutti-ledger"
VERSION = 1


@dataclass(frozen=True, slots=True)
class Export:
    """An exported ledger. `key` is what the file claims: whoever knows the log's key compares."""

    key: VerifierKey
    entries: Sequence[LoggedEntry]
    checkpoints: Sequence[str]


def lines(key: VerifierKey, bodies: Iterable[bytes], checkpoints: Sequence[str]) -> Iterator[str]:
    """The lines of an export, without their newlines."""
    yield json.dumps({"export": NAME, "version": VERSION, "key": str(key)})
    for index, body in enumerate(bodies):
        yield json.dumps({"index": index, "leaf": merkle.leaf_hash(body).hex(), "body": body.decode()}, ensure_ascii=False)
    yield json.dumps({"checkpoints": list(checkpoints)})


def read(text: Iterable[str]) -> Export:
    """The ledger in the lines of an export.

    Raises:
      ValueError: with the line, if this is no whole export.
    """
    key: VerifierKey | None = None
    checkpoints: list[str] | None = None
    entries: list[LoggedEntry] = []
    for number, line in enumerate(text, start=1):
        try:
            facts = json.loads(line)
            if number == 1:
                key = _key(facts)
            elif "checkpoints" in facts:
                checkpoints = [str(note) for note in facts["checkpoints"]]
            else:
                entries.append(LoggedEntry(int(facts["index"]), str(facts["body"]).encode(), bytes.fromhex(facts["leaf"])))
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"line {number} is not what a ledger export holds there: {error}") from None
    if key is None or checkpoints is None:
        raise ValueError("this export is cut off: its key or its checkpoints are missing")
    return Export(key, entries, checkpoints)


def _key(facts: dict[str, str | int]) -> VerifierKey:
    if (facts["export"], facts["version"]) != (NAME, VERSION):
        raise ValueError(f"version {facts['version']} of {facts['export']}")
    return VerifierKey.parse(str(facts["key"]))
