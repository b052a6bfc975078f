"""Reports: the published case, the first lines, the whole checklist, the schema, and that no number can be changed unnoticed."""

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from contract import canonical, task
from privacy import events
from privacy.accounting import price
from privacy.ledger import entries
from privacy.ledger.notes import SignerKey
from privacy.ledger.verification import LoggedEntry, verify
from privacy.report import (
    check,
    json_schema,
    model_report,
    planned_report,
    population_report,
    run_report,
    spent,
    summarize,
    to_markdown,
)  # fmt: skip

KEY = SignerKey("tutti-ledger/test", bytes(32)).verifier
PRODUCTION = Path(__file__).parents[1] / "vectors" / "ledger" / "production_es_2022.yaml"
SPEC = task.parse_mapping(
    {
        "name": "small", "population": "p", "model": {"name": "mlp"}, "rounds": 3,
        "cohort": {"report_goal": 20, "minimum_separation": 1, "max_participations": 1},
        "privacy": {"mechanism": "tree", "clip_norm": 1.0, "noise_multiplier": 7.0, "delta": 1e-6, "devices_per_person": 3},
    }
)  # fmt: skip
RUN = canonical.digest({"task": SPEC.digest, "ordinal": 0})


def event(leaves: int, **changes: Any) -> dict[str, canonical.Json]:
    facts = {"noise_multiplier": 7.0, "leaves": leaves, "minimum_separation": 1, "max_participations": 1}
    return events.to_json(events.TreeEvent(**facts | changes))


def registered(spec: task.TaskSpec = SPEC, *, planned: Any = None, **changes: Any) -> bytes:
    body = canonical.plain(spec)
    assert isinstance(body, dict)
    facts = {"unit": "device", "adjacency": "zero-out", "not_covered": ["latencies"], "start_digest": "s"}
    return entries.run_registered(
        **{
            "population": spec.population, "run": canonical.digest({"task": spec.digest, "ordinal": 0}), "task": body,
            "task_digest": spec.digest, "code_digest": "c0de", "planned": event(3) if planned is None else planned, "seeded": (),
            "facts": facts,
        } | changes
    )  # fmt: skip


def round_of(number: int, **changes: Any) -> list[bytes]:
    at = {"population": "p", "run": RUN, "round_index": number, "leaf": number, "event": event(number + 1)} | changes
    return [
        entries.round_charged(**at, floor=16), entries.round_committed(**at, reported=20 - number, model_digest=f"m{number}")
    ]  # fmt: skip


def measured(assumption: str, status: str, **facts: int) -> bytes:
    return entries.assumption_checked(
        population="p", run=RUN, assumption=assumption, status=status, measured=dict(facts), evidence="e" * 64
    )


STORY = [registered(), *round_of(0), *round_of(1), *round_of(2)]


def valid(report: dict[str, Any]) -> dict[str, Any]:
    jsonschema.validate(json.loads(json.dumps(report)), json_schema(), cls=jsonschema.Draft202012Validator)
    return report


def test_published_production_case_comes_out_of_its_task() -> None:
    spec = task.read(PRODUCTION)
    schedule = {"minimum_separation": spec.cohort.minimum_separation, "max_participations": spec.cohort.max_participations}
    planned = events.to_json(
        events.TreeEvent(
            noise_multiplier=spec.privacy.noise_multiplier or 0, leaves=spec.rounds, law=events.Law.ROUNDED_GAUSSIAN, **schedule
        )
    )
    report = valid(planned_report(registered(spec, planned=planned)))
    guarantee = report["guarantee"]
    assert round(guarantee["rho"], 6) == 0.806123
    assert round(guarantee["epsilons"]["generic"], 2) == 8.90
    assert round(guarantee["epsilons"]["exact"], 3) == 8.526
    assert (guarantee["unit"], guarantee["adjacency"], guarantee["delta"]) == ("device", "zero-out", 1e-10)
    assert guarantee["tier"].startswith("reasonable")
    assert guarantee["remarks"][1:] == ["this is what all planned rounds cost at worst."]
    assert guarantee["remarks"][0].startswith("k is 6, not the 7 that a separation of 313 allows over 2000 rounds")
    assert "0.887756" in guarantee["remarks"][0]
    text = to_markdown(report)
    for words in ("rho **0.81**", "generic 8.90", "k is 6", "zero-out", "unit: **device**", "1e-10"):
        assert words in text


