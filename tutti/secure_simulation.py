"""Secure rounds of a simulation: the real protocol between a `secagg.Server` and clients in the workers, or its ideal sum.

Both give a sealed sum: what unmasks it runs only when the orchestrator calls it, after the round's charge is committed.
"""

from collections.abc import Callable, Mapping, Sequence
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
from secagg import Abort, DeviceAuthority, Phase, Result, Server, Vector, packing
from secagg.messages import ServerMessage

LOST_AFTER_INPUT = 0.02
"""Share of the survivors that are gone when it comes to unmasking: half before the consistency check, half after."""
SEED_BYTES = 32


class SecureExecutor(Executor, Protocol):
    """An executor whose devices can be clients of a secure round."""

    def begin_secure(self, job: Job, authority_seed: bytes) -> SecureCohort: ...


class IdealSum:
    """The ideal functionality in place of the cryptography: nobody sees more than the sum, but here that is by decree.

    Args:
      vectors: how the sum is packed; the lanes overflow as the real ones do.
    """

    def __init__(self, executor: Executor, vectors: Sequence[Vector]) -> None:
        self._executor, self._vectors = executor, tuple(vectors)

    def run(self, job: Job, *, survivors: NDArray[np.int64], leaves: Mapping[int, DevicePhase]) -> SealedContribution:
        """The sum over `survivors`."""
        del leaves
        updates = self._executor.run(
            Job(
                plan=job.plan,
                parameters=job.parameters,
                devices=survivors,
                order_seed=job.order_seed,
                noise_seed=job.noise_seed,
            )
        )
        sums = {name: float(values.sum()) for name, values in updates.metrics.items()}
        return SealedContribution(reveal=lambda: self._through_lanes(updates.total), count=updates.count, metrics=sums)

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
    ) -> None:
        self._executor, self._entropy, self._seed = executor, entropy, seed
        self._on_phase = on_phase or _ignore
        self._lost_after_input, self._threads = lost_after_input, threads
        self.last_server: Server | None = None

    def run(self, job: Job, *, survivors: NDArray[np.int64], leaves: Mapping[int, DevicePhase]) -> SealedContribution:
        """Runs the protocol up to the masked inputs and the consistency check; `reveal` unmasks."""
        authority_seed = self._entropy(SEED_BYTES)
        context = secure_context(job.plan)
        server = Server(context=context, authority=DeviceAuthority(authority_seed).public, threads=self._threads)
        self.last_server = server
        cohort = self._executor.begin_secure(job, authority_seed)
        absent = _Absences(job, survivors, leaves, self._seed, self._lost_after_input)
        sends = self._step(server, cohort.advertise(), absent)
        while sends is not None and server.phase is not Phase.AWAITING_CHARGE:
            sends = self._step(server, cohort.answer(absent.present(sends, server.phase)), absent)
        names = [vector.name for vector in context.parameters.vectors]
        # What counts is whose noise is in the sum: a device that fell out of the protocol gave none, whatever the fleet expected.
        summed = survivors.tolist() if server.survivors is None else server.survivors
        sums: dict[str, float] = {}
        for device in summed:
            for name, value in cohort.metrics.get(device, {}).items():
                sums[name] = sums.get(name, 0.0) + value
        return SealedContribution(reveal=lambda: self._reveal(server, cohort, absent, names), count=len(summed), metrics=sums)

    def _reveal(
        self, server: Server, cohort: SecureCohort, absent: "_Absences", names: Sequence[str]
    ) -> NDArray[np.int64] | None:
        if server.phase is Phase.AWAITING_CHARGE:
            requests = server.request_unmasking()
            self._step(server, cohort.answer(absent.present(requests, Phase.UNMASKING)), absent)
        result = server.result()
        if not isinstance(result, Result):
            return None
        return np.concatenate([result.sums[name] for name in names])

    def _step(self, server: Server, replies: Replies, absent: "_Absences") -> Mapping[int, ServerMessage] | None:
        """Hands the devices' answers to the server and ends the phase; None if the round is over."""
        phase = server.phase
        for device, reply in replies.items():
            if isinstance(reply, Abort):
                server.drop(device)
            elif not absent.at(device, phase):
                server.handle(device, reply)
        sends = server.close_phase()
        self._on_phase(phase.value)
        return None if isinstance(sends, Abort) or server.result() is not None else sends


class _Absences:
    """Who no longer answers in which phase."""

    def __init__(
        self,
        job: Job,
        survivors: NDArray[np.int64],
        leaves: Mapping[int, DevicePhase],
        seed: int,
        lost_after_input: float,
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

    def at(self, device: int, phase: Phase) -> bool:
        """Whether the device is gone by this phase."""
        return device in self._first and list(Phase).index(phase) >= self._first[device]

    def present(self, messages: Mapping[int, ServerMessage], phase: Phase) -> dict[int, ServerMessage]:
        """The messages to devices that are still there to read them."""
        return {device: message for device, message in messages.items() if not self.at(device, phase)}


def _ignore(_phase: str) -> None:
    pass
