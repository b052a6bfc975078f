"""Secure rounds of a simulation: the real protocol between `secagg.Server`s and clients in the workers, or its ideal sum.

Both give a sealed sum: what unmasks it runs only when the orchestrator calls it, after the round's charge is committed. A cohort that is
split has one server a group; the groups' sums are added in their order.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from client_sim.executor import Executor, Job
from client_sim.secure_cohort import SecureCohort
from client_sim.secure_work import Replies, secure_context
from client_sim.timing import Phase as DevicePhase
from contract import plan as plans
from contract.entropy import Entropy
from contract.randomness import uniform_by_device
from contract.simulation import SealedContribution
from secagg import Abort, DeviceAuthority, Phase, Result, Server, Transcript, Vector, packing
from secagg.messages import ServerMessage
from server.secure_split import added_up, group_of_place
from server.transcripts import TranscriptFolder
from tutti.virtual_windows import VirtualWindows

LOST_AFTER_INPUT = 0.02
"""Share of the survivors that are gone when it comes to unmasking: half before the consistency check, half after."""
SEED_BYTES = 32


class SecureExecutor(Executor, Protocol):
    """An executor whose devices can be clients of a secure round."""

    def begin_secure(self, job: Job, authority_seed: bytes) -> SecureCohort: ...


class IdealSum:
    """The ideal functionality in place of the cryptography: nobody sees more than the sum, but here that is by decree.

    Args:
      vectors: how a sum is packed; the lanes overflow as the real ones do.
      groups: of a cohort, each with a sum of its own.
      floor: survivors of a group without which there is no sum of it.
    """

    def __init__(self, executor: Executor, vectors: Sequence[Vector], *, groups: int = 1, floor: int = 0) -> None:
        self._executor, self._vectors, self._groups, self._floor = executor, tuple(vectors), groups, floor

    def input_window_s(self, arrivals_s: NDArray[np.float64], roster_size: int) -> float | None:
        """None: an ideal sum has no phases, and waits for inputs as long as the task says."""
        del arrivals_s, roster_size
        return None

    def dump(self) -> bytes:
        """Nothing is learnt."""
        return b""

    def load(self, state: bytes) -> None:
        """Nothing is learnt."""
        del state

    def run(self, job: Job, *, survivors: NDArray[np.int64], leaves: Mapping[int, DevicePhase]) -> SealedContribution:
        """The sum over `survivors`."""
        del leaves
        members = np.isin(job.devices, survivors)
        totals: list[NDArray[np.int64]] = []
        sums, count = dict[str, float](), 0
        for group in range(self._groups):
            there = job.devices[members & (_groups_of(job, self._groups) == group)]
            if len(there) < max(1, self._floor):
                continue
            updates = self._executor.run(replace(job, devices=there if self._groups > 1 else survivors))
            totals.append(updates.total)
            count += updates.count
            for name, values in updates.metrics.items():
                sums[name] = sums.get(name, 0.0) + float(values.sum())
        return SealedContribution(
            reveal=lambda: added_up([self._through_lanes(total) for total in totals]) if totals else None,
            count=count or len(survivors),  # as with the protocol: without a sum it is all who reported that came to nothing
            metrics=sums,
        )

    def _through_lanes(self, total: NDArray[np.int64]) -> NDArray[np.int64]:
        """What comes out of words of 64 bits: where a lane overflows, exactly what the real protocol would give."""
        parts, start = dict[str, NDArray[np.int64]](), 0
        for vector in self._vectors:
            parts[vector.name] = total[start : start + vector.length]
            start += vector.length
        words = packing.pack(self._vectors, parts)
        return np.concatenate(list(packing.unpack(self._vectors, words).values()))


class ProtocolSum:
    """The real protocol, with devices that leave at any phase.

    Args:
      entropy: of the authority's key; clients draw their own.
      on_phase: told the name of each phase as it ends, for progress.
      lost_after_input: share of survivors that do not answer at the end.
      groups: of a cohort, each with a protocol of its own.
      windows: when phases close; without them nobody is too late.
      transcripts: where what was signed is kept for auditors; it is not kept unless given.
    """

    def __init__(
        self,
        executor: SecureExecutor,
        *,
        entropy: Entropy,
        seed: int,
        on_phase: Callable[[str], None] | None = None,
        lost_after_input: float = LOST_AFTER_INPUT,
        threads: int = 2,
        groups: int = 1,
        windows: VirtualWindows | None = None,
        transcripts: TranscriptFolder | None = None,
    ) -> None:
        self._transcripts = transcripts
        self._executor, self._entropy, self._seed = executor, entropy, seed
        self._on_phase = on_phase or _ignore
        self._lost_after_input, self._threads = lost_after_input, threads
        self._groups, self._windows = groups, windows
        self.last_server: Server | None = None

    def input_window_s(self, arrivals_s: NDArray[np.float64], roster_size: int) -> float | None:
        """How long masked inputs are taken that arrive `arrivals_s` after the start, ascending; None for the task's deadline."""
        return None if self._windows is None else self._windows.input_window_s(arrivals_s, roster_size)

    def dump(self) -> bytes:
        """What was learnt of the phases' latencies."""
        return b"" if self._windows is None else self._windows.dump()

    def load(self, state: bytes) -> None:
        """Takes up what `dump` gave."""
        if self._windows is not None:
            self._windows.load(state)

    def run(self, job: Job, *, survivors: NDArray[np.int64], leaves: Mapping[int, DevicePhase]) -> SealedContribution:
        """Runs the protocol up to the masked inputs and the consistency check; `reveal` unmasks."""
        authority_seed = self._entropy(SEED_BYTES)
        placed = _groups_of(job, self._groups)
        cohort = self._executor.begin_secure(replace(job, groups=placed if self._groups > 1 else None), authority_seed)
        absent = _Absences(job, survivors, leaves, self._seed, self._lost_after_input, self._windows)
        group_of = dict(zip(job.devices.tolist(), placed.tolist(), strict=True))
        round_ = _Round(cohort, absent, group_of, self._on_phase)
        authority = DeviceAuthority(authority_seed).public
        round_.servers = [
            Server(context=secure_context(job.plan, group), authority=authority, threads=self._threads)
            for group in range(self._groups)
        ]
        self.last_server = round_.servers[0]
        round_.collect()
        # What counts is whose noise is in the sum: a device that fell out of the protocol gave none, whatever the fleet expected.
        summed = [device for server in round_.waiting() for device in server.survivors or ()]
        summed = summed or survivors.tolist()
        sums: dict[str, float] = {}
        for device in summed:
            for name, value in cohort.metrics.get(device, {}).items():
                sums[name] = sums.get(name, 0.0) + value
        return SealedContribution(
            reveal=round_.reveal,
            count=len(summed),
            metrics=sums,
            summed=round_.summed,
            transcripts=lambda: self._signed(job, round_, authority),
        )

    def _signed(self, job: Job, round_: "_Round", authority: bytes) -> dict[int, str]:
        """The digests of the transcripts of what was revealed, once the transcripts themselves are kept."""
        found, plan = round_.transcripts(), plans.decode(job.plan)
        if self._transcripts is not None:
            for group, transcript in found.items():
                self._transcripts.keep(plan.run, plan.round_index, group, transcript, authority)
        return {group: transcript.head.hex() for group, transcript in found.items()}


