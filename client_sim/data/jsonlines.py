"""Examples from JSON lines keyed by user, gzipped or plain, read once as a stream.

Each line is an object `{"client_id", "text", ...}`; a selection file's lines also have `"tap": [s, e]`, `"selection": [s, e]`
(code points of `text`) and `"entity"`; a feature file's have `"x": [numbers]` and `"y": class` in place of a text. Users whose
`int(md5(client_id), 16) % 10` is below 2 are held out.
"""

import gzip
import hashlib
import json
import os
import tempfile
import weakref
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Literal, TypeAlias, cast

import numpy as np
import numpy.typing as npt

from client_sim.data.loader import Example
from contract.errors import ErrorCode, Problem, TuttiError

Kind: TypeAlias = Literal["text", "selection", "features"]
LONGEST_LINE = 1 << 20
"""Bytes; a longer line is a fault, so that a file without line ends cannot fill the memory."""
MOST_PROBLEMS = 1000
"""`check_file` stops after so many."""


def is_held_out(client_id: str) -> bool:
    """Whether the user belongs to the test users: md5 decides, so that every program splits alike.

    >>> is_held_out("a"), is_held_out("sh_ALL")
    (False, False)
    """
    return int(hashlib.md5(client_id.encode(), usedforsecurity=False).hexdigest(), 16) % 10 < 2


