"""What may be done to audits, and how the API tells of them."""

import json

from contract.errors import ErrorCode, Problem, TuttiError
from contract.task import TaskFormError
from privacy.ledger import entries
from server.audits import Audit, PlannedAudit, abandon_runs
from server.jobs import Job, JobKind, JobState
from server.rest import bodies, launching
from server.rest.access import check_population
from server.rest.describing import without_infinities
from server.rest.ledger import visible
from server.rest.services import Services
from server.store.values import Entry
from server.tokens import Principal

OVER = (JobState.DONE.value, JobState.FAILED.value, JobState.CANCELLED.value)


def launch(services: Services, principal: Principal, body: bodies.AuditLaunchBody) -> bodies.AuditJobBody:
    """Checks an audit and puts its job in the queue, or before the privacy officer.

    Raises:
      TuttiError: with everything that can be refused before it starts; CONFLICT if the same audit, or another one with the same
        canaries in the same devices, is on its way.
    """
    if services.launcher is None:
        raise TuttiError(ErrorCode.UNAVAILABLE, "this server launches no audits; start it with `tutti serve`")
    if "task" not in body.audit:
        raise TaskFormError(
            (Problem("audit.task", "an audit over REST spells out its task", "Put the task file's keys here."),)
        )
    spec = launching.parse(services, body.audit["task"])
    check_population(principal, spec.population)
    planned = services.launcher.plan_audit(body.audit, spec)
    _require_alone(services, planned)
    services.jobs.add(
        job=planned.id, kind=JobKind.AUDIT, population=planned.population, requested_by=principal.id, workers=body.workers,
        approved=not services.policies.approval_required(planned.population), also=[services.audits.row(planned)],
    )  # fmt: skip
    return told(services, planned.id)


def find(services: Services, principal: Principal, name: str) -> Audit:
    """The audit that was asked for under an id or a prefix; one of a population outside the token's limits is not found.

    Raises:
      TuttiError: NOT_FOUND.
    """
    audit = services.audits.audit(name)
    if not principal.sees(audit.population):
        raise TuttiError(ErrorCode.NOT_FOUND, f"no audit starts with {name!r}")
    return audit


def approve(services: Services, principal: Principal, audit: Audit) -> bodies.AuditJobBody:
    """Puts the approval on the record and lets the job go.

    Raises:
      TuttiError: FORBIDDEN to whoever asked for the audit; RUN_STATE if it waits for no approval.
    """
    job = _job(services, audit)
    if job.state is not JobState.AWAITING_APPROVAL:
        raise TuttiError(ErrorCode.RUN_STATE, f"audit {audit.id[:12]} does not wait for an approval")
    if principal.id == job.requested_by:
        raise TuttiError(ErrorCode.FORBIDDEN, "whoever asked for an audit cannot approve it: another person must")
    entry = entries.approval(
        population=audit.population, run=None, what="audit", model_digest=None, by=f"token {principal.id}", audit=audit.id
    )
    services.jobs.approve(audit.id, lambda session: services.store.ledger.append_in(session, [entry]))
    return told(services, audit.id)


def resume(services: Services, audit: Audit) -> bodies.AuditJobBody:
    """Lets a failed audit go on where it stopped.

    Raises:
      TuttiError: RUN_STATE unless it failed; CONFLICT while another one with the same canaries in the same devices is on its way.
    """
    job = _job(services, audit)
    if job.state is not JobState.FAILED:
        raise TuttiError(ErrorCode.RUN_STATE, f"the job of audit {audit.id[:12]} is {job.state.value}")
    _require_alone(services, audit, known=True)
    services.jobs.requeue(audit.id)
    return told(services, audit.id)


def cancel(services: Services, audit: Audit) -> bodies.AuditJobBody:
    """Ends an audit and the runs that it leaves unfinished; whoever plays it stops after the round that it is in.

    Raises:
      TuttiError: RUN_STATE if it is over.
    """
    services.jobs.cancel(audit.id)
    for run in abandon_runs(services.store, audit):
        if services.launcher is not None:
            services.launcher.forget(run)
    return told(services, audit.id)


def detail(services: Services, principal: Principal, name: str) -> bodies.AuditDetail:
    """What is on the record about an audit, and its job and result if it was asked for here.

    Raises:
      TuttiError: NOT_FOUND if there is neither.
    """
    try:
        audit = find(services, principal, name)
    except TuttiError:
        audit = None  # an audit from the command line has no job, but it has entries
    read = (
        entry
        for entry in services.store.ledger.entries(kind=entries.EntryKind.AUDIT_RECORDED.value)
        if visible(principal, entry)
    )
    named = [body for body in map(entry_body, read) if _audit_of(body).startswith(name)]
    if audit is None and not named:
        raise TuttiError(ErrorCode.NOT_FOUND, f"no audit on the record starts with {name!r}")
    job = None if audit is None else job_body(audit, _job(services, audit))
    result = None if audit is None or audit.result is None else without_infinities(audit.result)
    return bodies.AuditDetail(items=named, next=None, job=job, result=result)


def told(services: Services, audit: str) -> bodies.AuditJobBody:
    """An audit as it stands now."""
    found = services.audits.audit(audit)
    return job_body(found, _job(services, found))


def job_body(audit: Audit, job: Job) -> bodies.AuditJobBody:
    """An audit and its job as the API tells them."""
    return bodies.AuditJobBody(
        audit=audit.id, name=audit.name, task=audit.task, population=audit.population, state=job.state.value, attempts=job.attempts,
        problem=job.problem, detail=job.detail, started=audit.created_at,
        progress=bodies.AuditProgress.model_validate(audit.progress) if audit.progress else None,
        verdict=None if audit.result is None else str(audit.result["verdict"]),
    )  # fmt: skip


def entry_body(entry: Entry) -> bodies.AuditBody:
    """One entry of an audit."""
    facts = json.loads(entry.body)
    return bodies.AuditBody(index=entry.index, run=facts.get("run"), entry=facts)


def _require_alone(services: Services, planned: PlannedAudit, *, known: bool = False) -> None:
    """Two audits with the same devices would share runs, and a run has one player."""
    same = services.audits.page(limit=1000, populations={planned.population})
    jobs = services.jobs.of_all([audit.id for audit in same])
    for audit in same:
        if audit.id == planned.id:
            if known:
                continue
            raise TuttiError(ErrorCode.CONFLICT, f"this is audit {audit.id[:12]}, which is {jobs[audit.id].state.value}")
        if jobs[audit.id].state.value not in OVER and set(audit.data_digests) & set(planned.data_digests):
            detail = f"audit {audit.id[:12]} is on its way with the same devices: wait for it, or give another seed"
            raise TuttiError(ErrorCode.CONFLICT, detail)


def _job(services: Services, audit: Audit) -> Job:
    job = services.jobs.of(audit.id)
    if job is None:
        raise TuttiError(ErrorCode.INTERNAL, f"audit {audit.id[:12]} has no job")
    return job


def _audit_of(body: bodies.AuditBody) -> str:
    measured = body.entry["measured"]
    return str(measured.get("audit", "")) if isinstance(measured, dict) else ""
