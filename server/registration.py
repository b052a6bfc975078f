"""Registers a run: its id, its noise key, its first ledger entry and its starting model, in that order."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from contract import canonical
from contract.entropy import Entropy, system_entropy
from contract.errors import ErrorCode, TuttiError
from contract.task import TaskSpec
from privacy.ledger import entries, merkle
from server.budgets import BudgetGuard
from server.keys import KeyDirectory, NoiseKey, fresh_key, seeded_key
from server.policies import Policies
from server.recorder import planned_claims
from server.store import blobs
from server.store.store import Store, parameters_digest
from server.store.values import Run, StoredModel
from server.tasks import PreparedTask

CODE_PACKAGES = ("contract", "privacy", "secagg", "trainer", "server", "client_sim", "tutti")


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSettings:
    """How a run was started. Seeds void what they fix: `noise_seed` voids the guarantee, `seed` fixes the simulation only."""

    seed: int | None = None
    noise_seed: int | None = None
    transport: str = "inprocess"
    data: str = "synthetic"
    data_digest: str = ""
    drawn_seed: int = 0
    """What the simulation is driven by when no `seed` is given: drawn once, so that a resumed run meets the same devices."""
    devices: int | None = None
    """Devices in the data; None where devices come by themselves."""
    shared_records: int | None = None
    """First index of this run in the device records of its population; None if its devices keep records of their own."""
    engine: str | None = None
    """Name and version of what computes in our stead; None for our own engine."""

    def to_json(self) -> dict[str, Any]:
        """Plain values for the store."""
        return {
            "seed": self.seed,
            "noise_seed": self.noise_seed,
            "transport": self.transport,
            "data": self.data,
            "data_digest": self.data_digest,
            "drawn_seed": self.drawn_seed,
            "devices": self.devices,
            "shared_records": self.shared_records,
            "engine": self.engine,
        }


def register(
    *,
    store: Store,
    keys: KeyDirectory,
    prepared: PreparedTask,
    settings: RunSettings,
    not_covered: Sequence[str],
    start: NDArray[np.float32],
    entropy: Entropy = system_entropy,
    approved: bool = False,
) -> Run:
    """A new run of `prepared`, on the record with what all its rounds would cost.

    Args:
      not_covered: accesses to private data that the sums do not cover, in plain words; they come first in every report.
      start: float32, shape (d,), the starting parameters.
      approved: whether a second person approved the run, or its job waits until one does.

    Raises:
      TuttiError: FORBIDDEN if the population asks for an approval and there is none.
      TuttiError: BUDGET_EXCEEDED if the population's budget has no room for all its rounds.
    """
    spec = prepared.spec
    if not approved:
        Policies(store.transactions, store.ledger).check_start(spec.population)
    claims = planned_claims(prepared.mechanism, spec)
    BudgetGuard(store.ledger, population=spec.population).check_run(claims, seeded=seeded(settings))
    run, ordinal = store.next_run_id(spec)
    key = fresh_key(entropy) if settings.noise_seed is None else seeded_key(settings.noise_seed, run)
    keys.create(run, key)

    # Under add-or-remove their number is itself private: whoever knows of all others would learn from it who is in the data.
    devices = settings.devices if prepared.mechanism.sampling_rate is None else None

    def entry(head: merkle.Frontier) -> bytes:
        return entries.run_registered(
            population=spec.population,
            run=run,
            task=_task(spec),
            task_digest=spec.digest,
            code_digest=code_digest(),
            planned=claims["event"],
            seeded=seeded(settings),
            facts={
                "unit": "device",
                "adjacency": claims["event"]["adjacency"],
                "not_covered": list(not_covered),
                "start_digest": parameters_digest(blobs.pack_parameters(start)),
                **({} if devices is None else {"devices": devices}),
                **({} if settings.shared_records is None else {"shared_records": settings.shared_records}),
                **({} if settings.engine is None else {"engine": settings.engine}),
                "known_head": {"size": head.size, "root": head.root().hex()},
                **({"planned_colluding": claims["colluding"]} if "colluding" in claims else {}),
            },
        )

    model = StoredModel(
        run=run,
        round=0,
        digest=parameters_digest(blobs.pack_parameters(start)),
        parameters=start,
        optimizer=prepared.optimizer.init(len(start)),
        entry=None,
    )
    return store.register_run(
        spec=spec, ordinal=ordinal, settings=settings.to_json(), entry=entry, start=model, noise_key_id=key.id
    )


def key_of(keys: KeyDirectory, run: Run) -> NoiseKey:
    """The noise key of a run that goes on.

    Raises:
      TuttiError: RUN_STATE if it is gone, or is not the one that the run's noise was drawn from so far.
    """
    key = keys.read(run.id)
    if key.id != run.noise_key_id:
        raise TuttiError(ErrorCode.RUN_STATE, f"the key file of run {run.id[:12]} is of another run: it cannot go on")
    return key


def seeded(settings: RunSettings | Mapping[str, Any]) -> tuple[str, ...]:
    """What a seed fixes in this run.

    >>> seeded(RunSettings(seed=1))
    ('simulation',)
    """
    facts = settings if isinstance(settings, Mapping) else settings.to_json()
    return tuple(name for name, key in (("simulation", "seed"), ("noise", "noise_seed")) if facts[key] is not None)


@cache
def code_digest() -> str:
    """Hex SHA-256 over the source files of our packages, by name and content."""
    root, files = Path(__file__).parent.parent, hashlib.sha256()
    for package in CODE_PACKAGES:
        for path in sorted((root / package).rglob("*.py")):
            files.update(path.relative_to(root).as_posix().encode() + b"\x00" + hashlib.sha256(path.read_bytes()).digest())
    return files.hexdigest()


def _task(spec: TaskSpec) -> dict[str, canonical.Json]:
    body = canonical.plain(spec)
    if not isinstance(body, dict):
        raise ValueError("a task is written as an object")
    return body