class JsonLinesLoader:
    """The devices and held-out users of one file.

    The file is read once; its lines go to a temporary file that only this object can reach, grouped by an index of 16 bytes a
    line, so memory does not grow with the text. Devices are the training users in the order of their names.

    Raises:
      TuttiError: DATA_INVALID, naming the file, the first faulty line and its fault; or that no training user is left.
    """

    def __init__(self, path: Path, *, kind: Kind = "text") -> None:
        self.path = path
        self.kind: Kind = kind
        self._lines = _spool()
        weakref.finalize(self, self._lines.close)
        users, self._offsets, self.digest = self._index()
        self._devices = tuple(rows for name, rows in sorted(users.items()) if not is_held_out(name))
        self._held_out = tuple(rows for name, rows in sorted(users.items()) if is_held_out(name))
        if not self._devices:
            raise _invalid(path, "holds no training user: every client_id of it is held out, or it is empty")

    def __reduce__(self) -> tuple[object, ...]:
        """Another process reads the file for itself."""
        return _reopened, (self.path, self.kind, self.digest)

    @property
    def num_devices(self) -> int:
        """How many training users the file has."""
        return len(self._devices)

    @property
    def num_held_out(self) -> int:
        """How many test users the file has."""
        return len(self._held_out)

    def num_examples(self, devices: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Lines of each of `devices`: int64, shape (n,)."""
        return np.array([len(self._devices[int(index)]) for index in devices], np.int64)

    def examples(self, index: int) -> Sequence[Example]:
        """The lines of the training user at `index`, in the file's order.

        Raises:
          ValueError: if `index` is no device.
        """
        if not 0 <= index < len(self._devices):
            raise ValueError(f"device {index} is not in 0..{len(self._devices) - 1} of {self.path}")
        return self._read(self._devices[index])

    def held_out(self) -> Iterator[Sequence[Example]]:
        """The lines of each test user."""
        return (self._read(rows) for rows in self._held_out)

    def _read(self, rows: npt.NDArray[np.int64]) -> tuple[Example, ...]:
        read: list[Example] = []
        for row in rows.tolist():
            start, end = int(self._offsets[row]), int(self._offsets[row + 1])
            read.append(json.loads(os.pread(self._lines.fileno(), end - start, start)))
        return tuple(read)

    def _index(self) -> tuple[dict[str, npt.NDArray[np.int64]], npt.NDArray[np.int64], str]:
        users: dict[str, list[int]] = {}
        offsets, whole = [0], hashlib.sha256()
        for number, line in _numbered_lines(self.path):
            parsed = parse_line(line, self.kind)
            if isinstance(parsed, str):
                raise _invalid(self.path, parsed, number)
            users.setdefault(cast(str, parsed["client_id"]), []).append(len(offsets) - 1)
            offsets.append(offsets[-1] + self._lines.write(line))
            whole.update(line)
        self._lines.flush()
        return {name: np.array(rows, np.int64) for name, rows in users.items()}, np.array(offsets, np.int64), whole.hexdigest()


def check_file(path: Path, *, kind: Kind = "text") -> tuple[Problem, ...]:
    """Every fault of the file, one `Problem` a line (at most `MOST_PROBLEMS`); empty if it can be used."""
    problems: list[Problem] = []
    num_lines = 0
    try:
        for number, line in _numbered_lines(path):
            num_lines += 1
            parsed = parse_line(line, kind)
            if isinstance(parsed, str):
                problems.append(Problem(f"{path}:{number}", parsed, "Mend this line or leave it out."))
            if len(problems) == MOST_PROBLEMS:
                return tuple(problems)
    except TuttiError as error:
        problems.append(Problem(str(path), error.detail, "Give a whole file of JSON lines, gzipped or plain."))
    else:
        if num_lines == 0:
            problems.append(Problem(str(path), "is empty", "Give a file of JSON lines, gzipped or plain."))
    return tuple(problems)


def parse_line(line: bytes, kind: Kind) -> Example | str:
    """The example on one line, or the fault in words.

    >>> parse_line(b'{"client_id": "u", "text": "hello"}', "text")["text"]
    'hello'
    >>> parse_line(b'{"client_id": "u"}', "text")
    '"text" is missing'
    """
    try:
        value: object = json.loads(line.decode("utf-8"), parse_constant=_refuse_constant)
    except UnicodeDecodeError as error:
        return f"is not UTF-8: byte {error.start} of the line"
    except json.JSONDecodeError as error:
        return f"is not JSON: {error.msg} at column {error.colno}"
    except (ValueError, RecursionError):
        return "is not JSON that can be used: a number that is none, or nesting that is too deep"
    if not isinstance(value, dict):
        return f"is no JSON object but a {type(value).__name__}"
    row = cast(dict[str, object], value)
    fault = _text_fault(row, "client_id")
    if kind == "features":
        fault = fault or _features_fault(row)
    else:
        fault = fault or _text_fault(row, "text") or (_selection_fault(row) if kind == "selection" else None)
    return fault or row


def _text_fault(row: dict[str, object], key: str) -> str | None:
    value = row.get(key)
    if key not in row:
        return f'"{key}" is missing'
    if not isinstance(value, str):
        return f'"{key}" must be a string, not {type(value).__name__}'
    if key == "client_id" and not value:
        return '"client_id" is empty'
    try:
        value.encode()
    except UnicodeEncodeError:
        return f'"{key}" holds half of a surrogate pair'
    return None


def _selection_fault(row: dict[str, object]) -> str | None:
    length = len(cast(str, row["text"]))
    for key in ("tap", "selection"):
        span = row.get(key)
        if not _is_span(span, length):
            return f'"{key}" must be [start, end] with 0 <= start < end <= {length}, the code points of the text'
    (tap_start, tap_end), (start, end) = cast(list[int], row["tap"]), cast(list[int], row["selection"])
    if not start <= tap_start < tap_end <= end:
        return f'"tap" {[tap_start, tap_end]} does not lie inside "selection" {[start, end]}'
    if not isinstance(row.get("entity"), str):
        return '"entity" must be a string'
    return None


def _features_fault(row: dict[str, object]) -> str | None:
    x, y = row.get("x"), row.get("y")
    values = cast(list[object], x) if isinstance(x, list) else []
    if not values or not all(type(value) in (int, float) for value in values):
        return '"x" must be a list of numbers'
    return None if type(y) is int and y >= 0 else '"y" must be the number of a class'


def _is_span(span: object, length: int) -> bool:
    if not isinstance(span, list):
        return False
    ends = cast(list[object], span)
    return len(ends) == 2 and all(type(end) is int for end in ends) and 0 <= cast(int, ends[0]) < cast(int, ends[1]) <= length


def _refuse_constant(name: str) -> object:
    raise ValueError(f"{name} is no JSON")


def _reopened(path: Path, kind: Kind, digest: str) -> JsonLinesLoader:
    loader = JsonLinesLoader(path, kind=kind)
    if loader.digest != digest:
        raise _invalid(path, "has changed since it was opened")
    return loader


def _spool() -> IO[bytes]:
    # No name, gone with the process; a spawned worker opens its own.
    return tempfile.TemporaryFile(prefix="tutti-data-")


def _numbered_lines(path: Path) -> Iterator[tuple[int, bytes]]:
    number = 0
    try:
        with _open(path) as file:
            while line := file.readline(LONGEST_LINE + 1):
                number += 1
                if len(line) > LONGEST_LINE:
                    raise _invalid(path, f"is longer than {LONGEST_LINE} bytes", number)
                yield number, line
    except (OSError, EOFError, zlib.error) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise _invalid(path, f"cannot be read further: {reason}", number + 1 if number else None) from None


def _open(path: Path) -> IO[bytes]:
    with path.open("rb") as probe:
        zipped = probe.read(2) == b"\x1f\x8b"
    return cast(IO[bytes], gzip.open(path, "rb")) if zipped else path.open("rb")


def _invalid(path: Path, fault: str, line: int | None = None) -> TuttiError:
    return TuttiError(ErrorCode.DATA_INVALID, f"{path}{'' if line is None else f', line {line}'}: {fault}")
