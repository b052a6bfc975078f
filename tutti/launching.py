"""What `tutti serve` adds to the REST application: registering the runs that are asked for. Runners play them (`tutti.runner`)."""

import threading

from client_sim.data import open_loader
from contract.entropy import system_entropy
from contract.task import TaskSpec
from server import registration, tasks
from server.keys import KeyDirectory
from server.registration import RunSettings
from server.store.store import Store
from server.store.values import Run
from tutti import runs


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
        prepared = tasks.prepare(spec, runs.vocabulary(spec, loader))
        settings = RunSettings(
            seed=seed,
            noise_seed=seed_noise,
            transport=self._transport,
            data=spec.data.source,
            data_digest=loader.digest,
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
                not_covered=runs.not_covered(prepared.spec),
                start=start,
            )

    def forget(self, run: str) -> None:
        """Destroys the noise key of a run that is over."""
        self._keys.destroy(run)
