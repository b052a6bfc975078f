import gzip
import json
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from client_sim.data import JsonLinesLoader, Loader, SyntheticFeatures, SyntheticText, check_file, example_counts, open_loader
from client_sim.data.jsonlines import is_held_out
from contract.errors import ErrorCode, TuttiError
from contract.task import DataSpec

SHARED = Path(__file__).parents[2].parent / "shared" / "data"
GOOD = {"client_id": "u1", "text": "hello there"}
TAP = {"client_id": "u1", "text": "at 12 main st", "tap": [6, 10], "selection": [3, 13], "entity": "address"}


def write(path: Path, *lines: object) -> Path:
    with gzip.open(path, "wb") as file:
        for line in lines:
            file.write(line if isinstance(line, bytes) else json.dumps(line).encode() + b"\n")
    return path


class TestFiles:
    def test_users_are_split_by_md5_and_ordered_by_name(self, tmp_path: Path) -> None:
        names = [f"user{number}" for number in range(60)]
        path = write(tmp_path / "chat.jsonl.gz", *({"client_id": name, "text": name} for name in reversed(names)))
        loader = JsonLinesLoader(path)
        trained = [loader.examples(index)[0]["text"] for index in range(loader.num_devices)]
        held_out = [user[0]["text"] for user in loader.held_out()]
        assert trained == sorted(name for name in names if not is_held_out(name))
        assert held_out == sorted(name for name in names if is_held_out(name))
        assert 0 < len(held_out) < 60

    def test_a_users_lines_keep_their_order_wherever_they_stand(self, tmp_path: Path) -> None:
        lines = [{"client_id": f"u{number % 3}", "text": str(number)} for number in range(30)]
        loader = JsonLinesLoader(write(tmp_path / "f.gz", *lines))
        rows = [int(str(row["text"])) for row in loader.examples(0)]
        assert rows == sorted(rows)
        assert example_counts(loader, np.array([0])).tolist() == [10]

    def test_digest_names_the_content_and_not_the_compression(self, tmp_path: Path) -> None:
        zipped = write(tmp_path / "f.gz", GOOD)
        plain = tmp_path / "f.jsonl"
        plain.write_bytes(gzip.decompress(zipped.read_bytes()))
        assert JsonLinesLoader(zipped).digest == JsonLinesLoader(plain).digest

    @pytest.mark.parametrize(
        ("line", "fault"),
        [
            (b"{not json}\n", "is not JSON"),
            (b"\n", "is not JSON"),
            (b"[1]\n", "is no JSON object but a list"),
            (b'{"client_id": "a", "text": "\xff"}\n', "is not UTF-8"),
            (b'{"client_id": "a", "text": "\\ud800"}\n', "surrogate"),
            (b'{"client_id": "a", "text": NaN}\n', "a number that is none"),
            (b"[" * 100_000 + b"\n", "nesting that is too deep"),
            ({"client_id": "a"}, '"text" is missing'),
            ({"text": "a"}, '"client_id" is missing'),
            ({"client_id": "", "text": "a"}, '"client_id" is empty'),
            ({"client_id": 3, "text": "a"}, '"client_id" must be a string, not int'),
        ],
    )
    def test_a_malformed_line_names_file_line_and_fault(self, tmp_path: Path, line: object, fault: str) -> None:
        path = write(tmp_path / "chat.gz", GOOD, line, GOOD)
        with pytest.raises(TuttiError) as caught:
            JsonLinesLoader(path)
        assert caught.value.code is ErrorCode.DATA_INVALID
        assert f"{path}, line 2: " in str(caught.value)
        assert fault in str(caught.value)

    @pytest.mark.parametrize(
        ("change", "fault"),
        [
            ({"tap": [6, 40]}, '"tap" must be'),
            ({"tap": [True, 10]}, '"tap" must be'),
            ({"selection": None}, '"selection" must be'),
            ({"tap": [0, 2]}, "does not lie inside"),
            ({"entity": 1}, '"entity" must be'),
        ],
    )
    def test_a_selection_line_is_checked_too(self, tmp_path: Path, change: dict[str, object], fault: str) -> None:
        path = write(tmp_path / "taps.gz", TAP, TAP | change)
        with pytest.raises(TuttiError, match="line 2: ") as caught:
            JsonLinesLoader(path, kind="selection")
        assert fault in str(caught.value)

    def test_all_faults_are_listed_by_check(self, tmp_path: Path) -> None:
        path = write(tmp_path / "chat.gz", b"x\n", GOOD, {"client_id": "a"})
        assert [problem.path for problem in check_file(path)] == [f"{path}:1", f"{path}:3"]
        assert check_file(write(tmp_path / "good.gz", GOOD)) == ()
        assert "is empty" in check_file(write(tmp_path / "empty.gz"))[0].message

    def test_a_cut_off_archive_is_refused(self, tmp_path: Path) -> None:
        whole = write(tmp_path / "f.gz", *({"client_id": f"u{number}", "text": str(hash(number)) * 9} for number in range(500)))
        whole.write_bytes(whole.read_bytes()[:-40])
        with pytest.raises(TuttiError, match="cannot be read further"):
            JsonLinesLoader(whole)
        assert "cannot be read further" in check_file(whole)[-1].message

    def test_a_line_without_end_does_not_fill_the_memory(self, tmp_path: Path) -> None:
        with pytest.raises(TuttiError, match="line 1: is longer than"):
            JsonLinesLoader(write(tmp_path / "f.gz", b"a" * 3_000_000))

    def test_only_held_out_users_are_refused(self, tmp_path: Path) -> None:
        name = next(f"u{number}" for number in range(100) if is_held_out(f"u{number}"))
        with pytest.raises(TuttiError, match="no training user"):
            JsonLinesLoader(write(tmp_path / "f.gz", {"client_id": name, "text": "x"}))

    def test_real_chat_is_read_whole(self) -> None:
        path = SHARED / "irc_chat.jsonl.gz"
        if not path.exists():
            pytest.skip("the chat file is not beside this checkout")
        loader = JsonLinesLoader(path)
        assert loader.num_devices + loader.num_held_out == 15_534
        counts = example_counts(loader, np.arange(loader.num_devices))
        assert int(counts.sum()) + sum(len(user) for user in loader.held_out()) == 208_662


