"""What may be done to runs: launch, pause, resume, cancel, approve."""

from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

from contract import canonical, task
from contract.errors import ErrorCode, Problem, TuttiError
from contract.task import TaskFormError, TaskSpec
from server import releases
from server.jobs import Job, JobState
from server.rest import approvals, bodies
from server.rest.access import check_population
from server.rest.services import Services
from server.store.values import Run, RunState
from server.tokens import Principal

LONGEST_NAME = 100
"""Characters of a file's name in the data directory; no file system refuses so few to be asked for."""
OVER = (RunState.COMPLETED, RunState.CANCELLED)


def launch(services: Services, principal: Principal, body: bodies.LaunchBody) -> tuple[Run, Job]:
    """Registers a run and puts its job in the queue, or before the privacy officer.

    Raises:
      TuttiError: with everything that can be refused before a run starts.
    """
    if services.launcher is None:
        raise TuttiError(ErrorCode.UNAVAILABLE, "this server launches no runs; start it with `tutti serve`")
    spec = parse(services, body.task)
    check_population(principal, spec.population)
    run = services.launcher.register(spec, seed=body.seed, seed_noise=body.seed_noise)
    job = services.jobs.add(
        job=run.id, population=spec.population, requested_by=principal.id, workers=body.workers,
        approved=not services.policies.approval_required(spec.population),
    )  # fmt: skip
    return run, job


def parse(services: Services, mapping: object) -> TaskSpec:
    """A task from outside: models and data are registered names.

    Raises:
      TaskFormError: for a fault of form, a dotted path, or a file outside the server's data directory.
    """
    spec = task.parse_mapping(mapping)
    try:
        canonical.encode(canonical.plain(spec))
    except ValueError as error:
        # A number may be beyond what canonical JSON, and so an entry, can hold.
        raise TaskFormError((Problem("$", str(error), "Give numbers below 2^53."),)) from None
    faults: list[Problem] = []
    if ":" in spec.model.name:
        faults.append(
            Problem("model.name", "over REST a model is a registered name, never an import", "Use a registered model.")
        )
    if spec.model.init_from is not None:
        located = _in_data(services, "model.init_from", spec.model.init_from, faults)
        spec = spec if located is None else task.replace(spec, model={"init_from": located})
    if spec.data.source != "synthetic":
        located = _in_data(services, "data.source", spec.data.source, faults)
        spec = spec if located is None else task.replace(spec, data={"source": located})
    if faults:
        raise TaskFormError(tuple(faults))
    return spec


def pause(services: Services, run: Run) -> Run:
    """Stops a run between two rounds.

    Raises:
      TuttiError: RUN_STATE if it does not run.
    """
    if run.state is not RunState.RUNNING:
        raise TuttiError(ErrorCode.RUN_STATE, f"run {run.id[:12]} is {run.state.value}, so it cannot be paused")
    services.store.set_run_state(run.id, RunState.PAUSED)
    return run


def resume(services: Services, run: Run) -> Run:
    """Queues a paused or failed run again.

    Raises:
      TuttiError: RUN_STATE if it runs, is over, waits for an approval that its population still asks for, or `tutti run` plays it;
        FORBIDDEN if devices play it and its population asks for an approval that it does not have.
    """
    job = services.jobs.of(run.id)
    if job is None and waits_for_devices(run) and run.state is RunState.PAUSED:
        services.policies.check_resume(run)
        services.store.set_run_state(run.id, RunState.RUNNING)
        return run
    if job is None or run.state in OVER:
        why = "is over" if job is not None else "was not launched over REST: use `tutti runs resume`"
        raise TuttiError(ErrorCode.RUN_STATE, f"run {run.id[:12]} {why}")
    if job.state is JobState.AWAITING_APPROVAL:
        if services.policies.approval_required(run.spec.population):
            raise TuttiError(ErrorCode.RUN_STATE, f"run {run.id[:12]} waits for an approval")
        services.jobs.approve(run.id)  # the rule was lifted, on the record, since it was launched
        services.store.set_run_state(run.id, RunState.RUNNING)
        return run
    if run.state is RunState.RUNNING and job.state is not JobState.FAILED:
        raise TuttiError(ErrorCode.RUN_STATE, f"run {run.id[:12]} is running already")
    if job.state in (JobState.DONE, JobState.FAILED):
        services.jobs.requeue(run.id)
    services.store.set_run_state(run.id, RunState.RUNNING)
    return run


