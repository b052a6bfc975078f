"""A run is priced as it was: known noise, what was measured on it and the looks it was tuned by count, alone and with its population."""

import json
from typing import Any

import pytest

from contract import canonical, task
from privacy import events
from privacy.accounting import price
from privacy.events import Adjacency, ComposedEvent, Event, GaussianEvent, TreeEvent, Unit
from privacy.ledger import entries, measured
from privacy.report import check, population_report, run_report, shown_up, summarize, to_markdown

SPEC = task.parse_mapping(
    {
        "name": "small", "population": "p", "model": {"name": "mlp"}, "rounds": 3,
        "cohort": {"report_goal": 20, "minimum_separation": 2, "max_participations": 1},
        "privacy": {"mechanism": "tree", "clip_norm": 1.0, "noise_multiplier": 7.0, "delta": 1e-6},
    }
)  # fmt: skip
RUN = canonical.digest({"task": SPEC.digest, "ordinal": 0})
FACTS: dict[str, canonical.Json] = {"unit": "device", "adjacency": "zero-out", "not_covered": [], "start_digest": "s"}


def tree(leaves: int, **changes: Any) -> TreeEvent:
    return TreeEvent(**{"noise_multiplier": 7.0, "leaves": leaves, "minimum_separation": 2, "max_participations": 1} | changes)


def story(*beside: bytes, event: Event | None = None, seeded: tuple[str, ...] = (), **facts: canonical.Json) -> list[bytes]:
    """A run of one round, and what is said of it later."""
    body, cost = canonical.plain(SPEC), events.to_json(event or tree(3))
    assert isinstance(body, dict)
    at: dict[str, Any] = {"population": "p", "run": RUN, "round_index": 0, "leaf": 0, "event": cost}
    return [
        entries.run_registered(
            population="p", run=RUN, task=body, task_digest=SPEC.digest, code_digest="c", planned=cost, seeded=seeded,
            facts={**FACTS, **facts},
        ),
        entries.round_charged(**at, floor=16),
        entries.round_committed(**at, reported=20, model_digest="m"),
        *beside,
    ]  # fmt: skip


def said(assumption: str, status: str, **numbers: canonical.Json) -> bytes:
    return entries.assumption_checked(
        population="p", run=RUN, assumption=assumption, status=status, measured=numbers, evidence="e" * 64
    )


def look(event: dict[str, canonical.Json] | None) -> bytes:
    return entries.parameter_tuned(
        population="p", run=RUN, parameter="clip_norm", value="1", statistic="noised norms", event=event, reason="first clip"
    )


def whole(bodies: list[bytes]) -> tuple[float | None, float | None]:
    """Epsilon of the run and of its population, which has no other; summary, report and its check agree."""
    report, population = run_report(bodies), population_report(bodies, "p")
    assert check(report, bodies) == []
    assert check(population, bodies) == []
    epsilon, exactly = report["guarantee"]["epsilon"], summarize(bodies).epsilon
    assert (epsilon is None) == (exactly is None)
    if epsilon is not None:
        assert epsilon == pytest.approx(exactly, rel=1e-5)
    assert summarize(bodies).first_lines == tuple(report["first_lines"])
    return epsilon, population["joint"]["epsilon"]


def nothing_promised(bodies: list[bytes], because: str) -> None:
    report, population = run_report(bodies), population_report(bodies, "p")
    assert whole(bodies) == (None, None)
    assert report["guarantee"]["statement"] == "Nothing is promised."
    assert report["guarantee"]["tier"].startswith("weak")
    assert report["guarantee"]["group"]["epsilon"] is None
    assert because in report["first_lines"][0]
    assert because in population["first_lines"][0]
    assert "unbounded" in to_markdown(population)


def test_noise_from_a_known_seed_leaves_nothing_promised_anywhere() -> None:
    nothing_promised(story(seeded=("simulation", "noise")), "a seed that is known")
    assert run_report(story(seeded=("noise",)))["first_lines"][0].startswith("GUARANTEE VOID")
    assert whole(story(seeded=("simulation",)))[0] is not None


