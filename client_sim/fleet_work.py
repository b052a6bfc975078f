"""What the devices of one fleet process share: training on one core, their records, the models they have fetched."""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby

import numpy as np
from pydantic import TypeAdapter

from client_sim import cores
from client_sim.data import open_loader
from client_sim.data.loader import Loader
from client_sim.executor import Job
from client_sim.fleet_setup import FleetSetup
from client_sim.local_work import LocalWork, WorkSetup
from client_sim.records import ParticipationRecords
from client_sim.session_states import Charge, Refund, Seal
from client_sim.workers import model_options
from contract import plan
from contract.clock import wall_time
from contract.errors import ErrorCode, TuttiError
from contract.task import DataSpec, ModelSpec, TrainingSpec

_MODEL, _TRAINING = TypeAdapter(ModelSpec), TypeAdapter(TrainingSpec)


@dataclass(frozen=True, slots=True, eq=False)
class TrainOrder:
    """One device's training: the plan's bytes and the parameters, float32 little-endian."""

    device: int
    plan: bytes = field(repr=False)
    parameters: bytes = field(repr=False)


class FleetTraining:
    """Trains whichever devices are ready with the model that their plan names.

    Args:
      now_s: the time, by which training caches go: seconds since 1970 unless given.
    """

    def __init__(self, setup: FleetSetup, *, now_s: Callable[[], float] = lambda: wall_time().timestamp()) -> None:
        self._setup, self._now_s = setup, now_s
        self._loader: Loader | None = None
        self._works: dict[str, LocalWork] = {}

    def train(self, orders: Sequence[TrainOrder]) -> Iterator[bytes | memoryview]:
        """The encoded update of each order, int32 little-endian, in order; where it is to be masked here, the vector's own memory.

        Raises:
          ValueError, TuttiError: for a plan or examples that cannot be used.
        """
        for text, group in groupby(orders, key=lambda order: order.plan):
            batch = list(group)
            decoded = plan.decode(text)
            work, masked = self._work(decoded), "secagg" in decoded.encoding
            job = Job(
                plan=text,
                parameters=np.frombuffer(batch[0].parameters, "<f4").astype(np.float32, copy=False),
                devices=np.array([order.device % self._num_users() for order in batch], np.int64),
                order_seed=self._setup.order_seed,
                noise_seed=self._setup.noise_seed,
                at_s=self._now_s(),
            )
            for update in work.updates(job):
                whole = update.vector.astype("<i4", copy=False).data.cast("B")
                yield whole if masked else bytes(whole)

    def _num_users(self) -> int:
        # A file may have fewer users than the fleet has devices: some then have the same examples.
        return self._setup.num_devices if self._loader is None else self._loader.num_devices

    def _work(self, decoded: plan.Plan) -> LocalWork:
        key = json.dumps([decoded.task["model"], decoded.task["training"]], sort_keys=True)
        if key not in self._works:
            with cores.pinned(cores.available()[0]):
                self._works = {key: LocalWork(self._work_setup(decoded))}
        return self._works[key]

    def _work_setup(self, decoded: plan.Plan) -> WorkSetup:
        model, training = _MODEL.validate_python(decoded.task["model"]), _TRAINING.validate_python(decoded.task["training"])
        if ":" in model.name and not self._setup.own_code:
            raise TuttiError(ErrorCode.TASK_INVALID, f"this device does not run a model that a server names as {model.name!r}")
        options = model_options(model) | ({} if self._setup.vocabulary is None else {"vocabulary": self._setup.vocabulary})
        said = self._setup.data_spec
        return WorkSetup(
            loader=self._examples(model),
            model=model.name,
            model_options=options,
            training=training,
            locale=said.locale,
            cache=said.cache,
            data_seed=said.seed,
        )

    def _examples(self, model: ModelSpec) -> Loader:
        if self._loader is None:
            data = self._setup.data
            self._loader = open_loader(data, model=model.name) if isinstance(data, DataSpec) else data
        return self._loader


class FleetRecords:
    """The participation records of this process's devices, written in batches, each of which is on disk when it is answered.

    Records belong to a population, or to a run where runs have records of their own.
    """

    def __init__(self, setup: FleetSetup) -> None:
        self._setup = setup
        self._by_scope: dict[str, ParticipationRecords] = {}

    def of(self, run: str) -> ParticipationRecords:
        """The records that count for `run`."""
        scope = self._setup.scope or run
        if scope not in self._by_scope:
            self._by_scope[scope] = ParticipationRecords(
                num_devices=self._setup.num_devices, path=self._setup.records, scope=scope
            )
        return self._by_scope[scope]

    def write(self, orders: "Sequence[tuple[int, Charge | Seal | Refund]]") -> Iterator[None]:
        """Writes all orders down; those of one kind for one release in one transaction."""
        pending = list(orders)
        for (kind, run, index), group in groupby(sorted(pending, key=_release), key=_release):
            devices = np.array([device for device, _ in group], np.int64)
            records = self.of(run)
            match kind:
                case "Charge":
                    records.charge(devices, index)
                case "Seal":
                    records.mark_sent(devices, index)
                case _:
                    records.refund(devices, index)
        yield from (None for _ in pending)

    def close(self) -> None:
        """Closes the files."""
        for records in self._by_scope.values():
            records.close()


def _release(order: "tuple[int, Charge | Seal | Refund]") -> tuple[str, str, int]:
    return type(order[1]).__name__, order[1].run, order[1].index
