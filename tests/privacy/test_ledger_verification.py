"""Whatever is done to a ledger afterwards is found, with its place: edits, removals, moves, other signatures, forks, impossible stories."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from contract import canonical
from privacy import events
from privacy.ledger import entries, export, forms, merkle
from privacy.ledger.checkpoint import Checkpoint
from privacy.ledger.notes import SignerKey
from privacy.ledger.problems import ProblemKind
from privacy.ledger.verification import LoggedEntry, Verdict, endorse, verify

KEY = SignerKey("tutti-ledger/test", bytes(range(32)))
OTHER = SignerKey("tutti-ledger/test", bytes(32))
VECTORS = Path(__file__).parents[1] / "vectors" / "ledger"
TASK: dict[str, canonical.Json] = {"name": "t", "privacy": {"mechanism": "tree", "delta": "0.000001"}}
DIGEST = canonical.digest(TASK)


def run_name(ordinal: int = 0) -> str:
    return canonical.digest({"task": DIGEST, "ordinal": ordinal})


def event(leaves: int, **changes: Any) -> dict[str, canonical.Json]:
    return events.to_json(events.TreeEvent(**{"noise_multiplier": 7.0, "leaves": leaves, "minimum_separation": 1} | changes))


def registered(ordinal: int = 0, **changes: Any) -> bytes:
    facts = {"unit": "device", "adjacency": "zero-out", "not_covered": [], "start_digest": "start"}
    return entries.run_registered(
        **{
            "population": "p", "run": run_name(ordinal), "task": TASK, "task_digest": DIGEST, "code_digest": "c", "planned": event(3),
            "seeded": (), "facts": facts,
        } | changes
    )  # fmt: skip


def charged(number: int, *, leaf: int | None = None, ordinal: int = 0, **changes: Any) -> bytes:
    at = number if leaf is None else leaf
    return entries.round_charged(
        **{
            "population": "p", "run": run_name(ordinal), "round_index": number, "leaf": at, "event": event(at + 1), "floor": 16,
        } | changes
    )  # fmt: skip


def committed(number: int, *, leaf: int | None = None, ordinal: int = 0, **changes: Any) -> bytes:
    at = number if leaf is None else leaf
    return entries.round_committed(
        **{
            "population": "p", "run": run_name(ordinal), "round_index": number, "leaf": at, "event": event(at + 1), "reported": 20,
            "model_digest": f"model-{number}",
        } | changes
    )  # fmt: skip


def abandoned(number: int, leaf: int, *, used: bool) -> bytes:
    return entries.round_abandoned(
        population="p", run=run_name(), round_index=number, leaf=leaf, reason="internal", leaf_used=used
    )


def tuned(event: dict[str, canonical.Json]) -> bytes:
    return entries.parameter_tuned(
        population="p", run=None, parameter="clip_norm", value="1", statistic="norms", reason="r", event=event
    )


STORY = [
    entries.budget_set(
        population="p", budget={"epsilon": "8", "delta": "0.000001", "unit": "device", "adjacency": "zero-out"}, reason="first", by="op"
    ),
    registered(),
    charged(0),
    committed(0),
    abandoned(1, 1, used=False),
    charged(2, leaf=1),
    abandoned(2, 1, used=True),
    registered(1),
    charged(0, ordinal=1),
    committed(0, ordinal=1),
    charged(3, leaf=2),
    committed(3, leaf=2),
    entries.model_released(population="p", run=run_name(), round_index=3, model_digest="model-3", to="export"),
]  # fmt: skip


def logged(bodies: list[bytes]) -> list[LoggedEntry]:
    return [LoggedEntry(index, body, merkle.leaf_hash(body)) for index, body in enumerate(bodies)]


def note(bodies: list[bytes], key: SignerKey = KEY) -> str:
    return Checkpoint(key.name, len(bodies), merkle.frontier(map(merkle.leaf_hash, bodies)).root()).sign(key)


def judged(bodies: list[bytes], **changes: Any) -> Verdict:
    return verify(logged(bodies), **{"key": KEY.verifier, "checkpoints": [note(bodies)]} | changes)


def kinds(verdict: Verdict) -> list[ProblemKind]:
    return [problem.kind for problem in verdict.problems]


def test_what_happened_verifies() -> None:
    verdict = judged(STORY, since=[note(STORY[:5]), note([])])
    assert verdict.problems == ()
    assert verdict.to_json() == {
        "ok": True, "entries": 13, "root": merkle.frontier(map(merkle.leaf_hash, STORY)).root().hex(), "checkpoints": 3,
        "key": KEY.verifier.id.hex(), "problems": [],
    }  # fmt: skip


# -- an editor without the key ---------------------------------------------------------------------------------------------------


def edited(bodies: list[bytes], place: int) -> list[bytes]:
    facts = json.loads(bodies[place])
    facts["population"] = "q"
    return [*bodies[:place], canonical.encode(facts), *bodies[place + 1 :]]


@pytest.mark.parametrize("place", range(len(STORY)))
def test_edited_entry_is_found_where_it_is(place: int) -> None:
    changed = edited(STORY, place)
    naive = [LoggedEntry(index, body, merkle.leaf_hash(STORY[index])) for index, body in enumerate(changed)]
    verdict = verify(naive, key=KEY.verifier, checkpoints=[note(STORY)])
    assert (ProblemKind.EDITED, place) in [(problem.kind, problem.entry) for problem in verdict.problems]
    careful = verify(logged(changed), key=KEY.verifier, checkpoints=[note(STORY)])
    assert ProblemKind.FORKED in kinds(careful)


@pytest.mark.parametrize("place", range(len(STORY)))
def test_removed_entry_is_found(place: int) -> None:
    left = [*STORY[:place], *STORY[place + 1 :]]
    verdict = verify(logged(left), key=KEY.verifier, checkpoints=[note(STORY)])
    assert ProblemKind.REMOVED in kinds(verdict)
    gap = [entry for entry in logged(STORY) if entry.index != place]
    found = verify(gap, key=KEY.verifier, checkpoints=[note(STORY)])
    if place < len(STORY) - 1:
        assert (ProblemKind.OUT_OF_PLACE, place) in [(problem.kind, problem.entry) for problem in found.problems]


@pytest.mark.parametrize("place", range(len(STORY) - 1))
def test_moved_entries_are_found(place: int) -> None:
    moved = [*STORY[:place], STORY[place + 1], STORY[place], *STORY[place + 2 :]]
    assert ProblemKind.FORKED in kinds(verify(logged(moved), key=KEY.verifier, checkpoints=[note(STORY)]))


def test_added_entry_is_covered_by_no_signature() -> None:
    verdict = verify(logged([*STORY, abandoned(4, 3, used=False)]), key=KEY.verifier, checkpoints=[note(STORY)])
    assert [(problem.kind, problem.entry) for problem in verdict.problems] == [(ProblemKind.UNSIGNED, len(STORY))]


def test_ledger_signed_with_another_key_is_refused() -> None:
    assert ProblemKind.SIGNATURE in kinds(verify(logged(STORY), key=KEY.verifier, checkpoints=[note(STORY, OTHER)]))
    assert ProblemKind.UNSIGNED in kinds(verify(logged(STORY), key=KEY.verifier, checkpoints=[]))


# -- an operator who holds the key, against somebody who kept a checkpoint ---------------------------------------------------------


@pytest.mark.parametrize("kept", [1, 4, 8, 13])
@pytest.mark.parametrize("fork", ["edit", "remove", "swap", "insert"])
def test_other_history_under_the_same_key_is_found_by_an_earlier_checkpoint(kept: int, fork: str) -> None:
    place = kept - 1
    forks: dict[str, Callable[[], list[bytes]]] = {
        "edit": lambda: edited(STORY, place),
        "remove": lambda: [*STORY[:place], *STORY[place + 1 :]],
        "swap": lambda: [*STORY[: place - 1], STORY[place], STORY[place - 1], *STORY[place + 1 :]] if place else STORY[::-1],
        "insert": lambda: [*STORY[:place], abandoned(9, 9, used=False), *STORY[place:]],
    }
    forged = forks[fork]()
    verdict = judged(forged, since=[note(STORY[:kept])])
    assert {ProblemKind.FORKED, ProblemKind.REMOVED} & set(kinds(verdict))


def test_fork_is_narrowed_down_by_every_checkpoint_that_still_fits() -> None:
    verdict = judged(edited(STORY, 6), since=[note(STORY[:5]), note(STORY[:9])])
    found = [problem.detail for problem in verdict.problems if problem.kind is ProblemKind.FORKED]
    assert len(found) == 1
    assert "one from 5 to 8" in found[0]


def test_resigned_ledger_is_found_by_the_checkpoint_that_was_kept_even_without_the_key() -> None:
    verdict = verify(logged(STORY), key=OTHER.verifier, checkpoints=[note(STORY, OTHER)], since=[note(STORY[:5])])
    assert kinds(verdict) == [ProblemKind.RESIGNED]


def test_endorsed_key_carries_on_and_an_unendorsed_one_does_not() -> None:
    rotation = entries.key_rotated(
        retired=str(KEY.verifier), current=str(OTHER.verifier), endorsement=endorse(KEY, OTHER.verifier), reason="yearly"
    )
    bodies = [*STORY, rotation]
    for known in (KEY, OTHER):
        verdict = verify(
            logged(bodies), key=known.verifier, checkpoints=[note(STORY), note(bodies, OTHER)], since=[note(STORY[:5])]
        )
        assert verdict.problems == ()
    forged = entries.key_rotated(
        retired=str(KEY.verifier), current=str(OTHER.verifier), endorsement=endorse(OTHER, OTHER.verifier), reason="stolen"
    )
    bodies = [*STORY, forged]
    verdict = verify(logged(bodies), key=KEY.verifier, checkpoints=[note(bodies, OTHER)], since=[note(STORY[:5])])
    assert {ProblemKind.RESIGNED, ProblemKind.SIGNATURE} <= set(kinds(verdict))


# -- impossible stories, properly signed -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("bodies", "kind", "place"),
    [
        ([charged(0)], ProblemKind.WITHOUT_RUN, 0),
        ([registered(), charged(0, population="q")], ProblemKind.WITHOUT_RUN, 1),
        ([registered(), committed(0)], ProblemKind.REVEAL_WITHOUT_CHARGE, 1),
        ([registered(), charged(0), committed(0, leaf=1)], ProblemKind.REVEAL_WITHOUT_CHARGE, 2),
        ([registered(), charged(0), committed(0), committed(1)], ProblemKind.REVEAL_WITHOUT_CHARGE, 3),
        ([registered(), charged(0), charged(1)], ProblemKind.CHARGE_OPEN, 2),
        ([registered(), charged(1)], ProblemKind.OUT_OF_ORDER, 1),
        ([registered(), charged(0), committed(0), charged(1, leaf=2, event=event(3))], ProblemKind.OUT_OF_ORDER, 3),
        ([registered(), charged(0), committed(0, reported=15)], ProblemKind.BELOW_FLOOR, 2),
        ([registered(), charged(0, event=event(1, noise_multiplier=8.0))], ProblemKind.MECHANISM_CHANGED, 1),
        ([registered(), charged(0), committed(0, event=event(1, max_participations=1))], ProblemKind.MECHANISM_CHANGED, 2),
        ([registered(), charged(0), committed(0), charged(1, event=event(1))], ProblemKind.UNDERCHARGED, 3),
        ([registered(), charged(0, event={"kind": "magic"})], ProblemKind.MALFORMED, 1),
        ([registered(), charged(0, event={**event(1), "noise_multiplier": "inf"})], ProblemKind.MALFORMED, 1),
        ([tuned({"kind": "nonsense"})], ProblemKind.MALFORMED, 0),
        ([tuned({**event(1), "leaves": -3})], ProblemKind.MALFORMED, 0),
        ([registered(), abandoned(0, 0, used=True)], ProblemKind.OUT_OF_ORDER, 1),
        ([registered(), charged(0), abandoned(0, 0, used=False)], ProblemKind.OUT_OF_ORDER, 2),
        ([registered(), registered()], ProblemKind.RUN_TWICE, 1),
        ([registered(1)], ProblemKind.RUN_ID, 0),
        ([registered(task={"name": "other"})], ProblemKind.TASK_DIGEST, 0),
        (
            [registered(), entries.model_released(population="p", run=run_name(), round_index=0, model_digest="x", to="export")],
            ProblemKind.MODEL_WITHOUT_ENTRY,
            1,
        ),
        ([b'{"format":1}'], ProblemKind.MALFORMED, 0),
        ([b"{"], ProblemKind.MALFORMED, 0),
        ([registered() + b" "], ProblemKind.MALFORMED, 0),
    ],
)  # fmt: skip
def test_impossible_story_is_found_where_it_breaks(bodies: list[bytes], kind: ProblemKind, place: int) -> None:
    verdict = judged(bodies)
    assert (kind, place) in [(problem.kind, problem.entry) for problem in verdict.problems]


@pytest.mark.parametrize(
    "body",
    [
        b'{"a":1.5}', b'{"a":NaN}', b'{"b":1,"a":2}', b'{"a":1,"a":1}', b"[]", b'{"format":2,"kind":"approval"}',
        b'{"format":1,"kind":"gossip"}', b'{"by":"x","format":1,"kind":"budget-set","population":"p","reason":"r"}',
        b'{"by":"x","format":1,"kind":"budget-set","budget":null,"population":"p","reason":"r","run":null}',
    ],
)  # fmt: skip
def test_what_is_no_released_form_is_refused(body: bytes) -> None:
    with pytest.raises(ValueError, match=r"JSON|format|kind|entry"):
        forms.read(body)


# -- exports -----------------------------------------------------------------------------------------------------------------------


def test_export_is_read_back_whole() -> None:
    found = export.read(export.lines(KEY.verifier, STORY, [note(STORY)]))
    assert [entry.body for entry in found.entries] == STORY
    assert verify(found.entries, key=found.key, checkpoints=found.checkpoints).ok


@pytest.mark.parametrize("damage", ["head", "tail", "line", "empty"])
def test_damaged_export_is_refused_with_its_line(damage: str) -> None:
    lines = list(export.lines(KEY.verifier, STORY, [note(STORY)]))
    broken = {"head": lines[1:], "tail": lines[:-1], "line": [*lines[:4], lines[4][:-9], *lines[5:]], "empty": []}[damage]
    with pytest.raises(ValueError, match=r"line 1 |line 5 |cut off"):
        export.read(broken)


def test_a_run_that_was_registered_on_top_of_another_history_is_found_without_any_checkpoint() -> None:
    head = merkle.frontier(map(merkle.leaf_hash, STORY[:1]))
    facts = {"unit": "device", "adjacency": "zero-out", "not_covered": [], "start_digest": "start"}
    named = registered(facts={**facts, "known_head": {"size": head.size, "root": head.root().hex()}})

    def kinds(bodies: list[bytes]) -> set[ProblemKind]:
        found = verify(
            [LoggedEntry(place, body) for place, body in enumerate(bodies)], key=KEY.verifier, checkpoints=[], complete=False
        )
        return {problem.kind for problem in found.problems}

    assert kinds([STORY[0], named]) == set()
    other = STORY[0].replace(b'"op"', b'"us"')
    assert kinds([other, named]) == {ProblemKind.FORKED}
    assert kinds([named]) == {ProblemKind.FORKED}


# -- committed examples of every released form -------------------------------------------------------------------------------------

FORMS: dict[str, Any] = json.loads((VECTORS / "entries.json").read_text())


def test_every_kind_of_entry_has_a_committed_example() -> None:
    assert {case["kind"] for case in FORMS["entries"]} == {kind.value for kind in entries.EntryKind}


@pytest.mark.parametrize("case", FORMS["entries"], ids=lambda case: case["kind"])
def test_released_form_is_still_read_and_still_written_byte_for_byte(case: dict[str, Any]) -> None:
    body = case["body"].encode()
    assert forms.read(body)["kind"] == case["kind"]
    assert merkle.leaf_hash(body).hex() == case["leaf_hash"]
    make = getattr(entries, case["made_by"])
    assert make(**{name: tuple(value) if name == "seeded" else value for name, value in case["arguments"].items()}) == body


def test_released_ledger_still_verifies() -> None:
    found = export.read((VECTORS / "export.jsonl").read_text("utf-8").splitlines())
    kept = (VECTORS / "kept-checkpoint.txt").read_text("utf-8")
    verdict = verify(found.entries, key=found.key, checkpoints=found.checkpoints, since=[kept])
    assert verdict.problems == ()
    assert verdict.entries == 13
