"""`tutti cost`: what a task would cost, by itself and for its population."""

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from contract import task
from privacy.ledger.spending import counted
from privacy.report import price_of, shown_up
from server import tasks
from server.budgets import BudgetGuard, Statement
from server.recorder import planned_claims
from tutti import stores
from tutti.commands.options import JsonOption, StoreOption


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command("cost")(cost)


def cost(
    task_file: Annotated[Path, typer.Argument(metavar="TASK.yaml", help="The task to price; nothing is run or recorded.")],
    rounds: Annotated[int | None, typer.Option(min=1, help="Instead of the task's number of rounds.")] = None,
    store: StoreOption = ".tutti",
    json_output: JsonOption = False,
) -> None:
    """Say what all rounds of TASK.yaml would cost, and whether its population's budget has room for them."""
    spec = task.read(task_file)
    prepared = tasks.prepare(spec if rounds is None else task.replace(spec, rounds=rounds))
    claims, delta = planned_claims(prepared.mechanism, prepared.spec), prepared.spec.privacy.delta
    price, colluding = price_of(claims["event"], delta), price_of(counted(claims), delta)
    with stores.opened(store) as (database, _):
        statement = BudgetGuard(database.ledger, population=spec.population).statement(counted(claims), delta=delta)
    answer = {
        "task": spec.name,
        "rounds": prepared.spec.rounds,
        "noise_multiplier": prepared.spec.privacy.noise_multiplier,
        "rho": None if price is None else price.rho,
        "epsilon": None if price is None else price.epsilon,
        "delta": delta,
        "conversion": None if price is None else price.conversion,
        "epsilons": {"generic": None, "exact": None} if price is None else dict(price.epsilons),
        "colluding_epsilon": None if colluding is None or "colluding" not in claims else colluding.epsilon,
        "population": statement.to_json(),
    }
    if json_output:
        typer.echo(json.dumps(answer))
        return
    console = Console(highlight=False)
    if price is None:
        console.print(f"{spec.name}: {prepared.spec.rounds} rounds promise nothing: epsilon is unbounded")
    else:
        rho = "" if price.rho is None else f", rho {shown_up(price.rho)}"
        console.print(
            f"{spec.name}: {prepared.spec.rounds} rounds cost at most epsilon {shown_up(price.epsilon)} at delta {price.delta:g} "
            f"({price.conversion} conversion){rho}",
            soft_wrap=True,
        )
    if colluding is not None and "colluding" in claims:
        told = f"epsilon {shown_up(colluding.epsilon)}; budgets count this one"
        console.print(f"against a server that the corrupt devices give their noise to: {told}", soft_wrap=True)
    console.print(_population_line(statement), soft_wrap=True)


def _population_line(told: Statement) -> str:
    after = "no bound" if told.after is None else f"epsilon {shown_up(told.after)}"
    line = f"population {told.population}: {after} at delta {told.delta:g} with everything charged before"
    if told.budget is None:
        return f"{line}; no budget is set"
    verdict = "fits" if told.fits else told.obstacle or "does not fit"
    return f"{line}; budget {told.budget.epsilon:g} at {told.budget.delta:g}: {verdict}"