def test_a_population_pays_for_what_was_measured_on_its_runs() -> None:
    honest = whole(story())
    assert honest[0] == honest[1] is not None
    broken = story(
        said("max-participations", "violated", allowed=1, most=2), said("minimum-separation", "violated", smallest=0)
    )
    alone, joint = whole(broken)
    truth = price(tree(3, minimum_separation=0, max_participations=2), 1e-6).epsilon
    assert alone == joint == pytest.approx(truth, rel=1e-5)
    assert truth > (honest[0] or 0)


def test_a_violation_that_no_price_covers_leaves_run_and_population_without_a_bound() -> None:
    nothing_promised(story(said("bounded-contribution", "violated", longest=9)), "bounded-contribution was violated")
    line = run_report(story(said("bounded-contribution", "violated", longest=9)))["assumptions"][0]
    assert (line["name"], line["status"]) == ("bounded-contribution", "violated")
    priced = said("minimum-separation", "violated", smallest=0)
    nothing_promised(story(priced, said("max-participations", "violated", allowed=1)), "max-participations was violated")
    nothing_promised(story(priced, said("something-new", "violated")), "something-new was violated")


@pytest.mark.parametrize(
    ("assumption", "numbers"),
    [
        ("minimum-separation", {"smallest": 0, "required": 2}),
        ("minimum-separation", {"smallest": 1}),
        ("minimum-separation", {"smallest_seen": 1, "required": 1}),
        ("minimum-separation", {"smallest": 3, "required": 4}),
        ("minimum-separation", {"smallest": "soon", "required": 2}),
        ("max-participations", {"most": 2, "allowed": 1}),
        ("max-participations", {"most": 2, "allowed": 3}),
        ("max-participations", {"most": "often"}),
    ],
)  # fmt: skip
def test_an_entry_whose_numbers_contradict_its_word_is_a_violation(assumption: str, numbers: dict[str, canonical.Json]) -> None:
    bodies = story(said(assumption, "checked", **numbers))
    nothing_promised(bodies, f"{assumption} is said to be checked, and what was measured says otherwise")
    report = run_report(bodies)
    assert any(line.startswith(f"VIOLATED: {assumption}") for line in report["first_lines"])
    assert [line["status"] for line in report["contributions"]["observed"]["measured"]] == ["violated"]


def test_numbers_within_the_task_leave_an_assumption_checked() -> None:
    kept = story(
        said("minimum-separation", "checked", smallest=2, required=2), said("max-participations", "checked", most=1, allowed=1)
    )
    assert whole(kept) == whole(story())
    found = {line["name"]: line["status"] for line in run_report(kept)["assumptions"]}
    assert found["minimum-separation"] == found["max-participations"] == "checked"


def test_what_was_measured_cannot_rename_its_own_status() -> None:
    body = entries.assumption_checked(
        population="p",
        run=RUN,
        assumption="minimum-separation",
        status="violated",
        measured={"status": "checked"},
        evidence="e",
    )
    (line,) = run_report(story(body))["contributions"]["observed"]["measured"]
    assert line["status"] == "violated"


def test_a_composition_is_priced_as_measured_in_every_part_or_not_at_all() -> None:
    gaussian = GaussianEvent(noise_multiplier=9.0, releases=3, minimum_separation=2)
    both, broken = ComposedEvent(parts=(tree(3), gaussian)), said("minimum-separation", "violated", smallest=0)
    truth = price(ComposedEvent(parts=(tree(3, minimum_separation=0), GaussianEvent(noise_multiplier=9.0, releases=3))), 1e-6)
    assert whole(story(broken, event=both))[1] == pytest.approx(truth.epsilon, rel=1e-5)
    uncapped = said("max-participations", "violated", most=2, allowed=1)
    nothing_promised(story(uncapped, event=both), "max-participations was violated")  # one part has no cap that could be raised


