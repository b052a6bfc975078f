"""What a worker does for its devices: read, train, clip, round, check; the one code path for memory, processes and gRPC."""

import hashlib
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from client_sim import filters
from client_sim.compiled_rounding import compiled_cut
from client_sim.data.loader import Loader
from client_sim.device_caches import DeviceCaches
from client_sim.encoding import Encoder, GridEncoder, encoder_of
from client_sim.exact_sums import ExactSum
from client_sim.executor import Job, Updates
from contract import plan
from contract.entropy import Entropy, system_entropy
from contract.errors import ErrorCode, TuttiError
from contract.task import CacheSpec, TrainingSpec
from privacy import grid_rounding
from privacy.keystream import KEY_BYTES, Keystream
from privacy.rounding import squared_norm
from trainer import DeviceExamples, LocalTrainer, compile_cache
from trainer.models import registry

_Trained: TypeAlias = tuple[int, npt.NDArray[np.float32], dict[str, float]]
"""A device, its update and what it measured."""
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


@dataclass(frozen=True, slots=True, eq=False)
class EncodedUpdate:
    """One device's contribution: int32, shape (d,); `diverged` if its training did not end in numbers, and it is therefore 0."""

    device: int
    vector: npt.NDArray[np.int32] = field(repr=False)
    norm_squared: int
    metrics: dict[str, float] = field(repr=False)
    diverged: bool


class LocalWork:
    """Trains devices with one compiled model."""

    def __init__(self, setup: WorkSetup) -> None:
        compile_cache.enable_on_one_core()
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
        rounding = _Rounding(encoder_of(decoded), job.noise_seed, decoded.round_index)
        handed = (job.devices[list(piece)].tolist() for piece in ([range(len(job.devices))] if pieces is None else pieces))
        trained = self._one_by_one if self.side_by_side == 1 else self._in_blocks
        for device, delta, metrics in trained(job, decoded.round_index, handed):
            yield rounding.encoded(device, delta, metrics)

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
        for devices in handed:
            for first in range(0, len(devices), BLOCK_DEVICES):
                yield from self._block(job, round_index, devices[first : first + BLOCK_DEVICES])

    def _block(self, job: Job, round_index: int, devices: list[int]) -> Iterator[_Trained]:
        prepared = [self._examples(device, job.at_s) for device in devices]
        seeds = [order_seed(job.order_seed, round_index, device) for device in devices]
        trained = self._trainer.train_many(job.parameters, [examples for examples, _ in prepared], seeds)
        for device, (_, counts), (delta, metrics) in zip(devices, prepared, trained, strict=True):
            yield device, delta, metrics | counts

    def _examples(self, device: int, now_s: float) -> tuple[DeviceExamples, dict[str, float]]:
        try:
            examples, counts = self._caches.examples(device, now_s), dict[str, float]()
            if self._filters is not None:
                examples, found = filters.prepare(examples, self._filters)
                counts = {name: float(count) for name, count in found.items()}
            return self._model.featurize(examples), counts
        except (ValueError, KeyError, TypeError) as error:
            fault = f"lacks {error}" if isinstance(error, KeyError) else str(error)
            raise TuttiError(
                ErrorCode.DATA_INVALID, f"device {device}: {self._model.name} cannot read its examples: {fault}"
            ) from None


def add_up(work: LocalWork, job: Job, total: npt.NDArray[np.int64], pieces: Iterable[Sequence[int]] | None = None) -> Updates:
    """Overwrites `total`, int64 of the encoded length, with the exact sum of the job's updates, or of those in `pieces`.

    What was measured is in the order in which they were asked for.

    Raises:
      ValueError: as `LocalWork.updates`, or for a `total` of another length.
    """
    total[:] = 0
    measured: list[dict[str, float]] = []
    norms: list[int] = []
    with ExactSum(total) as summing:
        for update in work.updates(job, pieces):
            summing.add(update.vector, update.norm_squared)
            norms.append(update.norm_squared)
            measured.append(update.metrics | {"diverged": float(update.diverged)})
    names = dict.fromkeys(name for one in measured for name in one) or ("diverged",)
    metrics = {name: np.array([one.get(name, 0.0) for one in measured]) for name in names}
    return Updates(total=total, count=len(norms), metrics=metrics, norms_squared=np.array(norms, np.int64))


def order_seed(seed: int, round_index: int, device: int) -> int:
    """The seed of one device's example order in one round.

    >>> order_seed(1, 2, 3) != order_seed(1, 3, 2)
    True
    """
    return int.from_bytes(hashlib.sha256(f"order {seed} {round_index} {device}".encode()).digest()[:8], "big")


def device_entropy(noise_seed: bytes | None, round_index: int, device: int) -> Entropy:
    """The operating system's entropy, or with a seed a stream of its own for each (round, device)."""
    if noise_seed is None:
        return system_entropy
    return Keystream(noise_seed, f"device {device}", round_index).read


class _Rounding:
    """Turns the updates of a job's devices into what may be summed.

    Args:
      noise_seed: None takes coins from the operating system: a key for all devices of the job, whose stream none reads twice.
    """

    def __init__(self, encoder: Encoder, noise_seed: bytes | None, round_index: int) -> None:
        self._encoder, self._noise_seed, self._round_index = encoder, noise_seed, round_index
        self._coins = Keystream(system_entropy(KEY_BYTES), "coins of devices", 0)
        self._cut = compiled_cut(encoder.dimension)

    def encoded(self, device: int, delta: npt.NDArray[np.float32], metrics: dict[str, float]) -> EncodedUpdate:
        length = grid_rounding.length(delta)
        diverged = not math.isfinite(length)
        if diverged:
            # A device whose training ran away contributes nothing, as if its update had been clipped to 0; the sum stays defined.
            delta, length = np.zeros_like(delta), 0.0
        if isinstance(self._encoder, GridEncoder):
            vector, norm_squared = self._encoder.rounded(delta, self._coins_of(device), length=length, cut=self._cut)
        else:
            vector = self._encoder.encode(delta, device_entropy(self._noise_seed, self._round_index, device), metrics)
            norm_squared = squared_norm(vector)
        if not self._encoder.may_be_summed(vector, norm_squared):
            raise ValueError(f"the update of device {device} left its bounds: a fault of the encoder")
        clean = {name: value if math.isfinite(value) else 0.0 for name, value in metrics.items()}
        return EncodedUpdate(device, vector, norm_squared, clean, diverged)

    def _coins_of(self, device: int) -> Keystream:
        if self._noise_seed is None:
            return self._coins
        return Keystream(self._noise_seed, f"coins of device {device}", self._round_index)