def test_report_has_every_section_of_the_checklist_and_its_numbers_follow_from_the_entries() -> None:
    report = valid(run_report(STORY, checkpoint="note"))
    found = price(events.from_json(event(3)), 1e-6)
    assert report["guarantee"]["rho"] == pytest.approx(found.rho, rel=1e-5)
    assert report["guarantee"]["rho"] >= found.rho
    assert report["guarantee"]["group"]["devices"] == 3
    assert report["guarantee"]["group"]["rho"] == pytest.approx(9 * found.rho, rel=1e-5)
    assert report["released"]["rounds"] == 3
    assert report["contributions"]["observed"]["fewest_reports"] == 18
    assert report["mechanism"]["event"] == event(3)
    assert report["transparency"]["task"]["privacy"]["noise_multiplier"] == "7"
    assert report["entries"]["checkpoint"] == "note"
    assert check(report, STORY) == []
    text = to_markdown(report)
    for title in (
        "Guarantee", "Setting", "What looked at the data", "Released", "Unit and adjacency", "Contribution bounds, planned",
        "Contributions, observed", "Mechanism", "Accounting", "Assumptions", "Audits beside the bound", "Transparency",
        "Data minimisation", "On the record",
    ):  # fmt: skip
        assert f"## {title}\n" in text


def statuses(report: dict[str, Any]) -> dict[str, str]:
    return {line["name"]: line["status"] for line in report["assumptions"]}


def test_what_nobody_measured_is_assumed_and_what_was_measured_is_checked() -> None:
    before = statuses(run_report(STORY))
    assert before["minimum-separation"] == before["max-participations"] == before["trusted-server"] == "assumed"
    assert before["charge-before-reveal"] == before["survivor-floor"] == "checked"
    assert before["fresh-noise"] == before["bounded-contribution"] == "enforced"
    after = run_report([*STORY, measured("minimum-separation", "checked", smallest=4, required=1)])
    assert statuses(after)["minimum-separation"] == "checked"
    assert "smallest 4" in next(line["evidence"] for line in after["assumptions"] if line["name"] == "minimum-separation")


def test_first_line_says_that_a_seeded_run_hides_nothing() -> None:
    report = valid(run_report([registered(seeded=("simulation", "noise")), *STORY[1:]]))
    assert report["first_lines"][0].startswith("GUARANTEE VOID")
    assert to_markdown(report).splitlines()[2].startswith("> **GUARANTEE VOID")
    assert summarize([registered(seeded=("noise",)), *STORY[1:]]).first_lines[0].startswith("GUARANTEE VOID")
    assert statuses(report)["fresh-noise"] == "violated"


def test_violated_assumption_comes_first_and_changes_the_claim() -> None:
    honest = run_report(STORY)["guarantee"]["rho"]
    broken = [*STORY, measured("max-participations", "violated", most=2, allowed=1)]
    report = valid(run_report(broken))
    assert report["first_lines"][0].startswith("VIOLATED: max-participations")
    expected = price(events.from_json(event(3, max_participations=2)), 1e-6).rho
    assert report["guarantee"]["rho"] == pytest.approx(expected, rel=1e-5)
    assert report["guarantee"]["rho"] > honest
    assert summarize(broken).rho == expected
    beyond = run_report([*STORY, measured("bounded-contribution", "violated", longest=9)])
    assert beyond["guarantee"]["epsilon"] is None
    assert beyond["first_lines"][0].startswith("NO GUARANTEE")
    assert beyond["guarantee"]["statement"] == "Nothing is promised."


def test_uncovered_access_is_in_the_first_lines_and_a_covered_one_has_its_price() -> None:
    tuned = {"population": "p", "run": RUN, "parameter": "clip_norm", "value": "1", "reason": "first clip"}
    bare = entries.parameter_tuned(**tuned, statistic="norms", event=None)
    priced = entries.parameter_tuned(
        **tuned, statistic="noised norms", event=events.to_json(events.GaussianEvent(noise_multiplier=9.0, releases=1))
    )
    report = valid(run_report([STORY[0], bare, priced, *STORY[1:]]))
    assert report["first_lines"] == ["Not covered: clip_norm, chosen by looking at norms; latencies."]
    covered = {line["access"]: line["covered"] for line in report["accesses"]}
    assert list(covered.values()) == [True, False, True, False]
    assert to_markdown(report).splitlines()[2].startswith("> Not covered")


