"""What the accounting assumes of a run, each with a status and its evidence.

Enforced: impossible otherwise. Checked: measured on this run. Assumed: nobody looked. Violated: it did not hold, and the claim changes.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from contract import canonical
from privacy.ledger.measured import noise_is_known
from privacy.ledger.noised_sums import NoisedSums
from privacy.report.run_record import Facts, RunRecord, parts_of

ENFORCED, CHECKED, ASSUMED, VIOLATED = "enforced", "checked", "assumed", "violated"
DISTRIBUTED = ("ddg", "skellam")


@dataclass(frozen=True, slots=True, kw_only=True)
class Assumption:
    """One line of the report."""

    name: str
    text: str
    status: str
    evidence: str

    def to_json(self) -> dict[str, str]:
        """Plain JSON values."""
        return {"name": self.name, "text": self.text, "status": self.status, "evidence": self.evidence}


def assumptions(record: RunRecord) -> list[Assumption]:
    """Every assumption of a run, the violated ones first."""
    found = [*_participation(record), *_noise(record), *_contribution(record), *_rounds(record)]
    broken = {facts["assumption"]: facts for facts in record.violated}
    found = [_broken(line, broken[line.name]) if line.name in broken else line for line in found]
    told = {line.name for line in found}
    found += [_broken(_unlisted(name), facts) for name, facts in broken.items() if name not in told]
    order = (VIOLATED, ASSUMED, CHECKED, ENFORCED)
    return sorted(found, key=lambda line: order.index(line.status))


def _participation(record: RunRecord) -> Iterator[Assumption]:
    cohort, privacy = record.task.get("cohort", {}), record.task["privacy"]
    if privacy.get("sampling") == "poisson":
        yield _measured(
            record,
            "poisson-sampling",
            "Every device joins a round by an independent secret coin alone, of a sampler that is trusted as the server is.",
            "drawn from the run's key, in a simulation; against the party that draws, or that sees who comes, nothing is amplified",
        )
    else:
        separation = cohort.get("minimum_separation", 0)
        yield _measured(
            record, "minimum-separation", f"At least {separation} rounds lie strictly between two participations of a device.",
            "kept by each device's own record, which no server can see",
        )  # fmt: skip
        if cohort.get("max_participations") is not None:
            yield _measured(
                record, "max-participations", f"A device takes part at most {cohort['max_participations']} times.",
                "kept by each device's own record, which no server can see",
            )  # fmt: skip
    yield Assumption(
        name="one-device-one-person", text="A person is one device; the line on group privacy says what several cost.", status=ASSUMED,
        evidence=f"the task counts on {privacy.get('devices_per_person', 1)}",
    )  # fmt: skip


def _noise(record: RunRecord) -> Iterator[Assumption]:
    seeded, engine = noise_is_known(record.registered), record.registered["facts"].get("engine")
    if record.task["privacy"]["mechanism"] == "none":
        return
    fresh = "no noise seed is registered, and every draw is used for one release"
    if engine:
        fresh = f"{engine} draws it from generators of its own"
    yield Assumption(
        name="fresh-noise", text="The noise comes from the operating system's generator and nobody can repeat it.",
        status=VIOLATED if seeded else ASSUMED if engine else ENFORCED,
        evidence="a seed that is known fixed it" if seeded else fresh,
    )  # fmt: skip
    if engine:
        yield Assumption(
            name="noise-law", text="What is drawn has the stated law, and arithmetic on it is exact.", status=ASSUMED,
            evidence=f"{engine} draws and adds in floating point; nothing in delta stands for that",
        )  # fmt: skip
    parts = [part for part in parts_of(record.event or record.registered["planned"]) if "draws" in part]
    if parts:
        evidence = "; ".join(f"2^{part.get('distance_log2', 0)} a draw, {part['draws']} draws in delta" for part in parts)
        yield Assumption(
            name="noise-law", text="What is drawn differs from the stated law by a proven distance, which is part of delta.",
            status=ENFORCED, evidence=evidence,
        )  # fmt: skip
    if record.task["privacy"]["mechanism"] in DISTRIBUTED:
        yield _honest_noise(record)
    else:
        yield Assumption(
            name="trusted-server", text="The server adds the noise, and its operator does not look at single updates or at the noise key.",
            status=ASSUMED, evidence="sums and key live in memory and in one file (0600), which is destroyed at the end of the run",
        )  # fmt: skip


def _honest_noise(record: RunRecord) -> Assumption:
    """Of each sum that the server sees: who counts on a fraction of the whole cohort counts on where the server puts people."""
    sums, fraction = NoisedSums.of(record.task), record.task.get("aggregation", {}).get("corrupt_fraction", "0")
    where = "each group's" if sums.groups > 1 else "a round's"
    if not record.claims_collusion or not sums.corrupt:
        text = f"Every one of {where} devices adds its noise and shows it to nobody."
        evidence = (
            "there is no claim against a colluding server: one device that shows it its noise takes that noise out of the sum"
        )
        return Assumption(name="honest-noise", text=text, status=ASSUMED, evidence=evidence)
    most = f"at most {sums.corrupt} (the fraction {fraction}, and one at least)"
    text = f"Of {where} {sums.roster} devices {most} withhold their noise or show it to the server."
    evidence = f"the colluding claim prices {sums.corrupt}; beyond it nothing is promised"
    if sums.groups > 1:
        evidence += (
            "; who is in which group is the server's word: one that lies may put all devices it has into one group, where only these "
            f"{sums.corrupt} are priced"
        )
    return Assumption(name="honest-noise", text=text, status=ASSUMED, evidence=evidence)


def _contribution(record: RunRecord) -> Iterator[Assumption]:
    secure, engine = bool(record.task.get("aggregation", {}).get("secure")), record.registered["facts"].get("engine")
    kept = (
        "kept by each device, whose update nobody sees"
        if secure
        else "every upload's integer norm is checked before it is added"
    )
    yield Assumption(
        name="bounded-contribution", text="No contribution is longer than the stated bound, rounding included.",
        status=ASSUMED if secure or engine else ENFORCED,
        evidence=f"kept by {engine}, in floating point" if engine else kept,
    )  # fmt: skip
    if secure:
        ideal = bool(record.task.get("aggregation", {}).get("ideal"))
        digest = canonical.digest([facts["transcript"] for facts in record.transcripts])[:16]
        evidence = f"{len(record.transcripts)} transcripts on the record, digest {digest}"
        if ideal or engine:
            evidence = "an ideal sum stood in for the cryptography"
        elif not record.transcripts:
            evidence = "the protocol ran; no transcript of it is on the record"
        yield Assumption(
            name="secure-aggregation", text="The server learns the sum of a round and nothing else.",
            status=ASSUMED if ideal or engine or not record.transcripts else CHECKED,
            evidence=evidence,
        )  # fmt: skip


def _rounds(record: RunRecord) -> Iterator[Assumption]:
    if not record.committed:
        return
    floors = {facts["round"]: facts["floor"] for facts in record.charges}
    below = [facts["round"] for facts in record.committed if facts["reported"] < floors.get(facts["round"], 0)]
    uncharged = [facts["round"] for facts in record.committed if facts["round"] not in floors]
    yield Assumption(
        name="charge-before-reveal", text="The cost of every round was on the record before anything of it was revealed.",
        status=VIOLATED if uncharged else CHECKED,
        evidence=f"rounds {uncharged} have no charge" if uncharged else f"{len(record.charges)} charges for {len(record.committed)} models",
    )  # fmt: skip
    yield Assumption(
        name="survivor-floor", text="Every released sum holds at least as many contributions as its charge assumed.",
        status=VIOLATED if below else CHECKED,
        evidence=f"rounds {below} hold fewer" if below else f"least {min(facts['reported'] for facts in record.committed)} in a sum",
    )  # fmt: skip


def _measured(record: RunRecord, name: str, text: str, otherwise: str) -> Assumption:
    found = [facts for facts in record.checked if facts["assumption"] == name]
    if not found:
        return Assumption(name=name, text=text, status=ASSUMED, evidence=otherwise)
    return Assumption(name=name, text=text, status=CHECKED, evidence=_evidence(found[-1]))


def _broken(line: Assumption, facts: Facts) -> Assumption:
    said = "" if facts["status"] == VIOLATED else f"the entry says {facts['status']}; "
    return replace(line, status=VIOLATED, evidence=said + _evidence(facts))


def _unlisted(name: str) -> Assumption:
    return Assumption(name=name, text="An assumption that this page has no line for.", status=VIOLATED, evidence="")


def _evidence(facts: Facts) -> str:
    return f"{_words(facts['measured'])}; digest {facts['evidence'][:16]}"


def _words(measured: Facts | dict[str, Any]) -> str:
    return ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in sorted(measured.items()))
