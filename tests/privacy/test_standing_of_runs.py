"""Where a run stands follows from a few of its entries: what is said of them is said of all."""

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from contract import canonical, task
from privacy import events
from privacy.ledger import entries
from privacy.report import Standing, summarize

SPEC = task.parse_mapping(
    {
        "name": "standing", "population": "p", "model": {"name": "mlp"}, "rounds": 8,
        "cohort": {"report_goal": 20, "minimum_separation": 1, "max_participations": 2},
        "privacy": {"mechanism": "tree", "clip_norm": 1.0, "noise_multiplier": 7.0, "delta": 1e-6},
    }
)  # fmt: skip
RUN = "r" * 64
FLOOR = 16


def tree(leaves: int) -> dict[str, canonical.Json]:
    return events.to_json(events.TreeEvent(noise_multiplier=7.0, leaves=leaves, minimum_separation=1, max_participations=2))


def registered() -> bytes:
    body: Any = canonical.plain(SPEC)
    facts: dict[str, Any] = {"unit": "device", "adjacency": "zero-out", "not_covered": ["latencies"], "start_digest": "s"}
    return entries.run_registered(
        population="p", run=RUN, task=body, task_digest=SPEC.digest, code_digest="c", planned=tree(8), seeded=(), facts=facts
    )


def round_of(index: int, kind: str) -> list[bytes]:
    at: dict[str, Any] = {"population": "p", "run": RUN, "round_index": index, "leaf": index}
    charged = entries.round_charged(**at, event=tree(index + 1), floor=FLOOR)
    reported = FLOOR - 1 if kind == "below its floor" else FLOOR + 2
    committed = entries.round_committed(**at, event=tree(index + 1), reported=reported, model_digest=f"m{index}")
    gone = entries.round_abandoned(**at, reason="too-few-survivors", leaf_used=kind == "lost after its charge")
    tuned = entries.parameter_tuned(
        population="p",
        run=RUN,
        parameter="clip_norm",
        value="1",
        statistic="bits",
        event=None,
        reason="follows",
        covered_by=index,
    )
    looked = entries.parameter_tuned(
        population="p", run=RUN, parameter="rate", value="1", statistic="loss", event=None, reason="looked"
    )
    checked = entries.assumption_checked(
        population="p",
        run=RUN,
        assumption="max-participations",
        status="violated",
        measured={"most": 3, "allowed": 2},
        evidence="e",
    )
    return {
        "open": [charged],
        "abandoned": [gone],
        "lost after its charge": [charged, gone],
        "uncharged": [committed],
        "looked at": [charged, looked, committed],
        "violated": [charged, committed, checked],
    }.get(kind, [charged, tuned, committed])


KINDS = [
    "committed", "committed", "below its floor", "open", "abandoned", "lost after its charge", "uncharged", "looked at", "violated",
]  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from(KINDS), max_size=7))
def test_what_is_said_of_the_entries_that_stand_is_said_of_all(kinds: list[str]) -> None:
    bodies, standing = list[bytes](), Standing()
    for body in [registered(), *(body for index, kind in enumerate(kinds) for body in round_of(index, kind))]:
        bodies.append(body)
        standing.take(body)
    assert summarize(standing.bodies) == summarize(bodies)


def test_however_many_rounds_few_entries_stand() -> None:
    standing = Standing()
    standing.take(registered())
    for index in range(8):
        for body in round_of(index, "committed"):
            standing.take(body)
    assert len(standing.bodies) == 3