class _Round:
    """The servers of one round, and the devices that they talk to."""

    def __init__(
        self, cohort: SecureCohort, absent: "_Absences", group_of: Mapping[int, int], on_phase: Callable[[str], None]
    ) -> None:
        self._cohort, self._absent, self._group_of, self._on_phase = cohort, absent, group_of, on_phase
        self.servers: list[Server] = []

    def waiting(self) -> list[Server]:
        """The servers that wait for the charge."""
        return [server for server in self.servers if server.phase is Phase.AWAITING_CHARGE]

    def collect(self) -> None:
        """Up to the charge: groups whose devices are too few end on the way."""
        sends = self._step(self._cohort.advertise())
        while sends:
            sends = self._step(self._cohort.answer(sends))

    def reveal(self) -> NDArray[np.int64] | None:
        """Unmasks what can be unmasked: the sum of the groups' sums; None if no group has one."""
        requests: dict[int, ServerMessage] = {}
        for server in self.waiting():
            requests |= self._absent.present(server.request_unmasking(), Phase.UNMASKING)
        if requests:
            self._step(self._cohort.answer(requests))
        found = [result for server in self.servers if isinstance(result := server.result(), Result)]
        return added_up([np.concatenate(list(result.sums.values())) for result in found]) if found else None

    def summed(self) -> int:
        """Devices in what was revealed."""
        return sum(len(result.survivors) for server in self.servers if isinstance(result := server.result(), Result))

    def transcripts(self) -> dict[int, Transcript]:
        """The transcripts of what was revealed, by group."""
        found = ((group, server) for group, server in enumerate(self.servers) if isinstance(server.result(), Result))
        return {group: whole for group, server in found if (whole := server.transcript()) is not None}

    def _step(self, replies: Replies) -> dict[int, ServerMessage]:
        """Hands the devices' answers to their servers and ends the phase of each; what the devices that are left are told."""
        sends: dict[int, ServerMessage] = {}
        for group, server in enumerate(self.servers):
            phase = server.phase
            if phase is Phase.AWAITING_CHARGE or server.result() is not None:
                continue
            for device, reply in replies.items():
                if self._group_of[device] != group:
                    continue
                if isinstance(reply, Abort):
                    server.drop(device)
                elif not self._absent.at(device, phase):
                    server.handle(device, reply)
            closed = server.close_phase()
            self._on_phase(phase.value)
            if not isinstance(closed, Abort):
                sends |= self._absent.present(closed, server.phase)
        return sends