def waits_for_devices(run: Run) -> bool:
    """Whether devices play this run over gRPC, so that no runner has to."""
    return run.settings.get("transport") == "devices"


def cancel(services: Services, run: Run) -> Run:
    """Ends a run.

    Raises:
      TuttiError: RUN_STATE if it is over.
    """
    if run.state in OVER:
        raise TuttiError(ErrorCode.RUN_STATE, f"run {run.id[:12]} is {run.state.value}")
    services.store.set_run_state(run.id, RunState.CANCELLED)
    services.jobs.withdraw(run.id)
    if services.launcher is not None:
        services.launcher.forget(run.id)  # whoever plays its last round holds the key in memory
    return run


def approve(services: Services, principal: Principal, run: Run, body: bodies.ApprovalBody) -> None:
    """Puts an approval on the record and does what it allows.

    Raises:
      TuttiError: FORBIDDEN to whoever launched the run; RUN_STATE if nothing waits for this approval.
    """
    job = services.jobs.of(run.id)
    if not services.policies.approval_required(run.spec.population):
        raise TuttiError(ErrorCode.RUN_STATE, f"run {run.id[:12]} needs no approval")
    if principal.id in _asked_for(services, run, job):
        raise TuttiError(ErrorCode.FORBIDDEN, "whoever launched a run cannot approve it: another person must")
    if body.what == "start":
        _approve_start(services, run, job, approvals.entry(principal, run, what="start"))
        return
    if body.round is None:
        raise TuttiError(ErrorCode.ARGUMENT_INVALID, "round: say after which round the model is to be released")
    model = releases.committed(services.store, run, body.round)
    entry = approvals.entry(principal, run, what="release", model=model)

    def same(facts: Mapping[str, Any]) -> bool:
        return facts["what"] == "release" and facts["model_digest"] == model.digest

    if not services.store.ledger.append_once(entry, run=run.id, kind=approvals.KIND, same=same):
        raise TuttiError(ErrorCode.RUN_STATE, f"the release of the model after {body.round} rounds is approved")


def _approve_start(services: Services, run: Run, job: Job | None, entry: bytes) -> None:
    ledger = services.store.ledger
    if job is not None and job.state is JobState.AWAITING_APPROVAL:
        services.jobs.approve(run.id, lambda session: ledger.append_in(session, [entry]))
        return
    # A run from the command line or of devices has no job: it goes on only with an approval since the rule was turned on.
    alone = job is None and run.state not in OVER
    if not alone or not ledger.append_once(entry, run=run.id, kind=approvals.KIND, same=lambda facts: facts["what"] == "start"):
        raise TuttiError(ErrorCode.RUN_STATE, f"run {run.id[:12]} does not wait for its start")


def _asked_for(services: Services, run: Run, job: Job | None) -> set[str]:
    """The tokens that asked for a run: by itself, or as an arm of an audit, whose runs have no jobs of their own."""
    if job is not None:
        return {job.requested_by}
    audits = services.audits.page(limit=1000, populations={run.spec.population})
    audited = [audit.id for audit in audits if run.settings.get("data_digest") in audit.data_digests]
    return {found.requested_by for found in services.jobs.of_all(audited).values()}


def _in_data(services: Services, key: str, name: str, faults: list[Problem]) -> str | None:
    directory = services.data_directory
    if directory is None or PurePath(name).name != name or name.startswith("."):
        faults.append(
            Problem(
                key,
                f"over REST {name!r} must be the name of a file in the server's data directory",
                "See `tutti serve --data`.",
            )
        )
        return None
    path = directory / name
    if len(name) > LONGEST_NAME or "\0" in name or not path.is_file():
        faults.append(
            Problem(key, f"there is no {name[:LONGEST_NAME]!r} in the server's data directory", "Name a file that is there.")
        )
        return None
    return str(path)
