"""Runs that real (or separately simulated) devices play over gRPC: registered by `tutti serve TASK.yaml`, hosted while it lives."""

import asyncio
from collections.abc import Mapping
from typing import Any

import structlog

from contract.entropy import system_entropy
from contract.errors import ErrorCode, TuttiError
from contract.task import TaskSpec
from server import registration, tasks
from server.keys import KeyDirectory
from server.registered_strategy import as_registered
from server.registration import RunSettings
from server.rpc.hosting import Host, HostedRun
from server.store.leases import LEASE_S
from server.store.store import Store
from server.store.values import Run, RunState
from server.transcripts import TranscriptFolder
from tutti import disclosures, hosting
from tutti.spending import Spending

TRANSPORT = "devices"
"""What the settings of such a run say."""
LOOK_S = 2.0
"""Between two looks at the store for runs to host, paused ones, and leases to renew."""
_LOG = structlog.get_logger("tutti.serve")


def refuse(spec: TaskSpec, *, authority: bytes | None) -> None:
    """Says before a run of `spec` is registered that no device could play it here.

    Args:
      authority: public key of the device authority, if there is one.

    Raises:
      TuttiError: TASK_INVALID if the task needs the devices' data here; MECHANISM_UNSUPPORTED as `hosting.refuse`, or for a secure task
        without a device authority.
    """
    if spec.model.vocabulary == "data":
        detail = "model.vocabulary: data would be counted in the devices' text, which a server does not have"
        raise TuttiError(ErrorCode.TASK_INVALID, detail)
    hosting.refuse(spec)
    if spec.aggregation.secure and authority is None:
        raise hosting.without_authority(spec)


def register(database: Store, keys: KeyDirectory, spec: TaskSpec, *, authority: bytes | None = None) -> Run:
    """A new run of `spec` that waits for devices.

    Raises:
      TuttiError: as `refuse`; others as any run.
    """
    refuse(spec, authority=authority)
    prepared = tasks.prepare(spec)
    return registration.register(
        store=database,
        keys=keys,
        prepared=prepared,
        settings=RunSettings(transport=TRANSPORT, data=TRANSPORT, drawn_seed=int.from_bytes(system_entropy(6), "big")),
        not_covered=[line for line in disclosures.not_covered(spec) if "simulator" not in line],
        start=prepared.model.init(0),
    )


class DeviceRuns:
    """Keeps `host` in step with the store: hosts what should run, lets go of what is over, and renews the populations' leases.

    Args:
      authority: public key of the device authority; without one, secure runs wait.
      transcripts: where those of secure runs are kept for auditors.
    """

    def __init__(
        self,
        database: Store,
        keys: KeyDirectory,
        host: Host,
        *,
        authority: bytes | None = None,
        transcripts: TranscriptFolder | None = None,
    ) -> None:
        self._database, self._keys, self._host = database, keys, host
        self._authority, self._transcripts = authority, transcripts
        self._hosted: dict[str, HostedRun] = {}
        self._holder = f"serve-{system_entropy(6).hex()}"
        self._stop = asyncio.Event()
        self._complained: set[str] = set()

    def stop(self) -> None:
        """Ends `keep`."""
        self._stop.set()

    async def keep(self) -> None:
        """Looks at the store again and again, until `stop`."""
        while not self._stop.is_set():
            await self._look()
            try:
                async with asyncio.timeout(LOOK_S):
                    await self._stop.wait()
            except TimeoutError:
                continue

    async def close(self) -> None:
        """Lets go of all runs and leases; whatever round they were in begins anew with the next server."""
        for run in list(self._hosted.values()):
            await self._let_go(run)

    async def _look(self) -> None:
        wanted = await asyncio.to_thread(self._wanted)
        for run in list(self._hosted.values()):
            if run.ended.done() or run.run not in wanted:
                await self._let_go(run)
        for run in wanted.values():
            try:
                await asyncio.to_thread(self._lease, run.spec.population)
                if run.id not in self._hosted:
                    await self._take_up(run)
            except TuttiError as error:
                await self._refused(run, error)

    def _wanted(self) -> Mapping[str, Run]:
        return {
            run.id: run
            for run in self._database.lists.page(limit=None, state=RunState.RUNNING)
            if run.settings["transport"] == TRANSPORT
        }

    def _lease(self, population: str) -> None:
        self._database.leases.take(population, self._holder, lease_s=LEASE_S)

    async def _take_up(self, run: Run) -> None:
        prepared = await asyncio.to_thread(lambda: as_registered(self._database, run, tasks.prepare(run.spec)))
        table = await asyncio.to_thread(
            hosting.table_of,
            self._database,
            self._keys,
            run,
            prepared,
            authority=self._authority,
            transcripts=self._transcripts,
        )
        log, spending = _LOG.bind(run=run.id[:12]), Spending(self._database, run)

        def heard(facts: Mapping[str, Any]) -> None:
            spent = spending.now()
            self._database.add_facts(run.id, int(facts["round"]), spent)
            log.info("round", **_shown(facts), epsilon=spent["epsilon"])

        hosted = hosting.hosted(self._database, table, run.spec.population, heard)
        self._hosted[run.id] = hosted
        self._host.add(hosted)
        log.info("hosted", task=run.spec.name, population=run.spec.population, leaf=run.next_leaf, rounds=run.spec.rounds)

    async def _let_go(self, hosted: HostedRun) -> None:
        self._hosted.pop(hosted.run, None)
        await self._host.remove(hosted)
        error = hosted.ended.exception()
        await asyncio.to_thread(self._settle, hosted.run, error)
        if not any(other.population == hosted.population for other in self._hosted.values()):
            await asyncio.to_thread(self._release, hosted.population)

    def _settle(self, name: str, error: BaseException | None) -> None:
        """What remains to be done for a run that is not hosted any more."""
        state = self._database.run(name).state
        if error is not None and state is RunState.RUNNING:
            state = RunState.FAILED
            self._database.set_run_state(name, state)
        if state in (RunState.COMPLETED, RunState.CANCELLED):
            self._keys.destroy(name)
        _LOG.info("let go", run=name[:12], state=state.value, reason=None if error is None else str(error))

    def _release(self, population: str) -> None:
        lease = self._database.leases.owner(population)
        if lease is not None and lease.holder == self._holder:
            self._database.leases.release(lease)

    async def _refused(self, run: Run, error: TuttiError) -> None:
        if run.id in self._hosted:
            await self._let_go(self._hosted[run.id])
        if run.id not in self._complained:
            self._complained.add(run.id)
            _LOG.warning("not hosted", run=run.id[:12], code=error.code.slug, detail=error.detail)


def _shown(facts: Mapping[str, Any]) -> dict[str, Any]:
    shown = {name: facts[name] for name in ("round", "state", "reason", "reported", "cohort") if name in facts}
    return shown | ({"refused": facts["refused"]} if facts.get("refused") else {})
