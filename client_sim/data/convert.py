"""Data files of other frameworks to our JSON lines and back: TensorFlow Federated's SQLite client data, and LEAF's JSON.

SQLite (`tff.simulation.datasets`): table `examples` (split_name, client_id, serialized_example_proto) of `tf.train.Example`s and
table `client_metadata` (client_id, split_name, num_examples). LEAF (arXiv:1812.01097v3): `{"users", "num_samples", "user_data":
{user: {"x", "y"}}}`.
In our lines text is `text`, numbers are `x` with a class `y`, and every other key goes along as it is.
"""

import gzip
import json
import sqlite3
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Literal, TypeAlias, cast

from client_sim.data import tf_examples
from contract.errors import ErrorCode, TuttiError

Format: TypeAlias = Literal["jsonl", "leaf", "sqlite"]
Row: TypeAlias = dict[str, Any]
TEXT_FEATURES = ("text", "snippets", "tokens")
"""What TFF's data sets call text: Shakespeare's `snippets`, Stack Overflow's `tokens`."""
RENAMED = {"pixels": "x", "label": "y"}
"""EMNIST's names and ours."""
LISTS = ("x", "tap", "selection")
SPLIT = "train"
_SCHEMA = """
CREATE TABLE examples (split_name TEXT NOT NULL, client_id TEXT NOT NULL, serialized_example_proto BLOB NOT NULL);
CREATE INDEX idx_examples_client_id ON examples (client_id);
CREATE INDEX idx_examples_client_id_split ON examples (split_name, client_id);
CREATE TABLE client_metadata (client_id TEXT NOT NULL, split_name TEXT NOT NULL, num_examples INTEGER NOT NULL);
CREATE INDEX idx_metadata_client_id ON client_metadata (client_id);
"""


def convert(source: Path, target: Path, *, field: int | None = None, split: str | None = None) -> tuple[Format, Format, int]:
    """Rewrites `source` as `target`; the two formats and the number of examples.

    What `source` is, its content says; what `target` shall be, its name: `.sqlite` or `.db`, `.json`, and `.jsonl` (`.jsonl.gz`).
    The target appears whole or not at all.

    Args:
      field: which field of LEAF's `x` is the text, where `x` is a list of texts.
      split: of SQLite data, the one split to read; all unless given.

    Raises:
      TuttiError: DATA_INVALID, naming the file and the fault.
    """
    read, wanted = format_of(source), _wanted(target)
    partial = target.with_name(target.name + ".partial")
    try:
        with _faults(source):
            count = _write(_rows(source, read, field, split), partial, wanted)
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)
    return read, wanted, count


def format_of(path: Path) -> Format:
    """What a file holds, by its content.

    Raises:
      TuttiError: DATA_INVALID if it cannot be read.
    """
    with _faults(path), _opened(path) as file:
        head = file.read(1 << 12)
    if head.startswith(b"SQLite format 3\x00"):
        return "sqlite"
    first = head.split(b"\n", 1)[0]
    # One of our lines is an object with a client_id; LEAF's file is one object with users, on one line or many.
    return "jsonl" if b'"client_id"' in first and b'"user_data"' not in head else "leaf"


def rows_of_leaf(content: Mapping[str, Any], field: int | None) -> Iterator[Row]:
    """Our rows of a LEAF file.

    Raises:
      ValueError: for a file without users, lists of different lengths, or texts of several fields without `field`.

    >>> list(rows_of_leaf({"users": ["u"], "user_data": {"u": {"x": ["hi"], "y": [1]}}}, None))
    [{'client_id': 'u', 'text': 'hi', 'y': 1}]
    """
    if not isinstance(content.get("users"), list) or not isinstance(content.get("user_data"), dict):
        raise ValueError("is no LEAF file: it has no users with their user_data")
    for user in content["users"]:
        data = content["user_data"].get(user)
        if not isinstance(data, dict):
            raise ValueError(f"has no data of user {user!r}")
        taken = cast(dict[str, Any], data)
        xs = taken.get("x", [])
        ys = taken.get("y", [None] * len(xs))
        if len(xs) != len(ys):
            raise ValueError(f"user {user!r} has {len(xs)} x and {len(ys)} y")
        for x, y in zip(xs, ys, strict=True):
            yield {"client_id": str(user), **_of_leaf(x, y, field)}


def leaf_of_rows(rows: Iterable[Row]) -> dict[str, Any]:
    """A LEAF file of our rows; what is neither text nor `x` becomes `y`.

    >>> leaf_of_rows([{"client_id": "u", "text": "hi", "y": 1}])["user_data"]
    {'u': {'x': ['hi'], 'y': [1]}}
    """
    users: dict[str, dict[str, list[Any]]] = {}
    for row in rows:
        data = users.setdefault(row["client_id"], {"x": [], "y": []})
        data["x"].append(row["x"] if "x" in row else row["text"])
        rest = {key: value for key, value in row.items() if key not in ("client_id", "text", "x")}
        data["y"].append(rest["y"] if set(rest) == {"y"} else rest or None)
    return {"users": list(users), "num_samples": [len(data["x"]) for data in users.values()], "user_data": users}


