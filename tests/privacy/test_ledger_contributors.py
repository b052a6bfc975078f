"""A ledger whose events count noise that the recorded sums do not hold is found out."""

from typing import Any

import pytest

from contract import canonical
from privacy import events
from privacy.ledger import entries, merkle
from privacy.ledger.checkpoint import Checkpoint
from privacy.ledger.notes import SignerKey
from privacy.ledger.problems import ProblemKind
from privacy.ledger.verification import LoggedEntry, verify

KEY = SignerKey("tutti-ledger/test", bytes(range(32)))
TASK: dict[str, canonical.Json] = {
    "name": "t", "privacy": {"mechanism": "ddg", "delta": "0.000001"}, "cohort": {"minimum_separation": 0, "max_participations": 2},
}  # fmt: skip
RUN = canonical.digest({"task": canonical.digest(TASK), "ordinal": 0})


def event(*contributors: int, participations: int | None = None) -> dict[str, canonical.Json]:
    return events.to_json(
        events.DistributedEvent(
            mechanism="ddg", dimension=8, squared_norm=100, local_sigma=4.0, contributors=contributors,
            participations=len(contributors) if participations is None else participations,
        )
    )  # fmt: skip


def story(*outcomes: dict[str, canonical.Json]) -> list[bytes]:
    """A run of rounds with 20, 18 and 19 devices at a floor of 16, whose outcomes say what they say."""
    bodies = [
        entries.run_registered(
            population="p", run=RUN, task=TASK, task_digest=canonical.digest(TASK), code_digest="c", planned=event(16, 16), seeded=(),
            facts={"unit": "device", "adjacency": "zero-out", "not_covered": [], "start_digest": "start"},
        )
    ]  # fmt: skip
    charges = (event(16), event(16, 20), event(16, 18))
    for number, (reported, charge, outcome) in enumerate(zip((20, 18, 19), charges, outcomes, strict=False)):
        at: dict[str, Any] = {"population": "p", "run": RUN, "round_index": number, "leaf": number}
        bodies.append(entries.round_charged(**at, floor=16, event=charge))
        bodies.append(entries.round_committed(**at, reported=reported, model_digest=f"m{number}", event=outcome))
    return bodies


def problems(bodies: list[bytes]) -> list[ProblemKind]:
    logged = [LoggedEntry(index, body, merkle.leaf_hash(body)) for index, body in enumerate(bodies)]
    note = Checkpoint(KEY.name, len(bodies), merkle.frontier(map(merkle.leaf_hash, bodies)).root()).sign(KEY)
    return [problem.kind for problem in verify(logged, key=KEY.verifier, checkpoints=[note]).problems]


def test_the_noise_of_the_smallest_sums_counts() -> None:
    assert problems(story(event(20), event(18, 20), event(18, 19))) == []


@pytest.mark.parametrize(
    "told",
    [
        (event(21),),
        (event(20), event(20, 20)),
        (event(20), event(20)),
        (event(20), event(18, 20, participations=1)),
        (event(20), event(18, 20), event(19, 20)),
    ],
    ids=["more than reported", "an earlier sum", "one participation", "one counted", "a smaller sum forgotten"],
)
def test_noise_that_is_in_no_sum_is_undercharged(told: tuple[dict[str, canonical.Json], ...]) -> None:
    assert set(problems(story(*told))) == {ProblemKind.UNDERCHARGED}


SPLIT: dict[str, canonical.Json] = {
    "name": "t", "privacy": {"mechanism": "ddg", "delta": "0.000001"}, "cohort": {"report_goal": 40},
    "aggregation": {"secure": True, "group_size": 20, "corrupt_fraction": "0.1"},
}  # fmt: skip


def split_story(told: dict[str, canonical.Json], colluding: dict[str, canonical.Json] | None, *, reported: int) -> list[bytes]:
    """One round in two groups of 20 at a floor of 16 each, of whom 2 may show their noise."""
    digest = canonical.digest(SPLIT)
    run = canonical.digest({"task": digest, "ordinal": 0})
    facts: dict[str, canonical.Json] = {"unit": "device", "adjacency": "zero-out", "not_covered": [], "start_digest": "start"}
    at: dict[str, Any] = {"population": "p", "run": run, "round_index": 0, "leaf": 0}
    second = {} if colluding is None else {"colluding": colluding}
    return [
        entries.run_registered(
            population="p", run=run, task=SPLIT, task_digest=digest, code_digest="c", planned=event(16), seeded=(),
            facts={**facts, "planned_colluding": event(14)},
        ),
        entries.round_charged(**at, floor=16, event=event(16), colluding=event(14)),
        entries.round_committed(**at, reported=reported, model_digest="m0", event=told, **second),
    ]  # fmt: skip


@pytest.mark.parametrize(("reported", "fewest"), [(40, 20), (38, 18), (30, 16), (16, 16)])
def test_a_split_cohort_has_the_noise_of_its_smallest_sum(reported: int, fewest: int) -> None:
    assert problems(split_story(event(fewest), event(fewest - 2), reported=reported)) == []
    assert problems(split_story(event(fewest + 1), event(fewest - 2), reported=reported)) == [ProblemKind.UNDERCHARGED]


def test_the_claim_against_a_colluding_server_counts_no_corrupt_devices() -> None:
    assert problems(split_story(event(20), event(20), reported=40)) == [ProblemKind.UNDERCHARGED]
    assert problems(split_story(event(20), None, reported=40)) == [ProblemKind.UNDERCHARGED]
