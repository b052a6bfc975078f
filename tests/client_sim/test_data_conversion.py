import gzip
import json
import sqlite3
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from client_sim.data import JsonLinesLoader, check_file, tf_examples
from client_sim.data.convert import convert, format_of
from contract.errors import ErrorCode, TuttiError

ROWS = {
    "text": [{"client_id": "u1", "text": "ein Wort, 日本"}, {"client_id": "u1", "text": ""}, {"client_id": "u2", "text": "so"}],
    "features": [
        {"client_id": "u1", "x": [0.1, 0.0, 1.0], "y": 3},
        {"client_id": "u2", "x": [1.0, 2.5, -4.0], "y": 0},
    ],
    "selection": [
        {"client_id": "u1", "text": "at 12 main st", "tap": [6, 10], "selection": [3, 13], "entity": "address"},
        {"client_id": "u2", "text": "call me", "tap": [0, 4], "selection": [0, 4], "entity": "none"},
    ],
}


def lines(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def read(path: Path) -> list[dict[str, Any]]:
    content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    return [json.loads(line) for line in content.splitlines()]


@pytest.mark.parametrize("kind", list(ROWS))
@pytest.mark.parametrize("other", ["there.json", "there.sqlite", "there.db"])
def test_what_is_converted_and_back_is_what_it_was(tmp_path: Path, kind: str, other: str) -> None:
    source = lines(tmp_path / "here.jsonl", ROWS[kind])
    convert(source, tmp_path / other)
    convert(tmp_path / other, tmp_path / "back.jsonl.gz")
    assert read(tmp_path / "back.jsonl.gz") == ROWS[kind]
    assert not check_file(tmp_path / "back.jsonl.gz", kind=kind)  # pyright: ignore[reportArgumentType]


def test_leaf_becomes_lines(tmp_path: Path) -> None:
    leaf = {
        "users": ["a", "b"],
        "num_samples": [1, 2],
        "user_data": {"a": {"x": [[0.0, 1.0]], "y": [5]}, "b": {"x": [[1, 1], [0, 0]], "y": [1, 2]}},
    }
    (tmp_path / "all_data.json").write_text(json.dumps(leaf, indent=1))
    assert convert(tmp_path / "all_data.json", tmp_path / "out.jsonl") == ("leaf", "jsonl", 3)
    assert read(tmp_path / "out.jsonl")[2] == {"client_id": "b", "x": [0, 0], "y": 2}


def test_leaf_with_fields_asks_which_one_is_the_text(tmp_path: Path) -> None:
    leaf = {"users": ["a"], "num_samples": [1], "user_data": {"a": {"x": [["17", "Mon", "", "a", "so sad"]], "y": [0]}}}
    (tmp_path / "sent140.json").write_text(json.dumps(leaf))
    with pytest.raises(TuttiError, match="--field 0 to 4"):
        convert(tmp_path / "sent140.json", tmp_path / "out.jsonl")
    convert(tmp_path / "sent140.json", tmp_path / "out.jsonl", field=4)
    assert read(tmp_path / "out.jsonl") == [{"client_id": "a", "text": "so sad", "y": 0}]


def test_a_split_of_sqlite_data_can_be_read_alone(tmp_path: Path) -> None:
    path = tmp_path / "shakespeare.sqlite"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE examples (split_name TEXT, client_id TEXT, serialized_example_proto BLOB)")
        for split, text in (("train", "to be"), ("test", "or not")):
            row = (split, "hamlet", tf_examples.encode({"snippets": [text]}))
            connection.execute("INSERT INTO examples VALUES (?, ?, ?)", row)
    connection.close()
    convert(path, tmp_path / "train.jsonl", split="train")
    assert read(tmp_path / "train.jsonl") == [{"client_id": "hamlet", "text": "to be"}]
    assert convert(path, tmp_path / "all.jsonl")[2] == 2


def test_converted_features_train_the_small_model(tmp_path: Path) -> None:
    rows = [{"client_id": f"u{number}", "x": [0.5] * 784, "y": number % 62} for number in range(20)]
    convert(lines(tmp_path / "f.jsonl", rows), tmp_path / "f.sqlite")
    convert(tmp_path / "f.sqlite", tmp_path / "g.jsonl")
    loader = JsonLinesLoader(tmp_path / "g.jsonl", kind="features")
    assert np.asarray(loader.examples(0)[0]["x"]).shape == (784,)


@pytest.mark.parametrize(
    ("name", "content", "fault"),
    [
        ("a.json", b"{}", "no LEAF file"),
        ("a.jsonl", b'{"client_id": 3}\n', "line 1 is no object with a client_id"),
        ("a.sqlite", b"SQLite format 3\x00" + bytes(100), "a.sqlite"),
        ("a.json", b"[1, 2]", "neither JSON lines"),
        ("a.gz", b"\x1f\x8b\x08", "a.gz"),
    ],
)
def test_a_faulty_file_is_named_and_leaves_nothing_behind(tmp_path: Path, name: str, content: bytes, fault: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(TuttiError, match=fault) as error:
        convert(tmp_path / name, tmp_path / "out.jsonl")
    assert error.value.code is ErrorCode.DATA_INVALID
    assert sorted(path.name for path in tmp_path.iterdir()) == [name]


def test_a_name_that_says_no_format_is_refused(tmp_path: Path) -> None:
    source = lines(tmp_path / "a.jsonl", ROWS["text"])
    with pytest.raises(TuttiError, match="name it"):
        convert(source, tmp_path / "out.parquet")
    assert format_of(source) == "jsonl"