def test_distributed_run_is_reported_with_both_claims() -> None:
    def claim(*contributors: int) -> dict[str, canonical.Json]:
        facts = {"mechanism": "ddg", "dimension": 64, "squared_norm": 10**6, "local_sigma": 500.0, "participations": 1}
        part = events.DistributedEvent(**facts, contributors=contributors, draws=64, distance_log2=-128)
        return events.to_json(events.ComposedEvent(parts=(part, part)))

    spec = task.replace(
        SPEC,
        privacy={"mechanism": "ddg", "metrics": {"noise_multiplier": 7.0}},
        aggregation={"secure": True, "ideal": True, "corrupt_fraction": 0.05, "minimum_survivors": 16},
    )
    facts = {"unit": "device", "adjacency": "zero-out", "not_covered": ["latencies"], "start_digest": "s"}
    name = canonical.digest({"task": spec.digest, "ordinal": 0})
    at = {"population": "p", "run": name, "round_index": 0, "leaf": 0}
    story = [
        registered(spec, planned=claim(16, 16, 16), facts={**facts, "planned_colluding": claim(15, 15, 15)}),
        entries.round_charged(**at, event=claim(16), colluding=claim(15), floor=16),
        entries.round_committed(**at, event=claim(20), colluding=claim(19), reported=20, model_digest="m0"),
    ]
    report = valid(run_report(story))
    assert 0 < report["guarantee"]["epsilon"] < report["guarantee"]["colluding"]["epsilon"]
    assert report["guarantee"]["epsilon"] < run_report(story[:2])["guarantee"]["epsilon"]
    assert report["setting"]["noise_added_by"] == "devices"
    assert statuses(report)["honest-noise"] == statuses(report)["secure-aggregation"] == "assumed"
    assert "against a server to which 1 of a round's devices give their noise" in to_markdown(report)
    verdict = verify([LoggedEntry(place, body) for place, body in enumerate(story)], key=KEY, checkpoints=[], complete=False)
    assert verdict.problems == ()


def test_delta_is_held_against_the_number_of_devices() -> None:
    facts = {"unit": "device", "adjacency": "zero-out", "not_covered": [], "start_digest": "s"}
    few, many = (valid(run_report([registered(facts={**facts, "devices": n}), *round_of(0)])) for n in (2_000_000, 500))
    assert few["first_lines"][0].startswith("WEAK DELTA")
    assert many["first_lines"] == []
    assert many["guarantee"]["remarks"] == [
        "delta is 0.0005 of 1/n for the n = 500 devices of the data; the smaller that is, the more delta says."
    ]
    assert "; 500 devices, simulated" in to_markdown(many)


def test_delta_of_a_poisson_run_is_held_against_the_devices_that_its_task_plans_for() -> None:
    privacy = {"mechanism": "gaussian", "clip_norm": 1.0, "noise_multiplier": 7.0, "delta": 1e-6, "sampling": "poisson"}
    spec = task.parse_mapping(
        {
            "name": "drawn", "population": "p", "model": {"name": "mlp"}, "rounds": 3, "cohort": {"report_goal": 20},
            "privacy": {**privacy, "sampling_rate": 0.001},
        }
    )  # fmt: skip
    told = "that the task plans for (report_goal / sampling_rate)"
    assert run_report([registered(spec)])["guarantee"]["remarks"] == [
        f"delta is 0.02 of 1/n for the n = 20000 devices {told}; the smaller that is, the more delta says."
    ]


def test_failed_audit_is_said_first() -> None:
    facts = {"population": "p", "run": RUN, "model_digest": "m2", "method": "one-run", "evidence": "e"}
    audit = entries.audit_recorded(**facts, measured={"epsilon_lower": "9.5"}, bound={"epsilon": "1"}, passed=False)
    report = valid(run_report([*STORY, audit]))
    assert report["first_lines"][0].startswith("AUDIT FAILED: one-run")
    assert report["audits"][0]["bound"] == {"epsilon": "1"}


def test_run_without_noise_or_without_charge_promises_nothing() -> None:
    for story in (
        [registered()],
        [registered(planned={"kind": "unbounded", "reason": "no noise", "unit": "device", "adjacency": "zero-out"})],
    ):
        report = valid(run_report(story))
        assert report["guarantee"]["epsilon"] is None
        assert report["first_lines"][0].startswith("NO GUARANTEE")


def test_charge_without_outcome_counts() -> None:
    report = run_report(STORY[:-1])
    assert report["guarantee"]["rho"] == run_report(STORY)["guarantee"]["rho"]
    assert report["released"]["charged_without_model"] == 1


def test_model_costs_what_was_charged_up_to_it() -> None:
    first = valid(model_report(STORY, "m0"))
    assert first["guarantee"]["rho"] == pytest.approx(price(events.from_json(event(1)), 1e-6).rho, rel=1e-5)
    assert first["subject"]["model_digest"] == "m0"
    given_out = entries.model_released(population="p", run=RUN, round_index=0, model_digest="m0", to="export")
    assert check(first, [*STORY, given_out]) == []
    assert model_report([*STORY, given_out], "m0")["released"]["releases"][0]["to"] == "export"
    with pytest.raises(ValueError, match="no committed round"):
        model_report(STORY, "m7")