class TestSynthetic:
    @pytest.mark.parametrize("make", [SyntheticText, SyntheticFeatures])
    def test_a_device_is_the_same_in_any_order(self, make: type[SyntheticText] | type[SyntheticFeatures]) -> None:
        first, second = make(num_devices=50, seed=4), make(num_devices=50, seed=4)
        second.examples(7)
        assert str(first.examples(3)) == str(second.examples(3))
        assert str(first.examples(3)) != str(make(num_devices=50, seed=5).examples(3))
        assert isinstance(first, Loader)

    def test_counts_are_those_of_the_examples(self) -> None:
        loader = SyntheticText(num_devices=20, seed=1)
        counts = example_counts(loader, np.arange(20))
        assert counts.tolist() == [len(loader.examples(index)) for index in range(20)]

    def test_counts_have_a_heavy_tail(self) -> None:
        counts = example_counts(SyntheticText(num_devices=10_000, seed=1), np.arange(10_000))
        assert 8 <= np.median(counts) <= 12
        assert np.quantile(counts, 0.99) > 10 * np.median(counts)

    def test_private_words_stay_on_their_device(self) -> None:
        loader = SyntheticText(num_devices=300, seed=2)
        secrets = {index: " ".join(loader.private_words(index)) for index in range(300)}
        owner = int(np.argmax(example_counts(loader, np.arange(300))))
        assert any(secrets[owner] in str(row["text"]) for row in loader.examples(owner))
        assert not any(
            secrets[owner] in str(row["text"]) for index in range(300) if index != owner for row in loader.examples(index)
        )

    def test_labels_are_skewed_by_device(self) -> None:
        loader = SyntheticFeatures(num_devices=200, seed=3)
        device = int(np.argmax(example_counts(loader, np.arange(200))))
        counts = Counter(str(row["y"]) for row in loader.examples(device))
        assert max(counts.values()) > 4 * counts.total() / loader.num_classes

    def test_devices_outside_the_population_are_refused(self) -> None:
        for loader in (SyntheticText(num_devices=2, seed=0), SyntheticFeatures(num_devices=2, seed=0)):
            with pytest.raises(ValueError, match="device 2"):
                loader.examples(2)


class TestSources:
    def test_synthetic_population_follows_the_model(self) -> None:
        assert isinstance(open_loader(DataSpec(devices=3), model="mlp"), SyntheticFeatures)
        assert isinstance(open_loader(DataSpec(devices=3), model="next_word_small"), SyntheticText)

    def test_ones_own_loader_is_made_by_its_factory(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "own_loader_for_test.py").write_text(
            "from client_sim.data import SyntheticText\n"
            "def make():\n    return SyntheticText(num_devices=7, seed=0)\n"
            "def wrong():\n    return 3\n"
        )
        monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
        assert open_loader(DataSpec(source="own_loader_for_test:make"), model="mlp").num_devices == 7
        with pytest.raises(TuttiError, match="made a int without"):
            open_loader(DataSpec(source="own_loader_for_test:wrong"), model="mlp")

    @pytest.mark.parametrize(
        "source", ["no/such/file.gz", "no_such_module:factory", "client_sim.data:nothing", "client_sim.data:__all__"]
    )
    def test_a_source_that_is_nothing_is_refused(self, source: str) -> None:
        with pytest.raises(TuttiError) as caught:
            open_loader(DataSpec(source=source), model="mlp")
        assert source in str(caught.value)
