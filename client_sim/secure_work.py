"""The devices' side of a secure round inside a worker: clients of `secagg` that train, encode and mask when their input is due.

An update exists in this process only, until it is masked. Nothing but the protocol's own messages goes back.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias, cast

import numpy as np
import numpy.typing as npt

from client_sim.encoding import DistributedEncoder, Encoder, encoder_of
from client_sim.executor import Job
from client_sim.local_work import LocalWork
from contract import plan as plans
from contract.collusion import colluding_devices
from contract.entropy import Entropy, system_entropy
from privacy.keystream import Keystream
from secagg import LOWEST_FLOORS, Client, Context, DeviceAuthority, Floors, Parameters
from secagg.messages import DeviceMessage, ForwardedShares, ServerMessage
from secagg.parameter_json import context_of, group_round_id
from secagg.reasons import Abort

Replies: TypeAlias = dict[int, DeviceMessage | Abort]


@dataclass(frozen=True, slots=True)
class SecureAnswers:
    """What devices say, and what those that trained measured: the simulator's oracle, not the protocol's."""

    replies: Replies = field(repr=False)
    metrics: Mapping[int, Mapping[str, float]] = field(default_factory=dict[int, Mapping[str, float]], repr=False)


class SecureWork:
    """The clients of one round, by device.

    Args:
      authority_seed: of the simulated device authority, which server and devices both do without in production.
      floors: of the devices; the lowest unless given, since this process holds the server's side of the task, too.
    """

    def __init__(self, work: LocalWork, job: Job, *, authority_seed: bytes, floors: Floors | None = None) -> None:
        self._work, self._job = work, job
        self._plan = plans.decode(job.plan)
        encoder = encoder_of(self._plan)
        if not isinstance(encoder, DistributedEncoder):
            raise ValueError("only a distributed encoding may be summed securely")
        self._encoder = encoder
        authority, contexts = DeviceAuthority(authority_seed), dict[int, Context]()
        groups = np.zeros(len(job.devices), np.int64) if job.groups is None else job.groups
        for group in np.unique(groups).tolist():
            contexts[group] = secure_context(job.plan, group)
        self._clients = {
            int(device): self._client(int(device), authority, contexts[int(group)], floors or LOWEST_FLOORS)
            for device, group in zip(job.devices, groups, strict=True)
        }

    def advertise(self) -> SecureAnswers:
        """Every device's first message."""
        return SecureAnswers({device: client.advertise_keys() for device, client in self._clients.items()})

    def answer(self, messages: Mapping[int, ServerMessage]) -> SecureAnswers:
        """Each device's answer to the server's message to it; masked inputs are trained for now."""
        due = [device for device, message in messages.items() if isinstance(message, ForwardedShares)]
        metrics = self._train(np.asarray(due, np.int64)) if due else {}
        return SecureAnswers({device: self._clients[device].handle(message) for device, message in messages.items()}, metrics)

    def _client(self, device: int, authority: DeviceAuthority, context: Context, floors: Floors) -> Client:
        entropy = key_entropy(self._job.noise_seed, self._plan.round_index, device)
        identity = authority.enrol(context.epoch, entropy)
        return Client(context=context, authority=authority.public, identity=identity, floors=floors, entropy=entropy)

    def _train(self, devices: npt.NDArray[np.int64]) -> dict[int, Mapping[str, float]]:
        metrics: dict[int, Mapping[str, float]] = {}
        for update in self._work.updates(replace(self._job, devices=devices)):
            self._clients[update.device].set_input(split(self._encoder, update.vector))
            metrics[update.device] = update.metrics
        return metrics


def split(encoder: DistributedEncoder, vector: npt.NDArray[Any]) -> dict[str, npt.NDArray[Any]]:
    """A round's one vector cut into its named ones, in their order."""
    parts: dict[str, npt.NDArray[Any]] = {}
    start = 0
    for name, chosen in encoder.vectors:
        parts[name] = vector[start : start + chosen.padded_dimension]
        start += chosen.padded_dimension
    return parts


def secure_context(plan: bytes, group: int = 0) -> Context:
    """The context that a device of a group derives from the plan it was sent; it signs the digest of every byte of it.

    Raises:
      ValueError: for a plan without secure aggregation, or one that would unmask a sum of fewer devices than its noise is made for.
    """
    decoded = plans.decode(plan)
    facts = decoded.encoding.get("secagg")
    if not isinstance(facts, dict):
        raise ValueError("this plan has no secure aggregation")
    context = context_of(
        cast(dict[str, Any], facts),
        round_id=group_round_id(decoded.run, decoded.round_index, group=group, groups=_groups(facts)),
        model_digest=decoded.model_digest,
        config_digest=hashlib.sha256(plan).hexdigest(),
    )
    fault = _noise_fault(encoder_of(decoded), context.parameters)
    if fault is not None:
        raise ValueError(fault)
    return context


def _groups(facts: Mapping[str, Any]) -> int:
    groups = facts.get("groups", 1)
    if type(groups) is not int:
        raise ValueError(f"an integer number of groups is expected, not {groups!r}")
    return groups


def _noise_fault(encoder: Encoder, parameters: Parameters) -> str | None:
    """Why the sum's noise would fall short, or None: the plan states its fewest survivors twice, and they must agree.

    The encoder's numbers size a device's noise, those of secure aggregation decide which sums are unmasked. A server that says many
    in the one place and few in the other would unmask sums with a fraction of the noise.
    """
    if not isinstance(encoder, DistributedEncoder):
        return "only a distributed encoding may be summed securely"
    survivors = parameters.minimum_survivors
    honest = survivors - colluding_devices(parameters.corrupt_fraction, parameters.roster_size)
    for name, chosen in encoder.vectors:
        if survivors < chosen.minimum_survivors or honest < chosen.minimum_survivors - chosen.corrupt:
            made_for = f"{chosen.minimum_survivors} survivors of whom {chosen.corrupt} are corrupt"
            return f"the noise of {name} is made for {made_for}; {survivors} with {honest} honest ones would be unmasked"
    return None


def key_entropy(noise_seed: bytes | None, round_index: int, device: int) -> Entropy:
    """The operating system's entropy for keys and masks, or with a seed a stream of its own for each (round, device)."""
    return system_entropy if noise_seed is None else Keystream(noise_seed, f"secagg {device}", round_index).read
