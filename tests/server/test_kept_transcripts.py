"""Transcripts of secure sums are kept until they expire, hold no secret, and are held against the ledger's digests."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from privacy.ledger import entries
from privacy.report import checklist
from secagg import Parameters, Phase, Vector, choose, transcript_json
from secagg.testing import Outcome, context_of, run_round
from server import transcripts
from server.transcripts import KEPT_DAYS, TranscriptFolder, TranscriptState

RUN = "ab" * 32
UPDATE = Vector(name="update", length=11, lane_bits=16, largest=500)


@pytest.fixture(scope="module")
def outcome() -> Outcome:
    parameters: Parameters = choose(
        roster_size=9, minimum_roster=7, vectors=(UPDATE,), corrupt_fraction=0.12, drop_fraction=0.15
    )
    inputs = {100 + place: {"update": np.full(11, place, np.int64)} for place in range(9)}
    context = replace(context_of(parameters), round_id=f"{RUN}/4")
    return run_round(context, inputs, leaves={103: Phase.MASKED_INPUT})


def entry(outcome: Outcome, **changes: Any) -> bytes:
    facts = {
        "population": "p",
        "run": RUN,
        "round_index": 4,
        "group": 0,
        "transcript": outcome.transcript.head.hex(),
        "facts": {},
    }
    return entries.secagg_transcript(**facts | changes)


def kept(outcome: Outcome, directory: Path) -> TranscriptFolder:
    folder = TranscriptFolder(directory)
    folder.keep(RUN, 4, 0, outcome.transcript, outcome.authority)
    return folder


def test_a_kept_transcript_is_read_as_it_was_and_is_sound(outcome: Outcome, tmp_path: Path) -> None:
    folder = kept(outcome, tmp_path)
    raw = folder.read(RUN, 4, 0)
    assert raw is not None
    assert transcript_json.decode(raw) == (outcome.transcript, outcome.authority)
    assert (tmp_path / RUN / "4-0.json").stat().st_mode & 0o077 == 0
    (found,) = transcripts.check([entry(outcome)], folder.read)
    assert (found.state, found.devices, found.authority) == (TranscriptState.SOUND, 9, outcome.authority.hex())


def test_a_transcript_holds_public_keys_and_signatures_only(outcome: Outcome) -> None:
    body = json.loads(transcript_json.encode(outcome.transcript, authority=outcome.authority))
    assert set(body) == {"format", "authority", "context", "advertised", "sharers", "survivors", "consistency", "releases"}
    for slot, released, signature in body["releases"]:
        assert isinstance(slot, int)
        assert {kind for _, kind in released} <= {"self mask", "mask key"}  # which share, and no share
        assert len(bytes.fromhex(signature)) == 64
    assert {len(row) for row in body["advertised"]} == {6}


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (lambda body: body["releases"].append(body["releases"][0]), "not the transcript that was recorded"),
        (lambda body: body["context"].update(round_id="else"), "not the transcript that was recorded"),
        (lambda body: body["advertised"][0].pop(), "expected 6"),
        (lambda body: body.update(authority="00"), "32 bytes are expected"),
        (lambda body: body.update(format="other"), "the format is"),
        (lambda body: body.pop("survivors"), "no transcript: KeyError"),
        (lambda body: body.update(consistency=3), "no transcript: TypeError"),
    ],
)
def test_a_changed_file_is_a_fault(change: Any, fault: str, outcome: Outcome, tmp_path: Path) -> None:
    folder, path = kept(outcome, tmp_path), tmp_path / RUN / "4-0.json"
    body = json.loads(path.read_bytes())
    change(body)
    path.write_text(json.dumps(body))
    (found,) = transcripts.check([entry(outcome)], folder.read)
    assert found.state is TranscriptState.FAULTY
    assert fault in "; ".join(found.faults)


def test_one_transcript_does_not_stand_for_another_round(outcome: Outcome, tmp_path: Path) -> None:
    folder = TranscriptFolder(tmp_path)
    folder.keep(RUN, 5, 0, outcome.transcript, outcome.authority)
    (found,) = transcripts.check([entry(outcome, round_index=5)], folder.read)
    assert found.faults == (f"it is of {RUN}/4",)


def test_another_authority_certified_nobody(outcome: Outcome, tmp_path: Path) -> None:
    (found,) = transcripts.check([entry(outcome)], kept(outcome, tmp_path).read, authority=bytes(32))
    assert any("not certified" in fault for fault in found.faults)


def test_transcripts_expire_and_a_run_keeps_no_more_than_its_newest(
    outcome: Outcome, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transcripts, "MOST_FILES", 2)
    now_s = 2_000_000_000.0
    folder = TranscriptFolder(tmp_path, now_s=lambda: now_s)
    for number in range(4):
        folder.keep(RUN, number, 0, outcome.transcript, outcome.authority)
        now_s += 86_400
    assert sorted(path.name for path in (tmp_path / RUN).iterdir()) == ["2-0.json", "3-0.json"]
    (found,) = transcripts.check([entry(outcome, round_index=0)], folder.read)
    assert found.state is TranscriptState.NOT_KEPT
    now_s += (KEPT_DAYS - 1.5) * 86_400
    folder.keep("cd" * 32, 0, 0, outcome.transcript, outcome.authority)
    assert [path.name for path in (tmp_path / RUN).iterdir()] == ["3-0.json"]
    now_s += 86_400
    folder.expire()
    assert not list((tmp_path / RUN).iterdir())


def test_the_report_names_how_long_transcripts_are_kept() -> None:
    said = checklist._TRANSCRIPTS  # pyright: ignore[reportPrivateUsage] - two packages that do not know each other say one number
    assert f"{KEPT_DAYS} days" in said
