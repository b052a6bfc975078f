"""The journal gives back what was saved for the last two rounds, to the bit, however little of it was written."""

import sqlite3
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from client_sim.journal import FleetJournal, FleetState
from client_sim.oracle import ParticipationOracle
from client_sim.records import NEVER, ParticipationRecords
from contract.errors import TuttiError
from contract.randomness import stream

SIZE = 60
Bits = tuple[float, bytes, bytes, bytes]


class Fleet:
    """Something that changes as a fleet does."""

    def __init__(self, seed: int, size: int = SIZE) -> None:
        self.random, self.size, self.round = stream(seed, "fleet"), size, 0
        self.records = ParticipationRecords(num_devices=size)
        self.oracle = ParticipationOracle(num_devices=size, minimum_separation=0, max_participations=None)
        self.wakes_s = self.random.random(size)

    def play(self, share: float) -> None:
        chosen = np.flatnonzero(self.random.random(self.size) < share)
        self.records.charge(chosen[self.records.last(chosen) < self.round], self.round)
        self.oracle.observe(self.round, chosen)
        self.wakes_s[chosen] += 1 + self.random.random(len(chosen))
        self.round += 1

    def state(self, windows: bytes = b"") -> FleetState:
        return FleetState(
            now_s=self.round + 0.1, wakes_s=self.wakes_s, records=self.records.snapshot(), oracle=self.oracle.dump(), windows=windows
        )  # fmt: skip


def bits(state: FleetState | None) -> Bits:
    assert state is not None
    return state.now_s, state.wakes_s.tobytes(), state.records.tobytes(), state.oracle


def rows(path: Path, table: str) -> list[int]:
    with sqlite3.connect(path) as database:
        return [index for (index,) in database.execute(f"SELECT round_index FROM {table} ORDER BY round_index")]


@given(
    seed=st.integers(0, 1000),
    steps=st.lists(st.tuples(st.sampled_from([0.0, 0.02, 0.1, 0.9]), st.sampled_from(["on", "stop", "back"])), max_size=40),
)
@settings(max_examples=40, deadline=None)
def test_the_states_of_the_last_two_rounds_are_as_they_were(
    tmp_path_factory: pytest.TempPathFactory, seed: int, steps: list[tuple[float, str]]
) -> None:
    """Also if the run was stopped, and went on from either of them."""
    path, fleet, saved = tmp_path_factory.mktemp("journal") / "devices.db", Fleet(seed), dict[int, Bits]()
    journal = FleetJournal(path, run="r")
    journal.save(0, fleet.state())
    saved[0] = bits(fleet.state())
    for share, then in steps:
        fleet.play(share)
        journal.save(fleet.round, fleet.state())
        saved[fleet.round] = bits(fleet.state())
        for index in {fleet.round, fleet.round - 1}:
            assert bits(journal.load(index)) == saved[index]
        latest = journal.latest()
        assert latest is not None
        assert (latest[0], bits(latest[1])) == (fleet.round, saved[fleet.round])
        assert 1 <= len(rows(path, "fleet_state")) <= 2
        if then == "on":
            continue
        journal.close()
        journal = FleetJournal(path, run="r")
        back = fleet.round - (then == "back")
        state = journal.load(back)
        assert bits(state) == saved[back]
        assert state is not None
        fleet.round, fleet.wakes_s = back, state.wakes_s
        fleet.records.restore(state.records)
        fleet.oracle.load(state.oracle)
    journal.close()


def test_a_round_that_changes_little_writes_little(tmp_path: Path) -> None:
    path, fleet = tmp_path / "devices.db", Fleet(1, 10_000)
    journal = FleetJournal(path, run="r")
    for _ in range(30):
        journal.save(fleet.round, fleet.state())
        fleet.play(0.002)
    assert rows(path, "fleet_state") == [0]
    with sqlite3.connect(path) as database:
        (largest,) = database.execute("SELECT max(length(places) + length(words)) FROM fleet_changes").fetchone()
    assert largest < 40 * 12 * 8  # of 20 devices, as many as 40 by far: eight words each, with their places
    for _ in range(3):
        fleet.play(1.0)
        journal.save(fleet.round, fleet.state())
    assert len(rows(path, "fleet_state")) + len(rows(path, "fleet_changes")) <= 3
    journal.close()


def test_a_round_that_is_missing_between_others_is_not_made_up(tmp_path: Path) -> None:
    path, fleet = tmp_path / "devices.db", Fleet(1)
    journal = FleetJournal(path, run="r")
    for _ in range(4):
        journal.save(fleet.round, fleet.state())
        fleet.play(0.02)
    with sqlite3.connect(path) as database:
        database.execute("DELETE FROM fleet_changes WHERE round_index = 2")
    assert bits(journal.load(1))[0] == 1.1
    for index in (2, 3, 4):
        with pytest.raises(TuttiError, match=f"does not hold round {index}"):
            journal.load(index)
    journal.close()


def test_runs_are_apart_and_one_that_is_over_is_forgotten(tmp_path: Path) -> None:
    path, fleet = tmp_path / "devices.db", Fleet(1)
    mine, other = FleetJournal(path, run="mine"), FleetJournal(path, run="other")
    for journal in (mine, other):
        journal.save(0, fleet.state())
    fleet.play(0.02)
    for journal in (mine, other):
        journal.save(1, fleet.state(windows=b"learnt"))
    mine.forget()
    assert (mine.latest(), mine.load(0)) == (None, None)
    latest = other.latest()
    assert latest is not None
    assert (latest[0], latest[1].windows) == (1, b"learnt")
    assert bits(latest[1]) == bits(fleet.state())
    mine.save(1, fleet.state())  # whole: there is nothing to build on
    assert bits(mine.load(1)) == bits(fleet.state())
    mine.close()
    other.close()


def test_nothing_builds_on_a_state_that_could_not_be_written(tmp_path: Path) -> None:
    path, fleet = tmp_path / "devices.db", Fleet(1)
    journal = FleetJournal(path, run="r")
    for _ in range(3):
        journal.save(fleet.round, fleet.state())
        fleet.play(0.02)
    with pytest.raises(sqlite3.Error):
        journal.save(fleet.round, fleet.state(windows=object()))  # type: ignore[arg-type]
    expected = bits(fleet.state())
    assert bits(journal.load(2))[0] == 2.1
    journal.save(fleet.round, fleet.state())
    assert bits(journal.load(3)) == expected
    assert bits(journal.load(2))[0] == 2.1
    journal.close()


def test_states_of_before_changes_were_kept_are_read(tmp_path: Path) -> None:
    path, fleet = tmp_path / "devices.db", Fleet(1)
    fleet.play(0.5)
    state = fleet.state()
    FleetJournal(path, run="r").close()
    with sqlite3.connect(path) as database:
        row = ("r", 7, state.now_s, state.wakes_s.tobytes(), state.records.tobytes(), state.oracle)
        database.execute("INSERT INTO fleet_state VALUES (?, ?, ?, ?, ?, ?)", row)
    journal = FleetJournal(path, run="r")
    assert bits(journal.load(7)) == bits(state)
    loaded = journal.load(7)
    assert loaded is not None
    assert (loaded.records[1] >= NEVER).all()
    journal.close()
