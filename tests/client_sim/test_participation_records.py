import itertools
import resource
import signal
import sqlite3
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from client_sim.journal import FleetJournal, FleetState
from client_sim.records import NEVER, ParticipationRecords

ALL = np.arange(4)


@given(
    separation=st.integers(0, 6),
    cap=st.none() | st.integers(1, 5),
    offers=st.lists(st.tuples(st.integers(0, 3), st.booleans()), max_size=80),
)
@settings(max_examples=60, deadline=None)
def test_separation_and_cap_hold_whatever_the_server_offers(
    separation: int, cap: int | None, offers: list[tuple[int, bool]]
) -> None:
    records = ParticipationRecords(num_devices=4)
    taken: dict[int, list[int]] = {device: [] for device in range(4)}
    for index, (device, refunded) in enumerate(offers):
        chosen = np.array([device])
        if not records.eligible(chosen, index, minimum_separation=separation, max_participations=cap)[0]:
            continue
        records.charge(chosen, index)
        if refunded:
            records.refund(chosen, index)
        else:
            records.mark_sent(chosen, index)
            taken[device].append(index)
    for indices in taken.values():
        # s counts the rounds strictly between two participations, so j - i >= s + 1.
        assert all(later - earlier >= separation + 1 for earlier, later in itertools.pairwise(indices))
        assert cap is None or len(indices) <= cap


def test_the_same_release_is_never_joined_twice() -> None:
    records = ParticipationRecords(num_devices=4)
    records.charge(ALL, 0)
    assert not records.eligible(ALL, 0).any()
    with pytest.raises(ValueError, match="took part in release 0"):
        records.charge(ALL[:1], 0)


def test_a_young_or_reset_record_does_not_take_part() -> None:
    records = ParticipationRecords(num_devices=4, created_s=100.0)
    assert not records.eligible(ALL, 3, now_s=149.0, trustworthiness_s=50.0).any()
    assert records.eligible(ALL, 3, now_s=150.0, trustworthiness_s=50.0).all()
    records.reset(np.array([2]), now_s=160.0)
    assert records.eligible(ALL, 3, now_s=200.0, trustworthiness_s=50.0).tolist() == [True, True, False, True]


def test_an_abort_before_the_last_chunk_gives_the_participation_back_once() -> None:
    records = ParticipationRecords(num_devices=4)
    records.charge(ALL[:1], 2)
    records.mark_sent(ALL[:1], 2)
    records.charge(ALL[:1], 5)
    records.refund(ALL[:1], 5)
    assert records.last(ALL[:1]).tolist() == [2]
    assert records.participations(ALL).tolist() == [1, 0, 0, 0]
    with pytest.raises(ValueError, match="is not charged for release 5"):
        records.refund(ALL[:1], 5)
    with pytest.raises(ValueError, match="sent its last chunk"):
        records.refund(ALL[:1], 2)


def test_nothing_is_given_back_after_the_last_chunk() -> None:
    records = ParticipationRecords(num_devices=4)
    records.charge(ALL, 2)
    records.mark_sent(ALL[1:2], 2)
    with pytest.raises(ValueError, match="device 1 has sent its last chunk"):
        records.refund(ALL, 2)
    assert records.last(ALL).tolist() == [2, 2, 2, 2]


def test_a_simulation_may_put_its_records_back(tmp_path: Path) -> None:
    path = tmp_path / "records.sqlite"
    records = ParticipationRecords(num_devices=4, path=path, scope="a")
    records.charge(ALL[:2], 3)
    before = records.snapshot()
    records.charge(ALL[1:], 4)
    records.restore(before)
    records.close()
    again = ParticipationRecords(num_devices=4, path=path, scope="a")
    assert again.last(ALL).tolist() == [3, 3, NEVER, NEVER]
    again.close()


def test_a_device_cannot_be_charged_twice_at_once() -> None:
    with pytest.raises(ValueError, match="once each"):
        ParticipationRecords(num_devices=4).charge(np.array([1, 1]), 0)


