"""A whole round in memory, with devices that leave at any phase: for tests, benchmarks and simulations without a network."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from contract.entropy import Entropy, system_entropy
from secagg.authority import DeviceAuthority
from secagg.client import Client
from secagg.client.device_round import Inputs
from secagg.context import Context
from secagg.floors import LOWEST_FLOORS, Floors
from secagg.messages import DeviceMessage, ServerMessage
from secagg.parameters import Parameters
from secagg.reasons import Abort, Refusal
from secagg.server import Phase, Result, Server
from secagg.transcript import Transcript

DeviceSends = Callable[[int, Phase, DeviceMessage], DeviceMessage | None]
ServerSends = Callable[[int, Phase, ServerMessage], ServerMessage | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How a round in memory ended.

    Args:
      result: the sums, or why there are none.
      aborts: devices that left by themselves, and why.
      refusals: what the server turned away.
      transcript: what was signed and released, if it came so far.
    """

    result: Result | Abort
    aborts: dict[int, Abort]
    refusals: Mapping[Refusal, int]
    transcript: Transcript | None
    authority: bytes
    clients: dict[int, Client] = field(repr=False)
    server: Server = field(repr=False)


def context_of(parameters: Parameters, round_id: str = "round-1") -> Context:
    """A context for a round that belongs to no model."""
    return Context(
        round_id=round_id,
        model_digest="00" * 32,
        config_digest="11" * 32,
        ledger_checkpoint="22" * 32,
        epoch=1,
        parameters=parameters,
    )


def run_round(
    context: Context,
    inputs: Mapping[int, Inputs],
    *,
    leaves: Mapping[int, Phase] | None = None,
    from_device: DeviceSends | None = None,
    from_server: ServerSends | None = None,
    floors: Floors | None = None,
    entropy: Entropy = system_entropy,
    threads: int = 1,
) -> Outcome:
    """Runs one round over all devices in `inputs`.

    Args:
      leaves: the first phase in which a device no longer answers.
      floors: of every device; the lowest unless given.
      from_device, from_server: see and may replace or swallow (None) each message on its way.

    >>> import numpy as np
    >>> from secagg.parameters import Vector, choose
    >>> update = Vector(name="update", length=3, lane_bits=16, largest=100)
    >>> asked = choose(roster_size=6, vectors=(update,), corrupt_fraction=0.0, drop_fraction=0.2)
    >>> values = {device: {"update": np.array([device, -device, 1])} for device in range(6)}
    >>> run_round(context_of(asked), values, leaves={5: Phase.MASKED_INPUT}).result.sums["update"].tolist()
    [10, -10, 5]
    """
    authority = DeviceAuthority(entropy(32))
    server = Server(context=context, authority=authority.public, threads=threads)
    clients = {
        device: Client(
            context=context,
            authority=authority.public,
            identity=authority.enrol(context.epoch, entropy),
            floors=floors or LOWEST_FLOORS,
            entropy=entropy,
        )
        for device in inputs
    }
    for device, client in clients.items():
        client.set_input(inputs[device])
    aborts: dict[int, Abort] = {}
    replies: dict[int, DeviceMessage | Abort] = {device: client.advertise_keys() for device, client in clients.items()}
    while True:
        phase = server.phase
        for device, reply in replies.items():
            if isinstance(reply, Abort):
                aborts[device] = reply
                server.drop(device)
            elif leaves is None or device not in leaves or not _is_over(leaves[device], phase):
                sent = reply if from_device is None else from_device(device, phase, reply)
                if sent is not None:
                    server.handle(device, sent)
        sends = server.close_phase()
        if server.phase is Phase.AWAITING_CHARGE:
            sends = server.request_unmasking()
        ended = server.result()
        if ended is not None:
            break
        if isinstance(sends, Abort):  # an abort is a result, so this cannot be reached; it tells the type checker
            raise ValueError(f"the round ended without a result: {sends.reason.value}")
        replies = {}
        for device, message in sends.items():
            shown = message if from_server is None else from_server(device, server.phase, message)
            if shown is not None:
                replies[device] = clients[device].handle(shown)
    return Outcome(
        result=ended,
        aborts=aborts,
        refusals=server.refusals,
        transcript=server.transcript(),
        authority=authority.public,
        clients=clients,
        server=server,
    )


def _is_over(first_missed: Phase, phase: Phase) -> bool:
    order = list(Phase)
    return order.index(phase) >= order.index(first_missed)
