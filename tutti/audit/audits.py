"""A whole audit: the same canaries under a control and under treatments, scored, judged, put on the record.

Nothing of it is kept in memory alone: runs are found again by task, data and seed, scores and round models lie beside the store, so that
an audit that was stopped goes on where it was.
"""

import json
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from client_sim import canaries as canary_files
from client_sim.canaries import CanaryLoader
from client_sim.data import open_loader
from client_sim.data.loader import Loader
from client_sim.data.user_sample import UserSample
from client_sim.placement import Placement
from contract import canonical
from contract.clock import SystemClock
from contract.errors import ErrorCode, TuttiError
from contract.task import TaskSpec
from privacy.audit import Judgement, Verdict, claim, comparison_delta, judge, level_of_each, overall
from privacy.audit.verdict import FAMILY_LEVEL
from server import tasks
from server.store import blobs
from server.store.store import parameters_digest
from tutti import stores
from tutti.audit import arms, measures, page, plots, probing, records
from tutti.audit.arms import Arm
from tutti.audit.scorers import Scorer, make_canaries, scorer_of
from tutti.audit.scores import Scores, Watch
from tutti.audit.specification import AuditSpec
from tutti.playing import Progress, Silence


def _unwatched(_done: int, _total: int) -> None:
    """Nobody watches."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What an audit will do: its id, its canaries, and the devices with them among the real ones."""

    id: str
    made: canary_files.Canaries
    loader: CanaryLoader


@dataclass(frozen=True, slots=True, kw_only=True)
class Watchers:
    """Who is told: of the rounds of an arm, and of the references scored for it."""

    rounds: Callable[[TaskSpec], AbstractContextManager[Progress]] = field(default=lambda _: nullcontext(Silence()))
    scoring: Callable[[str], Watch] = field(default=lambda _: _unwatched)


def plan(spec: AuditSpec, *, data: Loader | None = None) -> Plan:
    """Everything that can be refused before anything is trained, and the audit's id: a digest of its specification and data.

    Args:
      data: the real devices' examples; the task's own source unless given.

    Raises:
      TuttiError: with a code of the catalogue.
    """
    for chosen in spec.arms:
        tasks.refuse(spec.arm(chosen))
    base = data if data is not None else open_loader(spec.task.data, model=spec.task.model.name)
    if spec.users is not None:
        base = UserSample(base=base, most=spec.users, seed=spec.seed)
    made = make_canaries(spec, arms.prepared(spec.task, base))
    loader = CanaryLoader(base=base, canaries=made, per_device=spec.canaries.per_device, seed=spec.seed)
    return Plan(id=canonical.digest({"audit": spec.digest, "data": loader.digest}), made=made, loader=loader)


def run(
    spec: AuditSpec,
    *,
    data: Loader | None = None,
    store: str = ".tutti",
    workers: int | Placement | None = None,
    watchers: Watchers | None = None,
    approved: bool = False,
) -> dict[str, Any]:
    """Trains, scores and judges all arms; returns the audit's object, whose files are beside the store.

    Args:
      data: the real devices' examples; the task's own source unless given.
      approved: whether a second person approved it, where the population asks for that.

    Raises:
      TuttiError: with a code of the catalogue. An audit that fails by its verdict does not raise: its object says `failed`.
    """
    watching, clock = watchers or Watchers(), SystemClock()
    began = clock.now_s()
    planned = plan(spec, data=data)
    audit, made, loader = planned.id, planned.made, planned.loader
    directory = stores.directory(store) / "audits" / audit[:12]
    _write(directory / "canaries.json", canary_files.to_json(made))
    trained, scored, timing = list[Arm](), list[Scores](), _Timing()
    scorer: Scorer | None = None
    for chosen in spec.arms:
        task = spec.arm(chosen)
        with watching.rounds(task) as progress:
            arm = arms.train(
                chosen.name, task, loader, seed=spec.seed, store=store, workers=workers, progress=progress, approved=approved
            )
        if scorer is None or scorer.model is not arm.model:
            scorer = scorer_of(arm.model, made, references=spec.references, beam=spec.beam, seed=spec.seed)
        scored.append(_scored(scorer, arm, directory, watching.scoring(chosen.name), timing))
        trained.append(arm)
    probed: dict[str, probing.Probed] = {}
    if spec.probes is not None:
        for arm, chosen in zip(trained, spec.arms, strict=True):
            if chosen != spec.control:
                probed[arm.name] = probing.probe(
                    spec, spec.arm(chosen), arm.name, store=store, directory=directory, workers=workers, rounds=watching.rounds,
                    approved=approved,
                )  # fmt: skip
    result = _result(spec, audit, made, trained, scored, probed)
    result["cost"] = timing.to_json()
    result["files"] = _publish(result, directory)
    records.record(result, made, trained, store)
    result["seconds"] = round(clock.now_s() - began, 3)
    _write(directory / "audit.json", result)
    return result


def score_model(spec: AuditSpec, parameters_file: Path, canaries_file: Path, *, watch: Watch | None = None) -> dict[str, Any]:
    """Scores the canaries of a file under an existing model: exposures and tests, without a claim to compare with.

    Args:
      parameters_file: safetensors as `tutti export` writes them, of the model that the spec's task names.

    Raises:
      TuttiError: DATA_INVALID for a file that is not of this model.
    """
    base = open_loader(spec.task.data, model=spec.task.model.name)
    model = arms.prepared(spec.task, base)
    parameters = read_parameters(parameters_file, model)
    found = canary_files.read(canaries_file)
    scorer = scorer_of(model, found, references=spec.references, beam=spec.beam, seed=spec.seed)
    grid = measures.grid_json(measures.grid_measures(found, scorer.scores(parameters, watch)), None, seed=spec.seed)
    digest = parameters_digest(blobs.pack_parameters(parameters))
    return {"model_digest": digest, "canaries": found.digest, "grid": grid}


