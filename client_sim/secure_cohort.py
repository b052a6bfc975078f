"""All devices of a secure round, wherever they run: messages to them go out by worker, answers come back by device."""

from collections.abc import Callable, Mapping
from typing import TypeAlias

from client_sim.executor import Job
from client_sim.secure_work import Replies, SecureAnswers
from client_sim.worker_messages import Answer, BeginSecure, ContinueSecure, Failed, Order
from contract.errors import TuttiError
from secagg.messages import ServerMessage

Exchange: TypeAlias = Callable[[Mapping[int, Order]], dict[int, Answer]]


class SecureCohort:
    """The devices of `job`; `owners` says which worker runs which device.

    A worker that dies takes its devices with it: they no longer answer, as phones do.
    """

    def __init__(self, exchange: Exchange, owners: Mapping[int, int], job: Job, authority_seed: bytes) -> None:
        self._exchange, self._owners, self._job, self._authority_seed = exchange, dict(owners), job, authority_seed
        self.metrics: dict[int, Mapping[str, float]] = {}

    def advertise(self) -> Replies:
        """Every device's first message."""
        orders: dict[int, Order] = {}
        for worker in sorted(set(self._owners.values())):
            rows = [row for row, device in enumerate(self._job.devices) if self._owners[int(device)] == worker]
            job, groups = self._job, None if self._job.groups is None else self._job.groups[rows]
            orders[worker] = BeginSecure(
                job.plan, job.devices[rows], job.order_seed, job.noise_seed, job.at_s, self._authority_seed, groups
            )
        return self._gathered(orders)

    def answer(self, messages: Mapping[int, ServerMessage]) -> Replies:
        """The answers of the devices that are still there."""
        by_worker: dict[int, dict[int, ServerMessage]] = {}
        for device, message in messages.items():
            if device in self._owners:
                by_worker.setdefault(self._owners[device], {})[device] = message
        return self._gathered({worker: ContinueSecure(group) for worker, group in by_worker.items()})

    def _gathered(self, orders: Mapping[int, Order]) -> Replies:
        replies: Replies = {}
        answers = self._exchange(orders)
        for worker in orders:
            answer = answers.get(worker)
            if isinstance(answer, Failed):
                raise TuttiError(answer.code, answer.detail)
            if isinstance(answer, SecureAnswers):
                replies |= answer.replies
                self.metrics |= answer.metrics
            else:
                self._owners = {device: owner for device, owner in self._owners.items() if owner != worker}
        return replies
