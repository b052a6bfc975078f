"""What `tutti run` leaves beside the store for people to open: the report, a picture of the rounds, the result."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from privacy import report as reports
from tutti import plots, stores


def write(result: Mapping[str, Any], *, store: str) -> dict[str, str]:
    """Writes `report.md`, `rounds.png` and `result.json` of a run; where they are, by what they are."""
    directory = stores.directory(store) / "runs" / result["run"][:12]
    directory.mkdir(parents=True, exist_ok=True)
    files = {"report": directory / "report.md", "result": directory / "result.json"}
    with stores.opened(store) as (database, _):
        run = database.run(result["run"])
        bodies = [entry.body for entry in database.entries(run=run.id)]
        checkpoint = database.ledger.sign(stores.ledger_key(store).signer())
        made = reports.run_report(bodies, checkpoint=checkpoint)
        files["report"].write_text(reports.to_markdown(made), encoding="utf-8")
        files["result"].write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
        if result["rounds"]:
            files["plots"] = directory / "rounds.png"
            plots.run_page(plots.history(database, run), files["plots"])
    return {name: _short(path) for name, path in files.items()}


def _short(path: Path) -> str:
    here = Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else str(path)