def read_parameters(path: Path, model: Any) -> np.ndarray[Any, np.dtype[np.float32]]:
    """The flat parameters in a safetensors file with the model's arrays by name.

    Raises:
      TuttiError: DATA_INVALID if the file does not hold this model.
    """
    from safetensors import SafetensorError
    from safetensors import numpy as safetensors

    try:
        arrays = safetensors.load_file(path)
        return model.ravel({name: arrays[name].reshape(shape) for name, shape in model.shapes.items()})
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        raise TuttiError(ErrorCode.DATA_INVALID, f"{path}: holds no {model.name}: {error}") from None


def _scored(scorer: Scorer, arm: Arm, directory: Path, watch: Watch, timing: "_Timing") -> Scores:
    """The scores of an arm's model, from the file that an earlier start of the same audit left if there is one."""
    path = directory / f"scores-{arm.name}-{arm.model_digest[:16]}.npz"
    if path.is_file():
        with np.load(path) as kept:
            return Scores(
                grid=kept["grid"],
                references=kept["references"],
                coins=kept["coins"],
                extracted=kept["extracted"] if "extracted" in kept.files else None,
            )
    clock = SystemClock()
    began = clock.now_s()
    found = scorer.scores(arm.parameters, watch)
    timing.add(found.references.size, clock.now_s() - began)
    before = scorer.coin_scores(arm.start)
    found = Scores(grid=found.grid, references=found.references, coins=found.coins - before, extracted=found.extracted)
    kept = {"grid": found.grid, "references": found.references, "coins": found.coins}
    with path.open("wb") as file:
        if found.extracted is None:
            np.savez(file, allow_pickle=False, **kept)
        else:
            np.savez(file, allow_pickle=False, extracted=found.extracted, **kept)
    return found


def _result(
    spec: AuditSpec,
    audit: str,
    made: canary_files.Canaries,
    trained: list[Arm],
    scored: list[Scores],
    probed: Mapping[str, "probing.Probed"],
) -> dict[str, Any]:
    bounds = (len(trained) if made.coins else 0) + sum(len(found.bounds) for found in probed.values())
    level = level_of_each(max(1, bounds), family=FAMILY_LEVEL)
    grids = [measures.grid_measures(made, scores) for scores in scored]
    control = grids[0] if spec.control else None
    rows, judged = list[dict[str, Any]](), list[Judgement]()
    for arm, scores, grid in zip(trained, scored, grids, strict=True):
        against = None if grid is control else control
        row = records.arm_json(arm, measures.grid_json(grid, against, seed=spec.seed))
        if made.coins:
            found = _coins(spec, arm, made, scores, level)
            row["coins"], judged = records.judgement_json(found), [*judged, found]
        if arm.name in probed:
            findings = probed[arm.name].judgements(level)
            row["probes"] = {**probed[arm.name].to_json(), "judgements": [records.judgement_json(one) for one in findings]}
            judged += findings
        rows.append(row)
    return {
        "audit": audit,
        "name": spec.name,
        "task": spec.task.name,
        "population": spec.task.population,
        "seed": spec.seed,
        "canaries": {"digest": made.digest, "inserted": sum(one.inserted for one in made.grid), "devices": made.num_devices},
        "references": spec.references,
        "family_level": FAMILY_LEVEL,
        "arms": rows,
        "verdict": overall(judged).value,
        "failed": [records.judgement_json(one) for one in judged if one.verdict is not Verdict.PASSED],
    }


def _coins(spec: AuditSpec, arm: Arm, made: canary_files.Canaries, scores: Scores, level: float) -> Judgement:
    delta = comparison_delta(len(made.coins), level=level, at_most=arm.delta or measures.DEFAULT_DELTA)
    devices = spec.canaries.coin_devices
    bound = measures.coin_bound(made, np.zeros_like(scores.coins), scores.coins, delta=delta, level=level)
    finding = measures.bound_finding(f"{arm.name}: one run", bound, released="final model", devices=devices)
    return judge([claim(arm.event, finding.scope)], [finding])[0]


def _publish(result: Mapping[str, Any], directory: Path) -> dict[str, str]:
    files = plots.draw(result, directory)
    files["page"] = directory / "audit.html"
    files["page"].write_text(page.render(result, files), encoding="utf-8")
    files["result"], files["canaries"] = directory / "audit.json", directory / "canaries.json"
    return {name: str(path) for name, path in files.items()}


def _write(path: Path, value: Mapping[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")


@dataclass(slots=True)
class _Timing:
    """How many references were scored in this start of the audit, and how long that took."""

    references: int = 0
    seconds: float = 0.0

    def add(self, references: int, seconds: float) -> None:
        self.references += references
        self.seconds += seconds

    def to_json(self) -> dict[str, Any]:
        rate = self.references / self.seconds if self.seconds else None
        return {"references_scored": self.references, "scoring_s": round(self.seconds, 3), "references_per_s": rate}