def test_a_run_costs_what_its_rounds_and_its_own_looks_cost_together() -> None:
    dear = GaussianEvent(noise_multiplier=0.3, releases=1)
    together, alone = price([tree(3), dear], 1e-6), price(tree(3), 1e-6)
    bodies = story(look(events.to_json(dear)))
    assert whole(bodies) == (pytest.approx(together.epsilon, rel=1e-5), pytest.approx(together.epsilon, rel=1e-5))
    report = run_report(bodies)
    assert f"({report['guarantee']['epsilon']}, 1e-06)" in report["guarantee"]["statement"]
    assert "looking at noised statistics" in report["guarantee"]["statement"]
    assert report["guarantee"]["group"]["rho"] == pytest.approx(4 * (together.rho or 0), rel=1e-5)
    rounds, tuned = (line["cost"]["epsilon"] for line in report["accesses"][:2])
    assert rounds == pytest.approx(alone.epsilon, rel=1e-5)
    assert tuned == pytest.approx(price(dear, 1e-6).epsilon, rel=1e-5)


@pytest.mark.parametrize(
    "event",
    [
        {"kind": "nonsense"},
        {"kind": "gaussian"},
        {"kind": "gaussian", "noise_multiplier": [], "releases": 1},
        {"kind": "composed", "parts": 3},
        events.to_json(GaussianEvent(noise_multiplier=9.0, releases=1, unit=Unit.EXAMPLE)),
        events.to_json(GaussianEvent(noise_multiplier=9.0, releases=1, adjacency=Adjacency.ADD_OR_REMOVE)),
    ],
)  # fmt: skip
def test_a_look_whose_price_cannot_be_added_leaves_no_guarantee_and_no_traceback(event: dict[str, canonical.Json]) -> None:
    bodies = story(look(event))
    assert whole(bodies) == (None, None)
    assert run_report(bodies)["first_lines"][0].startswith("NO GUARANTEE")
    assert population_report(bodies, "p")["first_lines"][0].startswith(("NO GUARANTEE", "NO JOINT GUARANTEE"))


def test_a_colluding_claim_is_never_reported_below_the_one_against_a_curious_server() -> None:
    cheaper = events.to_json(tree(3, noise_multiplier=70.0))
    bodies = [canonical.encode({**json.loads(body), "colluding": cheaper}) if b'"event"' in body else body for body in story()]
    guarantee = run_report(bodies)["guarantee"]
    assert guarantee["colluding"]["epsilon"] == guarantee["epsilon"] is not None
    assert whole(bodies)[0] == whole(bodies)[1]
    void = [canonical.encode({**json.loads(bodies[0]), "seeded": ["noise"]}), *bodies[1:]]
    assert run_report(void)["guarantee"]["colluding"]["epsilon"] is None


def test_an_event_that_cannot_be_read_is_said_to_be_none() -> None:
    bodies = [body.replace(b'"noise_multiplier":"7"', b'"noise_multiplier":"-7"') for body in story()]
    assert whole(bodies) == (None, None)
    assert "cannot be read" in run_report(bodies)["first_lines"][0]
    assert "cannot be read" in population_report(bodies, "p")["first_lines"][0]


def test_a_registration_cannot_take_its_run_out_of_its_population() -> None:
    assert whole(story(scope="run")) == whole(story())


def test_an_event_is_as_it_was_measured() -> None:
    event = events.to_json(tree(3))
    later = json.loads(said("minimum-separation", "violated", smallest=1))
    actual = measured.actual_event(event, registered={}, checked=[later])
    assert actual == {**event, "minimum_separation": 1}
    assert measured.actual_event(None, registered={"seeded": ["noise"]}, checked=[]) is None


@pytest.mark.parametrize("value", [1.18012, 0.10004, 6.99999, 12345.6, 8.0, 3e-7, 2.6601])
def test_a_price_for_people_is_never_below_the_price(value: float) -> None:
    shown = shown_up(value)
    assert value <= float(shown) <= value * 1.001
    assert "e" not in shown