def test_records_outlive_the_process_and_scopes_are_apart(tmp_path: Path) -> None:
    path = tmp_path / "fleet" / "records.sqlite"
    first = ParticipationRecords(num_devices=4, path=path, scope="a", created_s=7.0)
    first.charge(ALL[:2], 9)
    first.mark_sent(ALL[:1], 9)
    first.close()
    again = ParticipationRecords(num_devices=4, path=path, scope="a", created_s=1e9)
    other = ParticipationRecords(num_devices=4, path=path, scope="b")
    assert again.last(ALL).tolist() == [9, 9, NEVER, NEVER]
    assert again.eligible(ALL, 20, trustworthiness_s=5.0, now_s=100.0).tolist() == [True, True, False, False]
    with pytest.raises(ValueError, match="sent its last chunk"):
        again.refund(ALL[:1], 9)
    assert other.last(ALL).tolist() == [NEVER] * 4
    again.close()
    other.close()


def charge_twice(records: ParticipationRecords, devices: np.ndarray) -> None:
    with records.together():
        records.charge(devices, 4)
        records.charge(devices, 4)


def test_changes_together_are_written_once_and_whatever_happens(tmp_path: Path) -> None:
    path, devices = tmp_path / "devices.db", np.arange(5)
    records = ParticipationRecords(num_devices=5, path=path)

    def kept() -> list[int]:
        other = ParticipationRecords(num_devices=5, path=path)
        counts = other.participations(devices).tolist()
        other.close()
        return counts

    with records.together():
        records.charge(devices, 3)
        records.refund(devices[3:], 3)
        assert kept() == [0, 0, 0, 0, 0]
    assert kept() == [1, 1, 1, 0, 0]
    with pytest.raises(ValueError, match="took part in release 4"):
        charge_twice(records, devices[:1])
    assert kept() == [2, 1, 1, 0, 0]
    records.charge(devices[1:2], 5)
    assert kept() == [2, 2, 1, 0, 0]
    records.close()


@pytest.mark.parametrize("own_file", [False, True])
def test_what_is_held_back_is_on_disk_with_the_fleets_state_or_not_at_all(tmp_path: Path, own_file: bool) -> None:
    path, devices = tmp_path / "devices.db", np.arange(5)
    records = ParticipationRecords(num_devices=5, path=path)
    journal = FleetJournal(tmp_path / "journal.db" if own_file else path, run="r")
    state = FleetState(now_s=1.0, wakes_s=np.zeros(5), records=records.snapshot())

    def kept() -> int:
        other = ParticipationRecords(num_devices=5, path=path)
        count = int(other.participations(devices).sum())
        other.close()
        return count

    records.hold_back()
    records.charge(devices[:2], 0)
    assert kept() == 0
    no_state = FleetState(now_s=1.0, wakes_s=np.zeros(5), records=records.snapshot(), windows=object())  # type: ignore[arg-type]
    with pytest.raises(sqlite3.Error):
        journal.save(1, no_state, records=records)
    assert (kept(), journal.latest()) == (2 if own_file else 0, None)
    journal.save(1, state, records=records)
    latest = journal.latest()
    assert latest is not None
    assert (kept(), latest[0]) == (2, 1)
    records.charge(devices[2:3], 0)  # at once again
    assert kept() == 3
    records.close()
    journal.close()


def test_what_a_full_disk_kept_from_being_committed_is_still_held_back(tmp_path: Path) -> None:
    path, devices = tmp_path / "devices.db", np.arange(20_000)
    records, journal = ParticipationRecords(num_devices=20_000, path=path), FleetJournal(path, run="r")
    limits, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)

    def save(index: int) -> None:
        state = FleetState(now_s=1.0, wakes_s=np.full(20_000, float(index)), records=records.snapshot())
        journal.save(index, state, records=records)

    save(0)
    records.hold_back()
    records.charge(devices[:5000], 0)
    largest = (tmp_path / "devices.db-wal").stat().st_size + 100_000
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (largest, limits[1]))
        with pytest.raises(sqlite3.Error):
            save(1)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    save(1)
    records.close()
    journal.close()
    found = ParticipationRecords(num_devices=20_000, path=path)
    assert int(found.participations(devices).sum()) == 5000
    found.close()


def test_a_commit_is_forced_to_the_disk(tmp_path: Path) -> None:
    journal = FleetJournal(tmp_path / "devices.db", run="r")
    assert journal._database.execute("PRAGMA synchronous").fetchone() == (2,)  # pyright: ignore[reportPrivateUsage]
    journal.close()
