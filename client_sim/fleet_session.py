"""Plays one device's session over a transport: performs the actions of `client_sim.session` and feeds it the events."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from typing import Protocol, assert_never

from client_sim import session
from client_sim.egress import DevicePolicy, Refusal, may_leave
from client_sim.fleet_models import ModelShelf
from client_sim.secure_session import SecureSession
from client_sim.session_states import (
    Action,
    Charge,
    ConnectionLost,
    Downloading,
    Ended,
    Event,
    Fetch,
    ModelHeld,
    Outcome,
    ReadRecord,
    RecordRead,
    Refund,
    Seal,
    Secure,
    SecureEnded,
    Send,
    SendChunks,
    State,
    Train,
    Trained,
    TrainingFailed,
    Written,
)
from client_sim.timing import Phase
from client_sim.transports.transport import LinkLostError, Transport
from contract.ids import group_of
from contract.messages import ResultStatus
from secagg import Client

Sleep = Callable[[float], Awaitable[None]]


class DeviceSide(Protocol):
    """What a session needs of the device that plays it."""

    async def may_take_part(self, request: ReadRecord) -> bool:
        """Whether the device's own record allows it to take part."""
        ...

    async def train(self, request: Train) -> Trained | TrainingFailed:
        """The encoded update."""
        ...

    def secure_client(self, plan: bytes, group: int) -> Client:
        """The device's end of the secure aggregation of a group that the plan describes.

        Raises:
          ValueError: if it has no certificate, or the plan none to aggregate.
        """
        ...

    async def write(self, request: Charge | Seal | Refund) -> None:
        """Puts it on disk."""
        ...

    def vanishes(self, phase: Phase, leaf: int) -> bool:
        """Whether the device is lost in this phase of this round, without a word."""
        ...


class VanishedError(Exception):
    """The device is gone, and tells nobody."""


async def play(
    transport: Transport,
    device: DeviceSide,
    *,
    population: str,
    client_version: str,
    policy: DevicePolicy,
    sleep: Sleep = asyncio.sleep,
    models: ModelShelf | None = None,
) -> Outcome:
    """One session from its check-in to its end. A device that vanishes ends with a `!` and no status.

    Args:
      models: what the devices of one process have fetched; without it each fetches its own.
    """
    state, actions = session.begin(population, client_version=client_version, policy=policy)
    try:
        while not isinstance(state, Ended):
            (action,) = actions
            state, actions = await _perform(state, action, transport, device, sleep, models)
    except VanishedError:
        return Outcome(shape=_shape(state) + "!", status=None)
    return state.outcome


async def _perform(
    state: State, action: Action, transport: Transport, device: DeviceSide, sleep: Sleep, models: ModelShelf | None
) -> tuple[State, tuple[Action, ...]]:
    match action:
        case Send(request, after_s):
            await _pause(sleep, after_s)
            if not may_leave(request):
                raise ValueError(f"{type(request).__name__} may not leave the device")
            return session.step(state, await _answer(transport.send(request)))
        case Fetch():
            await _pause(sleep, action.after_s)
            _lose(device, Phase.DOWNLOAD, state)
            return await _fetch(state, action, transport, models)
        case SendChunks(chunks):
            _lose(device, Phase.UPLOAD, state)
            return session.step(state, await _answer(transport.send_chunks(chunks)))
        case ReadRecord():
            return session.step(state, RecordRead(await device.may_take_part(action)))
        case Train():
            _lose(device, Phase.TRAINING, state)
            return session.step(state, await device.train(action))
        case Charge() | Seal() | Refund():
            await device.write(action)
            return session.step(state, Written())
        case Secure():
            return session.step(state, SecureEnded(await _play_secure(action, transport, device, sleep)))
        case _:
            assert_never(action)


async def _play_secure(action: Secure, transport: Transport, device: DeviceSide, sleep: Sleep) -> Outcome:
    try:
        client = device.secure_client(action.assignment.plan, group_of(action.assignment.aggregation_id))
    except ValueError:
        return Outcome(shape=action.shape + "*", status=ResultStatus.LOCAL_FAILED, refusal=Refusal.NOT_UNDERSTOOD)
    secure = SecureSession(
        spec=action.spec,
        assignment=action.assignment,
        checked=action.checked,
        parameters=action.parameters,
        client=client,
        shape=action.shape,
    )
    talk = secure.talk()
    try:
        asked = next(talk)
        while True:
            asked = talk.send(await _secure_event(asked, action.spec.current_index, transport, device, sleep))
    except StopIteration as ended:
        return ended.value


async def _secure_event(asked: Action, leaf: int, transport: Transport, device: DeviceSide, sleep: Sleep) -> Event:
    match asked:
        case Send(request, after_s):
            await _pause(sleep, after_s)
            if not may_leave(request):
                raise ValueError(f"{type(request).__name__} may not leave the device")
            return await _answer(transport.send(request))
        case SendChunks(chunks):
            _vanish(device, Phase.UPLOAD, leaf)
            return await _answer(transport.send_chunks(chunks))
        case Train():
            _vanish(device, Phase.TRAINING, leaf)
            return await device.train(asked)
        case Charge() | Seal() | Refund():
            await device.write(asked)
            return Written()
        case _:
            raise ValueError(f"{type(asked).__name__} has no place in a secure session")


def _vanish(device: DeviceSide, phase: Phase, leaf: int) -> None:
    if device.vanishes(phase, leaf):
        raise VanishedError


async def _fetch(
    state: State, action: Fetch, transport: Transport, models: ModelShelf | None
) -> tuple[State, tuple[Action, ...]]:
    """From the shelf, or over the wire; whoever fetches a model while another does waits for that one."""
    if models is None or not isinstance(state, Downloading):
        return await _stream(state, action, transport)
    digest = state.assignment.model.sha256
    async with models.turn(digest) as held:
        if held is not None:
            return session.step(state, ModelHeld(held))
        state, actions = await _stream(state, action, transport)
        for following in actions:
            if isinstance(following, Secure | Train):
                models.keep(digest, following.parameters)
        return state, actions


async def _stream(state: State, action: Fetch, transport: Transport) -> tuple[State, tuple[Action, ...]]:
    """Feeds chunks to the session until it has seen enough; a stream that ends before is a lost connection."""
    try:
        async with aclosing(transport.fetch(action.request)) as chunks:
            async for chunk in chunks:
                state, actions = session.step(state, chunk)
                if actions or isinstance(state, Ended):
                    return state, actions
    except LinkLostError:
        pass
    return session.step(state, ConnectionLost())


async def _answer(call: Awaitable[Event]) -> Event:
    try:
        return await call
    except LinkLostError:
        return ConnectionLost()


async def _pause(sleep: Sleep, seconds: float) -> None:
    if seconds > 0:
        await sleep(seconds)


def _lose(device: DeviceSide, phase: Phase, state: State) -> None:
    leaf = _leaf(state)
    if leaf is not None and device.vanishes(phase, leaf):
        raise VanishedError


def _leaf(state: State) -> int | None:
    spec = getattr(state, "spec", None) or getattr(getattr(state, "upload", None), "spec", None)
    return None if spec is None else spec.current_index


def _shape(state: State) -> str:
    facts = getattr(state, "facts", None)
    return "" if facts is None else facts.shape
