"""Arguments that several commands share."""

import os
from typing import Annotated

import jax
import typer

from client_sim.placement import Placement
from contract.errors import ErrorCode, TuttiError

WORKERS_A_CORE = 4

StoreOption = Annotated[
    str,
    typer.Option("--store", envvar="TUTTI_STORE", help="Directory or database URL that holds the state.", show_default=True),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout; progress goes to stderr.")]
RunArgument = Annotated[str, typer.Argument(metavar="RUN", help="A run's id, a prefix of it, or `latest`.")]
WorkersOption = Annotated[
    int | None, typer.Option(min=0, help="Worker processes; one a core unless given. 0 trains in this process.")
]
BackendOption = Annotated[
    str, typer.Option("--backend", help="`cpu`, `gpu`, `tpu`, or `auto`: an accelerator if one can be used here.")
]
ExecutorOption = Annotated[
    str,
    typer.Option("--executor", help="`processes` of this machine, or `ray` (the extra `ray`): few actors that live all run."),
]
RayAddressOption = Annotated[
    str | None, typer.Option("--ray-address", help="Of a running Ray cluster, such as `auto`; none starts one here.")
]


def placement(workers: int | None, backend: str, executor: str = "processes", ray_address: str | None = None) -> Placement:
    """Where to train, once it is clear that this is possible here.

    Raises:
      TuttiError: ARGUMENT_INVALID or ENGINE_MISSING, before anything is on the record.
    """
    if executor == "processes":
        check_workers(workers)
    chosen = Placement(workers=workers, backend=backend, executor=executor, ray_address=ray_address)
    chosen.chosen_backend()
    # This process evaluates on the processor: the memory of a card is for the worker that trains on it.
    jax.config.update("jax_platforms", "cpu")
    return chosen


def check_workers(workers: int | None) -> None:
    """Refuses more processes than this machine could start in reason: each has a core's work and hundreds of megabytes.

    Raises:
      TuttiError: ARGUMENT_INVALID.
    """
    most = WORKERS_A_CORE * len(os.sched_getaffinity(0))
    if workers is not None and workers > most:
        raise TuttiError(ErrorCode.ARGUMENT_INVALID, f"--workers: at most {most} here, {WORKERS_A_CORE} a core, not {workers}")