def test_population_is_priced_together_with_its_budget_history() -> None:
    other = task.replace(SPEC, name="second")
    again = canonical.digest({"task": other.digest, "ordinal": 0})
    charge = entries.round_charged(population="p", run=again, round_index=0, leaf=0, event=event(1), floor=16)
    budget: dict[str, canonical.Json] = {"epsilon": "8", "delta": "0.000001", "unit": "device", "adjacency": "zero-out"}
    bodies = [entries.budget_set(population="p", budget=budget, reason="policy", by="op"), *STORY, registered(other), charge]
    foreign = entries.budget_set(population="q", budget=None, reason="x", by="y")
    report = valid(population_report([*bodies, foreign], "p"))
    joint = price([events.from_json(event(3)), events.from_json(event(1))], 1e-6)
    assert report["joint"]["epsilon"] == pytest.approx(joint.epsilon, rel=1e-5)
    assert report["budget"]["current"] == {"epsilon": 8.0, "delta": 1e-6}
    assert [run["task"] for run in report["runs"]] == ["small", "second"]
    assert "small" in to_markdown(report)
    assert check(report, bodies) == []
    mixed = [*bodies, entries.parameter_tuned(
        population="p", run=None, parameter="x", value="1", statistic="y", reason="z",
        event=events.to_json(events.GaussianEvent(noise_multiplier=9.0, releases=1, unit=events.Unit.EXAMPLE)),
    )]  # fmt: skip
    obstacle = valid(population_report(mixed, "p"))
    assert obstacle["joint"]["epsilon"] is None
    assert obstacle["first_lines"][0].startswith("NO JOINT GUARANTEE")


CHANGES: dict[str, Callable[[dict[str, Any]], None]] = {
    "guarantee.epsilon": lambda report: report["guarantee"].update(epsilon=1.0),
    "guarantee.rho": lambda report: report["guarantee"].update(rho=report["guarantee"]["rho"] - 1e-6),
    "guarantee.delta": lambda report: report["guarantee"].update(delta=1e-10),
    "guarantee.tier": lambda report: report["guarantee"].update(tier="strong"),
    "first_lines": lambda report: report.update(first_lines=[]),
    "accesses[1].covered": lambda report: report["accesses"][1].update(covered=True),
    "assumptions[0].status": lambda report: report["assumptions"][0].update(status="enforced"),
    "mechanism.event.noise_multiplier": lambda report: report["mechanism"]["event"].update(noise_multiplier="8"),
    "released.rounds": lambda report: report["released"].update(rounds=2),
    "transparency.seeded": lambda report: report["transparency"].update(seeded=["noise"]),
    "entries.digest": lambda report: report["entries"].update(digest="0" * 64),
    "audits": lambda report: report.update(audits=[{}]),
}


@pytest.mark.parametrize("path", CHANGES)
def test_report_whose_value_does_not_follow_from_its_entries_is_found(path: str) -> None:
    report = run_report(STORY)
    changed = copy.deepcopy(report)
    CHANGES[path](changed)
    assert any(difference.startswith(path) for difference in check(changed, STORY))
    assert check(json.loads(json.dumps(report)), [*STORY, measured("minimum-separation", "checked", smallest=4)]) == []


def test_entries_of_no_run_or_of_two_are_refused() -> None:
    with pytest.raises(ValueError, match="no run-registered"):
        run_report(STORY[1:])
    with pytest.raises(ValueError, match="2 runs"):
        run_report([*STORY, registered()])
    with pytest.raises(ValueError, match="no entry is of population"):
        population_report(STORY, "elsewhere")


def test_what_somebody_wrote_stays_in_its_place() -> None:
    reason = "ok\n\n## Guarantee\r\n\u2028epsilon **0** <script>x</script> [see](http://x) | `a`"
    budget = {"epsilon": "1", "delta": "0.000001", "unit": "device", "adjacency": "zero-out"}
    body = entries.budget_set(population="p", budget=budget, reason=reason, by="# eve\n- x")
    text = to_markdown(population_report([body], "p"))
    assert [line for line in text.splitlines() if "# eve" in line] == [
        "| ok  ## Guarantee   epsilon \\*\\*0\\*\\* &lt;script>x&lt;/script> \\[see\\](http://x) \\| \\`a\\` | # eve - x | 1 |"
    ]
    assert "\n## Guarantee" not in text


def test_what_is_told_of_a_running_run_is_what_its_summary_says() -> None:
    for length in range(1, len(STORY) + 1):
        told, found = spent(STORY[:length]), summarize(STORY[:length])
        assert (told.rho if told else None, told.epsilon if told else None) == (found.rho, found.epsilon)
