"""`tutti ledger`: verify, export, sign, set a budget, change the key, replay secure sums."""

import json
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Annotated

import typer
from rich.console import Console

from contract.errors import ErrorCode, TuttiError
from privacy.ledger import entries, export
from privacy.ledger.notes import VerifierKey
from privacy.ledger.verification import Verdict, endorse, verify
from server import budgets
from server.store.crosscheck import verify_store
from server.tasks import model_length
from tutti import stores
from tutti.commands.options import JsonOption, StoreOption
from tutti.commands.transcripts import check_transcripts

FromExport = Annotated[
    Path | None,
    typer.Option("--from-export", metavar="FILE", help="Verify an exported ledger instead of the store; needs no store."),
]
Since = Annotated[
    list[Path] | None,
    typer.Option(
        metavar="CHECKPOINT", help="A checkpoint that you kept from earlier: the ledger has to begin with it. May be repeated."
    ),
]
KeyFile = Annotated[
    Path | None, typer.Option("--key", metavar="FILE", help="The log's public key as you know it (the store's ledger.pub).")
]
OutFile = Annotated[Path | None, typer.Option("--out", "-o", metavar="FILE", help="Instead of standard output.")]


def register(app: typer.Typer) -> None:
    """Adds the commands."""
    group = typer.Typer(help="Verify and export the privacy ledger; sign checkpoints of it.", no_args_is_help=True)
    group.command("verify")(verify_ledger)
    group.command("export")(export_ledger)
    group.command("checkpoint")(sign_checkpoint)
    group.command("budget")(set_budget)
    group.command("rotate-key")(rotate_key)
    group.command("transcripts")(check_transcripts)
    app.add_typer(group, name="ledger")


def verify_ledger(
    from_export: FromExport = None,
    since: Since = None,
    key: KeyFile = None,
    store: StoreOption = ".tutti",
    json_output: JsonOption = False,
) -> None:
    """Check every entry, the tree, the signatures and the order of events, offline.

    An operator who holds the signing key can sign any history, so keep checkpoints (`tutti ledger checkpoint`) outside the operator's
    reach and give them with --since. Exit code 8 if anything is wrong.
    """
    notes = tuple(_read(path) for path in since or ())
    known = None if key is None else _key(key)
    verdict = _verdict(from_export, notes, known, store)
    if json_output:
        typer.echo(json.dumps(verdict.to_json()))
    else:
        _print(verdict, checked_against=len(notes), key_known=known is not None or from_export is None)
    if not verdict.ok:
        raise typer.Exit(ErrorCode.LEDGER_BROKEN.value.exit_code)


def export_ledger(out: OutFile = None, store: StoreOption = ".tutti") -> None:
    """Write the whole ledger as JSON lines: public key, entries with their leaf hashes, signed checkpoints."""
    with stores.existing(store) as (database, _), _output(out) as file:
        signer = stores.ledger_key(store).signer()
        database.ledger.sign(signer)
        bodies = (entry.body for entry in database.ledger.entries())
        for line in export.lines(signer.verifier, bodies, database.ledger.checkpoints()):
            file.write(line + "\n")


def sign_checkpoint(out: OutFile = None, store: StoreOption = ".tutti") -> None:
    """Sign the ledger as it is now (C2SP tlog-checkpoint). Give it to whoever should be able to find a changed history."""
    with stores.existing(store) as (database, _), _output(out) as file:
        file.write(database.ledger.sign(stores.ledger_key(store).signer()))


