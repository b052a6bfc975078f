"""What `tutti serve` adds to the REST application: registering the runs that are asked for. Runners play them (`tutti.runner`)."""

import threading
from collections.abc import Mapping
from typing import Any

from client_sim.data import open_loader
from contract import task
from contract.entropy import system_entropy
from contract.errors import Problem
from contract.task import TaskFormError, TaskSpec
from server import registration, tasks
from server.audits import PlannedAudit
from server.keys import KeyDirectory
from server.registration import RunSettings
from server.store.store import Store
from server.store.values import Run
from tutti import audit as audits
from tutti import disclosures
from tutti.audit import probing, specification
from tutti.audit.specification import AuditSpec


class SimulatedRuns:
    """Registers runs over simulated devices; the `Launcher` of `server.rest.create_app`."""

    def __init__(self, store: Store, keys: KeyDirectory, *, transport: str = "inprocess") -> None:
        self._store, self._keys, self._transport = store, keys, transport
        self._one_at_a_time = threading.Lock()

    def register(self, spec: TaskSpec, *, seed: int | None, seed_noise: int | None) -> Run:
        """A new run of `spec`, on the record, not yet played.

        Raises:
          TuttiError: with a code of the catalogue if the task, its data or the budget does not allow it.
        """
        loader = open_loader(spec.data, model=spec.model.name)
        prepared = tasks.prepare(spec, disclosures.vocabulary(spec, loader))
        settings = RunSettings(
            seed=seed,
            noise_seed=seed_noise,
            transport=self._transport,
            data=spec.data.source,
            data_digest=loader.digest,
            devices=loader.num_devices,
            drawn_seed=int.from_bytes(system_entropy(6), "big"),
        )
        start = prepared.model.init(0)
        # A run's id is its ordinal's: two requests for one task must not draw the same.
        with self._one_at_a_time:
            return registration.register(
                store=self._store,
                keys=self._keys,
                prepared=prepared,
                settings=settings,
                not_covered=disclosures.not_covered(prepared.spec),
                start=start,
                approved=True,  # its job waits until it is
            )

    def plan_audit(self, mapping: Mapping[str, Any], spec: TaskSpec) -> PlannedAudit:
        """An audit of `spec`, whose file is `mapping`, with everything checked that can be refused before it starts.

        Raises:
          TaskFormError: for a fault of form, or an arm that would change what is trained on or for whom.
          TuttiError: with another code of the catalogue if the task or its data does not allow it.
        """
        audit = audits.parse_mapping({"name": f"audit-{spec.name}"[:63], **mapping, "task": task.to_mapping(spec)})
        _same_subject(audit)
        planned = audits.plan(audit)
        digests = [planned.loader.digest]
        if audit.probes is not None:
            digests.append(probing.loader_of(audit.probes, seed=audit.seed).digest)
        return PlannedAudit(
            id=planned.id, name=audit.name, task=spec.name, population=spec.population, spec=specification.to_mapping(audit),
            data_digests=tuple(digests),
        )  # fmt: skip

    def forget(self, run: str) -> None:
        """Destroys the noise key of a run that is over."""
        self._keys.destroy(run)


def _same_subject(audit: AuditSpec) -> None:
    """An arm changes how the task is trained; a model, data or population of its own would pass by the checks of the task."""
    faults = [
        Problem(f"{arm.name}.change.{key}", f"over REST an arm keeps the task's {key}", "Ask for another audit instead.")
        for arm in audit.arms
        for key in ("model", "data", "population")
        if getattr(audit.arm(arm), key) != getattr(audit.task, key)
    ]
    if faults:
        raise TaskFormError(tuple(faults))
