"""A model to take along: safetensors, a model card, the privacy report."""

import json
from pathlib import Path
from typing import Any

from safetensors import numpy as safetensors

from client_sim.data import open_loader
from privacy.report import shown_up
from server import releases, tasks
from server.store.store import Store
from server.store.values import Run
from tutti import results
from tutti.disclosures import vocabulary
from tutti.predictions import needs_data


def export(store: Store, run: Run, directory: Path) -> dict[str, Path]:
    """Writes `model.safetensors`, `model_card.md`, `result.json`; returns where they are. The release is on the record first.

    Raises:
      TuttiError: ENTRY_NOT_COMMITTED if the model may not leave yet.
    """
    stored = releases.release(store, run, None, to="export")
    words = vocabulary(run.spec, open_loader(run.spec.data, model=run.spec.model.name)) if needs_data(run) else None
    model = tasks.prepare(run.spec, words).model
    result = results.result(store, run)
    directory.mkdir(parents=True, exist_ok=True)
    files = {
        "model": directory / "model.safetensors",
        "model card": directory / "model_card.md",
        "result": directory / "result.json",
    }
    metadata = {"run": run.id, "round": str(stored.round), "parameters_sha256": stored.digest, "model": run.spec.model.name}
    safetensors.save_file(dict(model.unravel(stored.parameters)), files["model"], metadata=metadata)
    files["model card"].write_text(model_card(run, result, num_parameters=model.num_parameters), encoding="utf-8")
    files["result"].write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    return files


def model_card(run: Run, result: dict[str, Any], *, num_parameters: int) -> str:
    """A page on what the model is, how it was trained, what it cost, and what that does not cover."""
    privacy, spec = result["privacy"], run.spec
    epsilon = "unbounded" if privacy["epsilon"] is None else f"{shown_up(privacy['epsilon'])} at delta {privacy['delta']:g}"
    lines = [
        f"# {spec.model.name}, trained by task `{spec.name}`",
        "",
        *(f"> {line}" for line in privacy["first_lines"]),
        "",
        f"- {num_parameters:,} parameters, float32, named arrays in `model.safetensors`",
        f"- run `{run.id}`, {result['rounds']} rounds of {spec.cohort.report_goal} devices, {result['abandoned']} abandoned",
        f"- population `{spec.population}`, data `{run.settings['data']}` (sha256 {run.settings['data_digest'][:16]}...)",
        f"- mechanism {privacy['mechanism']}; epsilon {epsilon}, {privacy['conversion'] or 'no'} conversion",
        f"- unit {privacy['unit']}, {privacy['adjacency']} adjacency, tier: {privacy['tier']}",
        f"- parameters' sha256 `{result['model_digest']}`",
        "",
        "| metric | value |",
        "|---|---|",
        *(f"| {name} | {value:.4g} |" for name, value in result["metrics"].items()),
        "",
        f"`tutti report {run.id[:12]}` recomputes every number from the ledger.",
        "",
    ]
    return "\n".join(lines)
