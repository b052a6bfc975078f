"""Parameters that follow released sums: covered by a round that is on the record, or found out."""

import json
from typing import Any

import pytest

from contract import canonical
from privacy import events
from privacy.ledger import entries, forms, spending
from privacy.ledger.history import History
from privacy.ledger.problems import ProblemKind
from privacy.report import run_record

TASK: dict[str, canonical.Json] = {
    "name": "t",
    "privacy": {"mechanism": "gaussian", "delta": "0.000001", "adaptive_clip": {"target_quantile": "0.5"}},
}
DIGEST = canonical.digest(TASK)
RUN = canonical.digest({"task": DIGEST, "ordinal": 0})


def event(releases: int) -> dict[str, canonical.Json]:
    return events.to_json(events.GaussianEvent(noise_multiplier=2.0, releases=releases))


def tuned(**changes: Any) -> bytes:
    return entries.parameter_tuned(
        **{
            "population": "p", "run": RUN, "parameter": "clip_norm", "value": "0.5", "statistic": "the noised sums of bits",
            "event": None, "reason": "follows", "covered_by": 0,
        } | changes
    )  # fmt: skip


STORY = [
    entries.run_registered(
        population="p", run=RUN, task=TASK, task_digest=DIGEST, code_digest="c", planned=event(2), seeded=(),
        facts={"unit": "device", "adjacency": "zero-out", "not_covered": [], "start_digest": "start"},
    ),
    entries.round_charged(population="p", run=RUN, round_index=0, leaf=0, event=event(1), floor=4),
    entries.round_committed(population="p", run=RUN, round_index=0, leaf=0, event=event(1), reported=5, model_digest="m"),
]  # fmt: skip


def problems(*bodies: bytes) -> list[ProblemKind]:
    history = History()
    for index, body in enumerate(bodies):
        history.add(index, forms.read(body))
    return [problem.kind for problem in history.problems]


def test_a_parameter_that_follows_a_committed_round_costs_nothing_more() -> None:
    assert problems(*STORY, tuned()) == []
    with_it, without = (spending.Spending("p") for _ in range(2))
    for index, body in enumerate([*STORY, tuned()]):
        with_it.take(index, forms.read(body))
    for index, body in enumerate(STORY):
        without.take(index, forms.read(body))
    assert with_it.events() == without.events()


@pytest.mark.parametrize("before", [1, 2])
def test_a_parameter_that_follows_what_was_not_released_is_found(before: int) -> None:
    assert ProblemKind.UNDERCHARGED in problems(*STORY[:before], tuned())
    assert ProblemKind.UNDERCHARGED in problems(*STORY, tuned(covered_by=1))


@pytest.mark.parametrize("parameter", ["learning_rate", "zeroing_quantile", "scale"])
def test_only_what_the_task_asks_for_follows_released_sums(parameter: str) -> None:
    assert problems(*STORY, tuned(parameter=parameter)) == [ProblemKind.UNDERCHARGED]


def test_a_look_that_no_round_covers_still_breaks_every_budget() -> None:
    found = spending.Spending("p")
    body = json.loads(tuned())
    del body["covered_by"]
    for index, entry in enumerate([*STORY, canonical.encode(body)]):
        found.take(index, forms.read(entry))
    assert spending.epsilon_of(found.events(), delta=1e-6) == float("inf")


@pytest.mark.parametrize("changes", [{"run": None}, {"event": event(1)}])
def test_a_covered_look_has_a_run_and_no_price_of_its_own(changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="parameter-tuned"):
        forms.read(tuned(**changes))


def test_reports_tell_the_two_kinds_apart() -> None:
    record = run_record.read([*STORY, tuned(), tuned(value="0.4")])
    assert not record.tuned
    assert [facts["value"] for facts in record.followed] == ["0.5", "0.4"]
