"""`tutti ledger transcripts`: what the parties of secure aggregation signed, exported and held against the ledger."""

import json
from pathlib import Path
from typing import Annotated

import typer

from contract.errors import ErrorCode, TuttiError
from privacy.ledger import export
from server import transcripts
from server.transcripts import CheckedTranscript, TranscriptFolder, TranscriptState
from tutti import stores
from tutti.commands.options import JsonOption, RunArgument, StoreOption

FromExport = Annotated[
    Path | None,
    typer.Option(
        "--from-export", metavar="FILE", help="An exported ledger, with --from in place of the store: needs no store."
    ),
]
FromFolder = Annotated[Path | None, typer.Option("--from", metavar="DIR", help="Transcripts that --out has written.")]
OutFolder = Annotated[Path | None, typer.Option("--out", "-o", metavar="DIR", help="Also write the transcripts there.")]
Authority = Annotated[
    str | None, typer.Option(metavar="HEX", help="Public key of the device authority as you know it, 32 bytes.")
]


def check_transcripts(
    run: RunArgument = "latest",
    out: OutFolder = None,
    from_export: FromExport = None,
    from_folder: FromFolder = None,
    authority: Authority = None,
    store: StoreOption = ".tutti",
    json_output: JsonOption = False,
) -> None:
    """Replay the secure aggregation of a run: who was certified, who signed what, that nobody released two shares of one device.

    Transcripts are kept for 30 days; digests stay in the ledger. Exit code 8 if a transcript does not follow from its digest, or is not
    sound.
    """
    if (from_export is None) != (from_folder is None):
        raise TuttiError(ErrorCode.ARGUMENT_INVALID, "give --from-export and --from together")
    key = None if authority is None else _key(authority)
    if from_export is not None and from_folder is not None:
        name, bodies = _of_export(from_export, run)
        folder = TranscriptFolder(from_folder)
    else:
        with stores.existing(store) as (database, _):
            name = database.run(run).id
            bodies = [entry.body for entry in database.ledger.entries(run=name, kind=transcripts.KIND)]
        folder = stores.transcripts(store)
        folder.expire()
    found = transcripts.check(bodies, folder.read, authority=key)
    if out is not None:
        _write(folder, name, found, out)
    if json_output:
        typer.echo(json.dumps({"run": name, "transcripts": [one.to_json() for one in found]}))
    else:
        _print(found, known=key is not None)
    if any(one.state is TranscriptState.FAULTY for one in found):
        raise typer.Exit(ErrorCode.LEDGER_BROKEN.value.exit_code)


def _of_export(path: Path, run: str) -> tuple[str, list[bytes]]:
    try:
        with path.open(encoding="utf-8") as file:
            bodies = [entry.body for entry in export.read(file).entries]
    except OSError as error:
        raise TuttiError(ErrorCode.NOT_FOUND, f"{path}: {error.strerror}") from None
    except ValueError as error:
        raise TuttiError(ErrorCode.LEDGER_BROKEN, f"{path}: {error}") from None
    signed = [body for body in bodies if json.loads(body)["kind"] == transcripts.KIND]
    runs = list(dict.fromkeys(str(json.loads(body)["run"]) for body in signed))
    named = runs[-1:] if run == "latest" else [name for name in runs if name.startswith(run)]
    if len(named) != 1:
        raise TuttiError(ErrorCode.NOT_FOUND, f"{path}: {len(named)} runs with secure aggregation are named {run!r}")
    return named[0], [body for body in signed if json.loads(body)["run"] == named[0]]


def _write(folder: TranscriptFolder, run: str, found: list[CheckedTranscript], out: Path) -> None:
    target = out / run
    target.mkdir(parents=True, exist_ok=True)
    for one in found:
        raw = folder.read(run, one.round, one.group)
        if raw is not None:
            (target / f"{one.round}-{one.group}.json").write_bytes(raw)


def _print(found: list[CheckedTranscript], *, known: bool) -> None:
    for one in found:
        if one.state is TranscriptState.FAULTY:
            typer.echo(f"round {one.round}, group {one.group}: {'; '.join(one.faults)}")
    count = {state: sum(one.state is state for one in found) for state in TranscriptState}
    told = ", ".join(f"{many} {state.value}" for state, many in count.items() if many)
    typer.echo(f"{len(found)} secure sums on the record: {told}" if found else "no secure sum is on the record of this run")
    if not known and any(one.authority for one in found):
        typer.echo("the device authority's key is what the transcripts say: give yours with --authority")


def _key(text: str) -> bytes:
    try:
        key = bytes.fromhex(text)
    except ValueError:
        key = b""
    if len(key) != 32:
        raise TuttiError(ErrorCode.ARGUMENT_INVALID, "--authority: 64 hexadecimal digits are expected")
    return key