def set_budget(
    population: Annotated[str, typer.Argument(metavar="POPULATION", help="Whose budget.")],
    reason: Annotated[str, typer.Option(help="Why; goes on the record.")],
    epsilon: Annotated[float | None, typer.Option(min=0, help="All accesses together may cost so much.")] = None,
    delta: Annotated[float | None, typer.Option(min=0, max=1, help="At this delta.")] = None,
    lift: Annotated[bool, typer.Option("--lift", help="Take the budget away.")] = False,
    store: StoreOption = ".tutti",
    json_output: JsonOption = False,
) -> None:
    """Set or lift the privacy budget of a population, with the reason on the record."""
    if lift == (epsilon is not None and delta is not None):
        raise TuttiError(ErrorCode.ARGUMENT_INVALID, "give either --epsilon and --delta, or --lift")
    try:
        budget = None if lift or epsilon is None or delta is None else budgets.Budget(epsilon=epsilon, delta=delta)
    except ValueError as error:
        raise TuttiError(ErrorCode.ARGUMENT_INVALID, str(error)) from None
    with stores.opened(store) as (database, _):
        index = budgets.set_budget(database.ledger, population, budget, reason=reason, by="operator")
    typer.echo(json.dumps({"entry": index})) if json_output else typer.echo(f"on the record as entry {index}", err=True)


def rotate_key(
    reason: Annotated[str, typer.Option(help="Why; goes on the record.")],
    store: StoreOption = ".tutti",
    json_output: JsonOption = False,
) -> None:
    """Sign with a fresh key from now on. The old key endorses the new one, on the record, before it is destroyed."""
    holder = stores.ledger_key(store)
    with stores.existing(store) as (database, _):
        old, fresh = holder.signer(), holder.successor()
        database.ledger.sign(old)
        retired, current = str(old.verifier), str(fresh.verifier)
        # First the record: a stop in between leaves the old key, which still counts, and not a new one that nobody endorsed.
        database.append_entry(
            entries.key_rotated(retired=retired, current=current, endorsement=endorse(old, fresh.verifier), reason=reason)
        )
        holder.replace(fresh)
        database.ledger.sign(fresh)
    typer.echo(json.dumps({"retired": retired, "current": current}) if json_output else current)


def _verdict(from_export: Path | None, notes: tuple[str, ...], known: VerifierKey | None, store: str) -> Verdict:
    if from_export is None:
        with stores.existing(store) as (database, _):
            return verify_store(database, key=known or stores.ledger_key(store).verifier(), since=notes, length_of=model_length)
    try:
        with from_export.open(encoding="utf-8") as file:
            found = export.read(file)
    except OSError as error:
        raise TuttiError(ErrorCode.NOT_FOUND, f"{from_export}: {error.strerror}") from None
    except ValueError as error:
        raise TuttiError(ErrorCode.LEDGER_BROKEN, f"{from_export}: {error}") from None
    return verify(
        found.entries,
        key=known or found.key,
        checkpoints=found.checkpoints,
        since=notes,
        whole_tasks=True,
        length_of=model_length,
    )


def _print(verdict: Verdict, *, checked_against: int, key_known: bool) -> None:
    console = Console(highlight=False)
    for problem in verdict.problems:
        place = "" if problem.entry is None else f"entry {problem.entry}: "
        console.print(f"[bold red]{problem.kind.value}[/] {place}{problem.detail}", soft_wrap=True)
    if verdict.ok:
        kept = (
            f", and begin with the {checked_against} kept" if checked_against else "; no earlier checkpoint was given (--since)"
        )
        console.print(f"[green]ok[/] {verdict.entries} entries follow from each other{kept}", soft_wrap=True)
    if not key_known:
        console.print(
            f"[yellow]the public key {verdict.key} is what the export says[/]: compare it, or give yours with --key",
            soft_wrap=True,
        )


def _read(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise TuttiError(ErrorCode.NOT_FOUND, f"{path}: {error}") from None


def _key(path: Path) -> VerifierKey:
    try:
        return VerifierKey.parse(_read(path))
    except ValueError as error:
        raise TuttiError(ErrorCode.ARGUMENT_INVALID, f"{path}: {error}") from None


@contextmanager
def _output(out: Path | None) -> Generator[IO[str]]:
    if out is None:
        yield sys.stdout
    else:
        with out.open("w", encoding="utf-8") as file:
            yield file
