"""Puts a registered run on a gRPC server: its orchestrator, its session table, and what happens after each round."""

from collections.abc import Callable, Mapping
from typing import Any

from contract.clock import Clock, SystemClock
from contract.errors import ErrorCode, TuttiError
from contract.ids import RunId
from contract.task import TaskSpec
from server.faults import FaultHook, no_faults
from server.keys import KeyDirectory
from server.mechanisms import CentralMechanism
from server.orchestrator import Orchestrator
from server.pace import PaceSteering
from server.recorder import charged_without_outcome
from server.registration import key_of
from server.rounds.states import AbandonReason
from server.rpc.hosting import HostedRun
from server.secure_sessions import SecureSessionTable
from server.session_pace import ROUND_GUESS_S
from server.sessions import SessionTable
from server.store.store import Store
from server.store.values import Run, RunState
from server.tasks import PreparedTask
from server.transcripts import TranscriptFolder

Listener = Callable[[Mapping[str, Any]], None]
UNKNOWN_DEVICES = 1_000_000


def refuse(spec: TaskSpec) -> None:
    """Says before a run is registered that devices could not play it over gRPC.

    Raises:
      TuttiError: MECHANISM_UNSUPPORTED for a task whose secure sum is ideal: over a wire there is only the real protocol; or one with
        Poisson sampling: a server takes the devices that come, and sees who they are.
    """
    if spec.privacy.sampling == "poisson":
        why = f"{spec.name}: devices that come by themselves are no Poisson sample"
        cure = "use --transport inprocess, or remove privacy.sampling and sampling_rate"
        raise TuttiError(ErrorCode.MECHANISM_UNSUPPORTED, f"{why}; {cure}")
    if spec.aggregation.ideal:
        detail = f"{spec.name}: an ideal sum exists in a simulation only; remove aggregation.ideal or use --transport inprocess"
        raise TuttiError(ErrorCode.MECHANISM_UNSUPPORTED, detail)


def without_authority(spec: TaskSpec) -> TuttiError:
    """What is said of a secure task to a server that trusts no device authority."""
    detail = (
        f"{spec.name} is a secure task: its devices must be certified by an authority that this server trusts and does not control. "
        "Start it with --device-authority FILE.pub; `tutti authority create FILE.key` makes one for simulated devices"
    )
    return TuttiError(ErrorCode.MECHANISM_UNSUPPORTED, detail)


def table_of(
    database: Store,
    keys: KeyDirectory,
    run: Run,
    prepared: PreparedTask,
    *,
    round_guess_s: float = ROUND_GUESS_S,
    faults: FaultHook = no_faults,
    authority: bytes | None = None,
    transcripts: TranscriptFolder | None = None,
) -> SessionTable:
    """The sessions of a run that goes on. A round that a crash interrupted after its charge is over, and its release used up.

    Devices of their own cannot play such a round again: the records of those that had uploaded rule its release out, so the sum
    would be another, and a fleet that is hardly larger than a cohort would never fill it.

    Args:
      authority: public key of the device authority; needed for a secure task.
      transcripts: where those of a secure task are kept for auditors.

    Raises:
      TuttiError: RUN_STATE if its noise key is gone; MECHANISM_UNSUPPORTED for a secure task without a device authority.
    """
    spec, mechanism = prepared.spec, prepared.mechanism
    cohort = round(spec.cohort.report_goal * spec.cohort.over_selection)
    rounds = Orchestrator(
        store=database,
        run=run,
        mechanism=mechanism,
        optimizer=prepared.optimizer,
        key=key_of(keys, run),
        pace=PaceSteering(devices=UNKNOWN_DEVICES, cohort=cohort, round_s=spec.deadlines.selection_s),
        faults=faults,
        keys=keys,
    )
    if charged_without_outcome(database.rounds(run.id)) is not None and rounds.position() is not None:
        rounds.abandon(AbandonReason.INTERRUPTED)
        rounds.recorded()
    if not isinstance(mechanism, CentralMechanism):
        if authority is None:
            raise without_authority(spec)
        return SecureSessionTable(
            rounds=rounds,
            run=RunId(run.id),
            spec=spec,
            authority=authority,
            round_guess_s=round_guess_s,
            transcripts=transcripts,
        )
    return SessionTable(
        rounds=rounds,
        run=RunId(run.id),
        spec=spec,
        dimension=mechanism.sum_length,
        accepts=mechanism.accepts,
        round_guess_s=round_guess_s,
    )


def hosted(
    database: Store, table: SessionTable, population: str, listener: Listener, *, clock: Clock | None = None
) -> HostedRun:
    """`table` on a thread of its own; needs a running event loop. The run goes on until somebody pauses or cancels it."""

    def on_round(facts: Mapping[str, Any]) -> bool:
        shown = {name: facts[name] for name in (*SHOWN, *SHOWN_OF_SECURE) if name in facts}
        database.add_facts(table.run, int(facts["round"]), shown)
        listener(facts)
        return database.run(table.run).state is RunState.RUNNING

    return HostedRun(table=table, population=population, clock=clock or SystemClock(), on_round=on_round)


SHOWN = ("cohort", "selection_s", "collection_s", "check_ins", "lost", "refused")
"""What the session table adds to a round's facts."""
SHOWN_OF_SECURE = ("phases_s", "groups_abandoned")
"""What it adds in a secure task: how long each phase took, and how many groups were lost."""
