"""What a worker does for its devices: read, train, clip, round, check; the one code path for memory, processes and gRPC."""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from client_sim import filters
from client_sim.data.loader import Example, Loader
from client_sim.device_caches import DeviceCaches
from client_sim.encoding import encoder_of
from client_sim.exact_sums import ExactSum
from client_sim.executor import Job, Updates
from client_sim.kept_examples import KeptExamples, Read
from client_sim.update_rounding import EncodedUpdate, UpdateRounding
from contract import plan
from contract.errors import ErrorCode, TuttiError
from contract.task import CacheSpec, TrainingSpec
from trainer import DeviceExamples, LocalTrainer, compile_cache, memory, one_core
from trainer.models import registry

_Trained: TypeAlias = tuple[int, npt.NDArray[np.float32], dict[str, float]]
"""A device, its update and what it measured."""
_Measured: TypeAlias = tuple[int, dict[str, float]]
"""An update's exact squared norm, and what its device measured."""
BLOCK_DEVICES = 400
"""Devices whose examples are in memory at once; a multiple of what any model trains side by side."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkSetup:
    """What a worker needs once: where the examples come from, which model they are for, how to train.

    Args:
      model_options: as the registry takes them.
      locale: of the devices' language, for the filters (`client_sim.filters.rules_for`).
      cache: what the devices keep to learn from, see `client_sim.device_caches`.
      data_seed: of when their examples arrive.
    """

    loader: Loader = field(repr=False)
    model: str
    model_options: dict[str, Any] = field(default_factory=dict[str, Any], repr=False)
    training: TrainingSpec
    locale: str = "en"
    cache: CacheSpec = field(default_factory=CacheSpec)
    data_seed: int = 0

    @property
    def caches(self) -> DeviceCaches:
        """The devices' training caches."""
        return DeviceCaches(loader=self.loader, spec=self.cache, seed=self.data_seed)


