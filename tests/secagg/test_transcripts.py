"""An auditor sees from the transcript alone that every device released one share a neighbour, and any change to it."""

import json
from dataclasses import replace

import pytest

from secagg import Phase, Vector, audit, choose
from secagg.messages import ShareKind
from secagg.receipt import is_genuine
from secagg.testing import context_of, run_round


@pytest.fixture
def outcome(context, draw_inputs):
    return run_round(context, draw_inputs(context.parameters), leaves={103: Phase.MASKED_INPUT, 105: Phase.UNMASKING})


def test_honest_transcript_has_no_fault(outcome):
    assert audit(outcome.transcript, outcome.authority, outcome.transcript.head) == ()
    assert len(outcome.transcript.releases) == 7


def test_unfinished_round_has_a_transcript_from_the_survivors_on(context, draw_inputs):
    early = run_round(context, draw_inputs(context.parameters), leaves=dict.fromkeys(range(100, 104), Phase.MASKED_INPUT))
    assert early.transcript is None
    late = run_round(context, draw_inputs(context.parameters), leaves=dict.fromkeys(range(100, 104), Phase.CONSISTENCY_CHECK))
    assert late.transcript.releases == ()
    assert audit(late.transcript, late.authority) == ()


def twist_kind(release):
    (peer, kind), *rest = release.released
    other = ShareKind.MASK_KEY if kind is ShareKind.SELF_MASK else ShareKind.SELF_MASK
    return replace(release, released=((peer, other), *rest))


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (lambda t: replace(t, releases=(*t.releases, t.releases[0])), "released twice"),
        (lambda t: replace(t, releases=(twist_kind(t.releases[0]), *t.releases[1:])), "wrong kind"),
        (lambda t: replace(t, releases=(replace(t.releases[0], released=t.releases[0].released * 2), *t.releases[1:])), "two shares"),
        (lambda t: replace(t, releases=(replace(t.releases[0], slot=99), *t.releases[1:])), "without having survived"),
        (lambda t: replace(t, releases=(replace(t.releases[0], signature=bytes(64)), *t.releases[1:])), "not signed"),
        (lambda t: replace(t, consistency=t.consistency[:3]), "too few neighbours"),
        (lambda t: replace(t, consistency=((0, bytes(64)), *t.consistency[1:])), "no signature over"),
        (lambda t: replace(t, survivors=b"\x0f\x00"), "below the floor"),
        (lambda t: replace(t, survivors=b"\xff\xff"), "do not fit"),
        (lambda t: replace(t, sharers=b"\x00\x01"), "did not share keys"),
        (lambda t: replace(t, advertised=t.advertised[::-1]), "out of order"),
        (lambda t: replace(t, advertised=(replace(t.advertised[0], signature=bytes(64)), *t.advertised[1:])), "not signed for this round"),
        (lambda t: replace(t, context=replace(t.context, model_digest="ff" * 32)), "not signed for this round"),
    ],
)  # fmt: skip
def test_every_change_is_a_fault(change, fault, outcome):
    changed = change(outcome.transcript)
    faults = audit(changed, outcome.authority, outcome.transcript.head)
    assert any(fault in one for one in faults), faults
    assert faults[0] == "this is not the transcript that was recorded"


@pytest.mark.parametrize("number", [-1, 99])
@pytest.mark.parametrize("place", ["slot", "released", "consistency"])
def test_slots_beyond_the_roster_are_faults_and_no_crash(number, place, outcome):
    first, *rest = outcome.transcript.releases
    changes = {
        "slot": {"releases": (replace(first, slot=number), *rest)},
        "released": {"releases": (replace(first, released=((number, ShareKind.SELF_MASK),)), *rest)},
        "consistency": {"consistency": ((number, bytes(64)),)},
    }
    changed = replace(outcome.transcript, **changes[place])
    assert audit(changed, outcome.authority, outcome.transcript.head)


def test_transcript_of_uncertified_devices_is_a_fault(outcome):
    assert any("not certified" in fault for fault in audit(outcome.transcript, bytes(32)))


def test_chain_commits_to_every_entry(outcome):
    chain = outcome.transcript.chain()
    assert len(chain) == len(set(chain)) == 1 + 9 + 1 + 8 + 7


def test_receipt_says_what_the_device_agreed_to(outcome, context):
    receipt = outcome.clients[100].receipt()
    assert is_genuine(receipt, outcome.authority, context.epoch)
    body = json.loads(receipt.body)
    assert body["cohort"] == 9
    assert body["degree"] == 8
    assert body["threshold"] == 6
    assert body["minimum_survivors"] == context.parameters.minimum_survivors
    assert body["model_digest"] == context.model_digest
    assert body["ledger_checkpoint"] == context.ledger_checkpoint
    assert [vector["lane_bits"] for vector in body["vectors"]] == [16, 32]
    assert not is_genuine(replace(receipt, body=receipt.body.replace(b'"cohort":9', b'"cohort":8')), outcome.authority, 1)
    assert not is_genuine(receipt, outcome.authority, context.epoch + 1)


def test_device_that_left_gives_no_receipt(outcome):
    outcome.clients[100].leave()
    assert outcome.clients[100].receipt() is None


def test_releases_on_a_ring_without_enough_witnesses_are_a_fault(draw_inputs):
    update = Vector(name="u", length=2, lane_bits=20, largest=9)
    asked = choose(roster_size=70, vectors=(update,), corrupt_fraction=0.0, drop_fraction=0.05)
    outcome = run_round(context_of(asked), draw_inputs(asked))
    graph, transcript = outcome.server.membership.graph, outcome.transcript
    assert audit(transcript, outcome.authority) == ()
    silent = set(graph.witnesses[: asked.degree - asked.threshold + 1])
    faults = audit(
        replace(transcript, consistency=tuple(pair for pair in transcript.consistency if pair[0] not in silent)),
        outcome.authority,
    )
    assert sum("too few witnesses had signed" in fault for fault in faults) == len(transcript.releases)
