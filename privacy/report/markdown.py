"""A report as a document to read: what must not be overlooked first, then the checklist in its order."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from privacy.ledger.noised_sums import NoisedSums

Report = Mapping[str, Any]
_ESCAPED: Mapping[str, str] = {"<": "&lt;", **{mark: f"\\{mark}" for mark in "\\`*[]"}}


def to_markdown(report: Report) -> str:
    """The report as Markdown; the numbers are rounded up."""
    lines = _population(report) if report["subject"]["kind"] == "population" else _run(report)
    return "\n".join(map(_one_line, lines)) + "\n"


def shown(value: float | None, *, places: int = 2) -> str:
    """A number rounded up to `places` decimals, more where it would vanish.

    >>> shown(8.89847), shown(0.806123), shown(0.0004), shown(None)
    ('8.90', '0.81', '0.0004', 'unbounded')
    """
    if value is None:
        return "unbounded"
    if value == 0:
        return "0"
    digits = max(places, -math.floor(math.log10(abs(value)))) if abs(value) < 10**-places * 10 else places
    scaled = math.ceil(round(value * 10**digits, 9))
    return f"{scaled / 10**digits:.{digits}f}"


def _run(report: Report) -> Iterator[str]:
    subject, guarantee = report["subject"], report["guarantee"]
    titles = {"run": "run", "model": f"model {str(subject['model_digest'])[:12]} of run", "plan": "planned run"}
    yield f"# Privacy report: {subject['task']}, {titles[subject['kind']]} {subject['run'][:12]}"
    yield from _first(report)
    yield from _guarantee(guarantee, report["transparency"]["task"])
    setting = report["setting"]
    yield from _section("Setting", [f"{setting['model']}; noise is added by: {setting['noise_added_by']}{_size(setting)}", ""])
    yield from (f"- {line}" for line in report["setting"]["trust"])
    yield from _table("What looked at the data", ("access", "covered", "epsilon"), _accesses(report["accesses"]))
    yield from _released(report["released"])
    meaning = report["definition"]
    yield from _section(
        "Unit and adjacency",
        [
            f"- unit: **{meaning['unit']}**, {meaning['unit_means']}",
            f"- adjacency: **{meaning['adjacency']}**, {meaning['adjacency_means']}",
        ],
    )
    yield from _contributions(report["contributions"])
    yield from _section(
        "Mechanism", [_mechanism(report["mechanism"]), "", "```json", _json(report["mechanism"]["event"]), "```"]
    )
    yield from _accounting(report["accounting"])
    rows = [(line["name"], line["status"], line["text"], line["evidence"]) for line in report["assumptions"]]
    yield from _table("Assumptions", ("assumption", "status", "what it says", "evidence"), rows)
    yield from _audits(report["audits"])
    yield from _transparency(report["transparency"])
    yield from _minimisation(report["data_minimisation"])
    yield from _record(report["entries"])


def _population(report: Report) -> Iterator[str]:
    yield f"# Privacy report: population {report['subject']['population']}"
    yield from _first(report)
    joint, budget = report["joint"], report["budget"]
    allowed = "none is set"
    if budget["current"] is not None:
        allowed = f"epsilon {budget['current']['epsilon']:g} at delta {budget['current']['delta']:g}"
    at = "" if joint["delta"] is None else f" at delta {joint['delta']:g}"
    yield from _section(
        "Together",
        [f"- all runs and accesses: epsilon **{shown(joint['epsilon'])}**{at} ({joint['claim']})", f"- budget: {allowed}"],
    )
    rows = [
        (_free(change["reason"]), _free(change["by"]), "lifted" if change["budget"] is None else change["budget"]["epsilon"])
        for change in budget["changes"]
    ]
    yield from _table("Changes of the budget", ("reason", "by", "epsilon"), rows)
    runs = [
        (
            run["task"],
            run["run"][:12],
            shown(run["guarantee"]["rho"]),
            shown(run["guarantee"]["epsilon"]),
            run["guarantee"]["tier"],
        )
        for run in report["runs"]
    ]
    yield from _table("Runs", ("task", "run", "rho", "epsilon", "tier"), runs)
    yield from _accounting(report["accounting"])
    yield from _record(report["entries"])


def _first(report: Report) -> Iterator[str]:
    yield ""
    yield from (f"> **{line}**" if line.split(":")[0].isupper() else f"> {line}" for line in report["first_lines"])


def _size(setting: Mapping[str, Any]) -> str:
    devices = setting["devices"]
    return "" if devices is None else f"; {devices} devices{', simulated' if setting['simulated'] else ''}"


def _guarantee(guarantee: Mapping[str, Any], task: Mapping[str, Any]) -> Iterator[str]:
    yield from _section("Guarantee", [guarantee["statement"], ""])
    if guarantee["epsilon"] is not None:
        exact = [f"{name} {shown(value)} ({value})" for name, value in guarantee["epsilons"].items() if value is not None]
        if guarantee["rho"] is not None:
            yield f"- rho **{shown(guarantee['rho'])}** ({guarantee['rho']})"
        yield f"- epsilon at delta {guarantee['delta']:g}: {'; '.join(exact)}"
        group = guarantee["group"]
        yield f"- a person with {group['devices']} devices: epsilon {shown(group['epsilon'])} at the same delta"
    if guarantee["colluding"] is not None:
        colluding, sums = guarantee["colluding"], NoisedSums.of(task)
        where = "each group's" if sums.groups > 1 else "a round's"
        yield (
            f"- against a server to which {sums.corrupt} of {where} devices give their noise: epsilon "
            f"{shown(colluding['epsilon'])} at the same delta"
        )
    yield f"- tier: {guarantee['tier']}"
    yield from (f"- {line}" for line in guarantee["remarks"])


def _mechanism(mechanism: Mapping[str, Any]) -> str:
    named = [f"{name.replace('_', ' ')} {mechanism[name]}" for name in ("clip_norm", "noise_multiplier") if mechanism[name]]
    return ", ".join([f"`{mechanism['name']}`", *named])


def _accesses(accesses: Sequence[Mapping[str, Any]]) -> list[tuple[str, ...]]:
    return [
        (
            _free(line["access"]),
            "yes" if line["covered"] else "**not covered**",
            shown(line["cost"]["epsilon"]) if line["covered"] else "",
        )
        for line in accesses
    ]


def _released(released: Mapping[str, Any]) -> Iterator[str]:
    lines = [f"- {released['what']}", f"- rounds with a model: {released['rounds']}"]
    if released["charged_without_model"]:
        lines.append(f"- rounds that were charged and gave no model: {released['charged_without_model']}")
    if released["final_model"] is not None:
        lines.append(f"- the newest model: `{released['final_model']}`")
    lines += [
        f"- given out: model `{each['model_digest'][:16]}` after round {each['round']}, to {_free(each['to'])}"
        for each in released["releases"]
    ]
    lines += [f"- {each['what']} {_free(each['decision'])} by {_free(each['by'])}" for each in released["approvals"]]
    yield from _section("Released", lines)


def _contributions(contributions: Mapping[str, Any]) -> Iterator[str]:
    planned, observed = contributions["planned"], contributions["observed"]
    rows = [(name.replace("_", " "), _cell(value)) for name, value in planned.items()]
    yield from _table("Contribution bounds, planned", ("bound", "value"), rows)
    rows = [(name.replace("_", " "), _cell(value)) for name, value in observed.items() if name != "measured"]
    rows += [
        (line["assumption"], ", ".join(f"{name} {value}" for name, value in line.items() if name != "assumption"))
        for line in observed["measured"]
    ]
    yield from _table("Contributions, observed", ("what", "value"), rows)


def _accounting(accounting: Mapping[str, Any]) -> Iterator[str]:
    lines = [
        f"- {accounting['accountant']}",
        f"- {accounting['library']} {accounting['version']}",
        f"- amplification: {accounting['amplification']}",
    ]
    yield from _section("Accounting", [*lines, *(f"- {name}: {text}" for name, text in accounting["conversions"].items())])


def _audits(audits: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    rows = [
        (
            line["method"],
            line["model_digest"][:12],
            _json(line["measured"]),
            _json(line["bound"]),
            "within" if line["passed"] else "**beyond**",
        )
        for line in audits
    ]
    if rows:
        yield from _table("Audits beside the bound", ("attack", "model", "measured", "bound", "verdict"), rows)
    else:
        yield from _section("Audits beside the bound", ["None is on the record."])


def _transparency(transparency: Mapping[str, Any]) -> Iterator[str]:
    seeded = ", ".join(transparency["seeded"]) or "nothing"
    yield from _section(
        "Transparency",
        [
            f"- code `{transparency['code_digest']}`", f"- task `{transparency['task_digest']}`", f"- fixed by a seed: {seeded}",
            f"- to do it again: {transparency['reproduce']}", "", "```json", _json(transparency["task"]), "```",
        ],
    )  # fmt: skip


def _minimisation(facts: Mapping[str, Any]) -> Iterator[str]:
    yield from _section(
        "Data minimisation",
        [
            f"- collected: {'; '.join(facts['collected'])}",
            f"- stays on the device: {'; '.join(facts['stays_on_the_device'])}",
            f"- aggregated: {facts['aggregated']}",
            *(f"- kept, {name}: {how}" for name, how in facts["retained"].items()),
        ],
    )


def _record(entries: Mapping[str, Any]) -> Iterator[str]:
    lines = [f"Recomputed from {entries['count']} ledger entries, digest `{entries['digest']}`."]
    if entries.get("known_head"):
        head = entries["known_head"]
        lines.append(f"When the run was registered, the ledger had {head['size']} entries with the root `{head['root']}`.")
    if entries["checkpoint"]:
        lines += ["", "```", *entries["checkpoint"].rstrip().split("\n"), "```"]
    yield from _section("On the record", lines)


def _section(title: str, lines: Sequence[str]) -> Iterator[str]:
    yield from ("", f"## {title}", "")
    yield from lines


def _table(title: str, head: Sequence[str], rows: Sequence[Sequence[object]]) -> Iterator[str]:
    yield from ("", f"## {title}", "")
    if not rows:
        yield "None."
        return
    yield "| " + " | ".join(head) + " |"
    yield "|" + "---|" * len(head)
    yield from ("| " + " | ".join(str(cell).replace("|", "\\|") for cell in row) + " |" for row in rows)


def _one_line(line: str) -> str:
    """Whatever an entry says stays on its line: a line of its own could be a heading, or a number that no entry gives."""
    return "".join(character if character.isprintable() else " " for character in line)


def _free(text: object) -> str:
    """What somebody wrote, without a meaning for Markdown.

    >>> _free("[see](http://x) <b>`now`</b>")
    '\\\\[see\\\\](http://x) &lt;b>\\\\`now\\\\`&lt;/b>'
    """
    return "".join(_ESCAPED.get(character, character) for character in _one_line(str(text))).strip()


def _cell(value: object) -> str:
    return "none" if value is None else str(value)


def _json(value: object) -> str:
    import json

    return json.dumps(value, sort_keys=True)
