"""What a fleet is told once, and what its processes tell back."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

from client_sim.data.loader import Loader
from client_sim.egress import DevicePolicy
from client_sim.timing import Loss
from contract.errors import ErrorCode
from contract.ids import SessionId
from contract.task import DataSpec
from secagg import Floors
from trainer.vocabulary import Vocabulary

NO_LOSS = Loss(download=0.0, training=0.0, upload=0.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetSetup:
    """A fleet of `num_devices` devices against one server, in real time.

    Args:
      server: HOST:PORT.
      root_certificate: see `GrpcTransport`.
      data: where the devices' examples come from.
      described: what the task says of them (locale, seed, cache) where `data` is a loader; a `DataSpec` says it itself.
      order_seed, noise_seed: as in `client_sim.executor.Job`.
      loss: how many devices vanish, and in which phase.
      records: the devices' own SQLite file; None keeps records in memory.
      scope: whose records count; empty: each run has its own.
      vocabulary: replaces the model's named one (words counted in the data).
      own_code: whether a plan may name a model as `package.module:factory`, which would be imported here.
      diurnal: whether devices wait until they are idle, charging and on an unmetered network.
      idle_s: shortest time between two sessions of a device.
      authority_seed: of the simulated device authority that certifies the devices of secure tasks; None for none.
      floors: below which no device takes part in a secure aggregation.
      observed: whether the processes also say what only a simulation can know (`Seen`).
    """

    server: str
    population: str
    num_devices: int
    data: DataSpec | Loader = field(repr=False)
    described: DataSpec = field(default_factory=DataSpec)
    order_seed: int
    noise_seed: bytes | None = field(default=None, repr=False)
    root_certificate: Path | None = None
    policy: DevicePolicy = field(default_factory=DevicePolicy)
    loss: Loss = NO_LOSS
    records: Path | None = None
    scope: str = ""
    vocabulary: Vocabulary | None = field(default=None, repr=False)
    own_code: bool = False
    diurnal: bool = False
    idle_s: float = 0.05
    authority_seed: bytes | None = field(default=None, repr=False)
    floors: Floors = field(default_factory=Floors)
    observed: bool = False

    @property
    def data_spec(self) -> DataSpec:
        """What is said of the devices' data."""
        return self.data if isinstance(self.data, DataSpec) else self.described


@dataclass(frozen=True, slots=True)
class Begin:
    """The devices of the process at `place` of `places`: those whose index leaves that remainder."""

    setup: FleetSetup
    place: int
    places: int


@dataclass(frozen=True, slots=True)
class Ended:
    """Sessions that ended since the last word, by shape, and by shape and reason where there is one (see `session_shapes`)."""

    shapes: Mapping[str, int]
    reasons: Mapping[str, Mapping[str, int]] = field(default_factory=dict[str, Mapping[str, int]])


@dataclass(frozen=True, slots=True)
class Seen:
    """What only a simulation can know: who plays which session, whose records rule out a release, who is gone without a word.

    Args:
      players: sessions that came to train since the last word, and the device of each.
      barred: release -> how many more devices' own records do not allow it. No record allows it later on.
      vanished: sessions whose devices are lost.
    """

    players: Mapping[SessionId, int]
    barred: Mapping[int, int]
    vanished: tuple[SessionId, ...] = ()


@dataclass(frozen=True, slots=True)
class Broken:
    """The process cannot go on."""

    code: ErrorCode
    detail: str


Word: TypeAlias = Ended | Seen | Broken