def _groups_of(job: Job, groups: int) -> NDArray[np.int64]:
    """The group of each device of a roster, shape (n,): by its place in it."""
    return np.array([group_of_place(place, groups) for place in range(len(job.devices))], np.int64)


class _Absences:
    """Who no longer answers in which phase."""

    def __init__(
        self,
        job: Job,
        survivors: NDArray[np.int64],
        leaves: Mapping[int, DevicePhase],
        seed: int,
        lost_after_input: float,
        windows: VirtualWindows | None,
    ) -> None:
        kept = set(survivors.tolist())
        order = list(Phase)
        self._first: dict[int, int] = {}
        for device in job.devices.tolist():
            if device not in kept:
                early = leaves.get(device) is DevicePhase.DOWNLOAD
                self._first[device] = order.index(Phase.SHARE_KEYS if early else Phase.MASKED_INPUT)
        draws = uniform_by_device(seed, survivors, "lost after input", plans.decode(job.plan).round_index)
        for device, draw in zip(survivors.tolist(), draws.tolist(), strict=True):
            if draw < lost_after_input:
                late = draw < lost_after_input / 2
                self._first[device] = order.index(Phase.UNMASKING if late else Phase.CONSISTENCY_CHECK)
        self._late = {} if windows is None else windows.late(job, survivors)

    def at(self, device: int, phase: Phase) -> bool:
        """Whether the device is gone by this phase."""
        index = list(Phase).index(phase)
        return index >= min(self._first.get(device, len(Phase)), self._late.get(device, len(Phase)))

    def present(self, messages: Mapping[int, ServerMessage], phase: Phase) -> dict[int, ServerMessage]:
        """The messages to devices that are still there to read them."""
        return {device: message for device, message in messages.items() if not self.at(device, phase)}


def _ignore(_phase: str) -> None:
    pass
