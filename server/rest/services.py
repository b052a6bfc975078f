"""What routes work with: the store and the tables around it, made once for an application."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from threading import BoundedSemaphore
from typing import Any, Protocol

from fastapi import Request

from contract.task import TaskSpec
from privacy.ledger.notes import SignerKey
from server.audits import Audits, PlannedAudit
from server.jobs import Jobs
from server.observability import Metrics
from server.policies import Policies
from server.rest.answered import AnsweredRequests
from server.rest.limits import BODY_LIMITS, BodyLimits, RateLimit
from server.rest.spendings import Spendings
from server.store.store import Store
from server.store.values import Run
from server.tokens import Tokens

MOST_PRICINGS = 2
"""Tasks that are priced at once. A client that leaves does not end a calculation."""


class Launcher(Protocol):
    """Registers a run for the runners. It knows devices and data, which the server may not."""

    def register(self, spec: TaskSpec, *, seed: int | None, seed_noise: int | None) -> Run:
        """A new run of `spec`, on the record, not yet played.

        Raises:
          TuttiError: with a code of the catalogue if the task, its data or the budget does not allow it.
        """
        ...

    def plan_audit(self, mapping: Mapping[str, Any], spec: TaskSpec) -> PlannedAudit:
        """An audit of `spec`, whose file is `mapping`, checked but not started.

        Raises:
          TuttiError: with a code of the catalogue if the audit, its task or its data does not allow it.
        """
        ...

    def forget(self, run: str) -> None:
        """Destroys the noise key of a run that is over."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """All of it. `open_access` lets requests without a token in as `access.LOCAL`."""

    store: Store
    tokens: Tokens
    jobs: Jobs
    audits: Audits
    policies: Policies
    answered: AnsweredRequests
    rate: RateLimit
    metrics: Metrics
    launcher: Launcher | None
    signer: SignerKey
    spendings: Spendings
    open_access: bool
    data_directory: Path | None = None
    longest_stream_s: float = 3600.0
    body_limits: BodyLimits = BODY_LIMITS
    pricing: BoundedSemaphore = field(default_factory=lambda: BoundedSemaphore(MOST_PRICINGS), repr=False)


def services_of(request: Request) -> Services:
    """The services of the application that answers `request`."""
    return request.app.state.services