def row_of_features(client: str, features: Mapping[str, tf_examples.Feature]) -> Row:
    """Our row of a `tf.train.Example`.

    >>> row_of_features("u", {"snippets": ["to be"]}), row_of_features("v", {"pixels": [0.5], "label": [7]})
    ({'client_id': 'u', 'text': 'to be'}, {'client_id': 'v', 'x': [0.5], 'y': 7})
    """
    text = next((name for name in TEXT_FEATURES if name in features), None)
    row: Row = {"client_id": client}
    for name, values in features.items():
        ours = "text" if name == text else RENAMED.get(name, name)
        row[ours] = list(values) if ours in LISTS or len(values) != 1 else values[0]
    return row


def _of_leaf(x: Any, y: Any, field: int | None) -> Row:
    rest: Row = cast(Row, y) if isinstance(y, dict) else {} if y is None else {"y": y}
    if isinstance(x, str):
        return {"text": x, **rest}
    values = cast(list[Any], x)
    if not values or not isinstance(values[0], str):
        return {"x": values, **rest}
    if field is None or not 0 <= field < len(values):
        raise ValueError(f"x holds {len(values)} texts: say which one is the text, --field 0 to {len(values) - 1}")
    return {"text": values[field], **rest}


def _rows(path: Path, kind: Format, field: int | None, split: str | None) -> Iterator[Row]:
    if kind == "sqlite":
        yield from _rows_of_sqlite(path, split)
    elif kind == "leaf":
        with _opened(path) as file:
            content: object = json.loads(file.read())
        if not isinstance(content, dict):
            raise ValueError("is neither JSON lines with a client_id each, nor LEAF's JSON, nor SQLite client data")
        yield from rows_of_leaf(cast(dict[str, Any], content), field)
    else:
        with _opened(path) as file:
            for number, line in enumerate(file, 1):
                row: object = json.loads(line)
                if not isinstance(row, dict) or not isinstance(cast(Row, row).get("client_id"), str):
                    raise ValueError(f"line {number} is no object with a client_id")
                yield cast(Row, row)


def _rows_of_sqlite(path: Path, split: str | None) -> Iterator[Row]:
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
        asked = "SELECT client_id, serialized_example_proto FROM examples"
        where, values = ("", ()) if split is None else (" WHERE split_name = ?", (split,))
        for client, content in connection.execute(f"{asked}{where} ORDER BY client_id, rowid", values):
            yield row_of_features(str(client), tf_examples.decode(content))


def _write(rows: Iterator[Row], path: Path, kind: Format) -> int:
    if kind == "sqlite":
        return _write_sqlite(rows, path)
    if kind == "leaf":
        content = leaf_of_rows(rows)
        path.write_text(json.dumps(content), encoding="utf-8")
        return sum(content["num_samples"])
    count = 0
    with gzip.open(path, "wb") if ".gz" in path.suffixes else path.open("wb") as file:
        for row in rows:
            file.write(json.dumps(row, ensure_ascii=False).encode() + b"\n")
            count += 1
    return count


def _write_sqlite(rows: Iterator[Row], path: Path) -> int:
    path.unlink(missing_ok=True)
    counts: dict[str, int] = {}
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.executescript(_SCHEMA)
        for row in rows:
            client = row["client_id"]
            counts[client] = counts.get(client, 0) + 1
            features = {key: _feature(key, value) for key, value in row.items() if key != "client_id" and value is not None}
            connection.execute("INSERT INTO examples VALUES (?, ?, ?)", (SPLIT, client, tf_examples.encode(features)))
        connection.executemany("INSERT INTO client_metadata VALUES (?, ?, ?)", [(c, SPLIT, n) for c, n in counts.items()])
    return sum(counts.values())


def _feature(key: str, value: Any) -> Sequence[Any]:
    values = cast(list[Any], value) if isinstance(value, list) else [value]
    if key == "x":
        values = [float(each) for each in values]
    if not all(isinstance(each, str | int | float) for each in values):
        raise ValueError(f"{key!r} holds what a tf.train.Example cannot: {values!r:.80}")
    return values


def _wanted(target: Path) -> Format:
    suffixes = [suffix for suffix in target.suffixes if suffix != ".gz"]
    kinds: dict[str, Format] = {".jsonl": "jsonl", ".json": "leaf", ".sqlite": "sqlite", ".db": "sqlite"}
    kind = kinds.get(suffixes[-1] if suffixes else "")
    if kind is None:
        raise TuttiError(ErrorCode.DATA_INVALID, f"{target}: name it .jsonl, .jsonl.gz, .json (LEAF) or .sqlite (TFF)")
    return kind


def _opened(path: Path) -> Any:
    with path.open("rb") as probe:
        zipped = probe.read(2) == b"\x1f\x8b"
    return gzip.open(path, "rb") if zipped else path.open("rb")


@contextmanager
def _faults(path: Path) -> Generator[None]:
    """Turns what is wrong with a file into an error that names it."""
    try:
        yield
    except (OSError, ValueError, KeyError, EOFError, sqlite3.Error) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise TuttiError(ErrorCode.DATA_INVALID, f"{path}: {reason}") from None