class LocalWork:
    """Trains devices with one compiled model."""

    def __init__(self, setup: WorkSetup) -> None:
        compile_cache.enable_on_one_core()
        one_core.settle()
        self._caches = setup.caches
        self._filters = filters.rules_for(setup.model, locale=setup.locale)
        self._model = registry.get(setup.model, **setup.model_options)
        training = setup.training
        self._trainer = LocalTrainer(
            model=self._model,
            batch_size=training.batch_size,
            epochs=training.epochs,
            max_examples=training.max_examples,
            learning_rate=training.learning_rate,
        )
        # Beside a model that is trained alone, reading costs nothing, and small arrays that stay hold the pages between its large ones.
        self._kept = KeptExamples(memory.FEATURIZED_BYTES if self.side_by_side > 1 else 0)

    @property
    def side_by_side(self) -> int:
        """How many devices one program trains; where it is 1, a device can be given out when the one before is done."""
        return self._trainer.side_by_side

    def updates(self, job: Job, pieces: Iterable[Sequence[int]] | None = None) -> Iterator[EncodedUpdate]:
        """The encoded update of each device of `job`, in its order, computed while it is asked for.

        Args:
          pieces: rows of the job, a few at a time; the next are asked for when those before are done.

        A device whose cache is empty contributes zero, with the noise and the masks of any other: that it has nothing is its own affair.

        Guarantee: every vector is one that the plan's encoder says may be summed, whatever the examples were.

        Raises:
          ValueError: for a plan that this device does not understand.
          TuttiError: DATA_INVALID for examples that the model cannot take.
        """
        decoded = plan.decode(job.plan)
        rounding = UpdateRounding(encoder_of(decoded), job.noise_seed, decoded.round_index)
        trained = self._one_by_one if self.side_by_side == 1 else self._in_blocks
        for device, delta, metrics in trained(job, decoded.round_index, self._handed(job, pieces)):
            yield rounding.encoded(device, delta, metrics)

    def add_to(self, summing: ExactSum, job: Job, pieces: Iterable[Sequence[int]] | None = None) -> Iterator[_Measured]:
        """Adds what `updates` gives to `summing`, where devices are trained side by side without taking one update in hand.

        Returns:
          The exact squared norm of each update and what its device measured, in their order; `diverged` as in `EncodedUpdate`.

        Guarantee, Raises: as `updates`.
        """
        decoded = plan.decode(job.plan)
        rounding = UpdateRounding(encoder_of(decoded), job.noise_seed, decoded.round_index, lanes=self.side_by_side)
        if not rounding.side_by_side:
            for update in self.updates(job, pieces):
                summing.add(update.vector, update.norm_squared)
                yield update.norm_squared, update.metrics | {"diverged": float(update.diverged)}
            return
        for devices in self._blocks(self._handed(job, pieces)):
            prepared, seeds = self._prepared(job, decoded.round_index, devices)
            found: list[_Measured] = [(0, {})] * len(devices)
            for lanes in self._trainer.train_lanes(job.parameters, [examples for examples, _ in prepared], seeds):
                metrics = [measured | prepared[place][1] for place, measured in zip(lanes.places, lanes.metrics, strict=True)]
                added = rounding.add_rows(summing, [devices[place] for place in lanes.places], lanes.updates, metrics)
                for place, measured in zip(lanes.places, added, strict=True):
                    found[place] = measured
                del lanes  # so that the next updates lie where these did
            yield from found

    def _one_by_one(self, job: Job, round_index: int, handed: Iterable[list[int]]) -> Iterator[_Trained]:
        begun: list[tuple[int, dict[str, float]]] = []  # the one device that is being trained

        def prepared() -> Iterator[tuple[DeviceExamples, int]]:
            for device in chain.from_iterable(handed):
                examples, counts = self._examples(device, job.at_s)
                begun.append((device, counts))
                yield examples, order_seed(job.order_seed, round_index, device)

        for delta, metrics in self._trainer.train_each(job.parameters, prepared()):
            device, counts = begun.pop()
            yield device, delta, metrics | counts

    def _in_blocks(self, job: Job, round_index: int, handed: Iterable[list[int]]) -> Iterator[_Trained]:
        for devices in self._blocks(handed):
            prepared, seeds = self._prepared(job, round_index, devices)
            trained = self._trainer.train_many(job.parameters, [examples for examples, _ in prepared], seeds)
            for device, (_, counts), (delta, metrics) in zip(devices, prepared, trained, strict=True):
                yield device, delta, metrics | counts

    def _handed(self, job: Job, pieces: Iterable[Sequence[int]] | None) -> Iterator[list[int]]:
        for piece in [range(len(job.devices))] if pieces is None else pieces:
            yield job.devices[list(piece)].tolist()

    def _blocks(self, handed: Iterable[list[int]]) -> Iterator[list[int]]:
        for devices in handed:
            for first in range(0, len(devices), BLOCK_DEVICES):
                yield devices[first : first + BLOCK_DEVICES]

    def _prepared(self, job: Job, round_index: int, devices: list[int]) -> tuple[list[Read], list[int]]:
        """Their examples, and the seeds of their order."""
        seeds = [order_seed(job.order_seed, round_index, device) for device in devices]
        return [self._examples(device, job.at_s) for device in devices], seeds

    def _examples(self, device: int, now_s: float) -> Read:
        try:
            return self._kept.read(lambda: self._caches.examples(device, now_s), self._featurized)
        except (ValueError, KeyError, TypeError) as error:
            fault = f"lacks {error}" if isinstance(error, KeyError) else str(error)
            raise TuttiError(
                ErrorCode.DATA_INVALID, f"device {device}: {self._model.name} cannot read its examples: {fault}"
            ) from None

    def _featurized(self, examples: Sequence[Example]) -> Read:
        counts = dict[str, float]()
        if self._filters is not None:
            examples, found = filters.prepare(examples, self._filters)
            counts = {name: float(count) for name, count in found.items()}
        return self._model.featurize(examples), counts


def add_up(work: LocalWork, job: Job, total: npt.NDArray[np.int64], pieces: Iterable[Sequence[int]] | None = None) -> Updates:
    """Overwrites `total`, int64 of the encoded length, with the exact sum of the job's updates, or of those in `pieces`.

    What was measured is in the order in which they were asked for.

    Raises:
      ValueError: as `LocalWork.updates`, or for a `total` of another length.
    """
    total[:] = 0
    with ExactSum(total) as summing:
        found = list(work.add_to(summing, job, pieces))
    measured = [metrics for _, metrics in found]
    names = dict.fromkeys(chain.from_iterable(measured)) or ("diverged",)
    metrics = {name: np.array([one.get(name, 0.0) for one in measured]) for name in names}
    return Updates(
        total=total, count=len(found), metrics=metrics, norms_squared=np.array([norm for norm, _ in found], np.int64)
    )


def order_seed(seed: int, round_index: int, device: int) -> int:
    """The seed of one device's example order in one round.

    >>> order_seed(1, 2, 3) != order_seed(1, 3, 2)
    True
    """
    return int.from_bytes(hashlib.sha256(f"order {seed} {round_index} {device}".encode()).digest()[:8], "big")
