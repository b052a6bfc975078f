"""What a worker does for its devices: read, train, clip, round, check; the one code path for memory, processes and gRPC."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from client_sim import filters
from client_sim.data.loader import Loader
from client_sim.device_caches import DeviceCaches
from client_sim.encoding import Encoder, encoder_of
from client_sim.exact_sums import ExactSum
from client_sim.executor import Job, Updates
from contract import plan
from contract.entropy import Entropy, system_entropy
from contract.errors import ErrorCode, TuttiError
from contract.task import CacheSpec, TrainingSpec
from privacy.keystream import Keystream
from privacy.rounding import squared_norm
from trainer import DeviceExamples, LocalTrainer, compile_cache
from trainer.models import registry

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

    def updates(self, job: Job) -> Iterator[EncodedUpdate]:
        """The encoded update of each device of `job`, in its order, computed while it is asked for.

        A device whose cache is empty contributes zero, with the noise and the masks of any other: that it has nothing is its own affair.

        Guarantee: every vector is one that the plan's encoder says may be summed, whatever the examples were.

        Raises:
          ValueError: for a plan that this device does not understand.
          TuttiError: DATA_INVALID for examples that the model cannot take.
        """
        decoded = plan.decode(job.plan)
        encoder = encoder_of(decoded)
        for first in range(0, len(job.devices), BLOCK_DEVICES):
            devices: list[int] = job.devices[first : first + BLOCK_DEVICES].tolist()
            prepared = [self._examples(device, job.at_s) for device in devices]
            examples = [arrays for arrays, _ in prepared]
            seeds = [order_seed(job.order_seed, decoded.round_index, device) for device in devices]
            trained = self._trainer.train_many(job.parameters, examples, seeds)
            for device, (_, counts), (delta, metrics) in zip(devices, prepared, trained, strict=True):
                entropy = device_entropy(job.noise_seed, decoded.round_index, device)
                yield _encode(encoder, device, delta, metrics | counts, entropy)

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


def add_up(work: LocalWork, job: Job, total: npt.NDArray[np.int64]) -> Updates:
    """Overwrites `total`, int64 of the encoded length, with the exact sum of the job's updates.

    Raises:
      ValueError: as `LocalWork.updates`, or for a `total` of another length.
    """
    total[:] = 0
    count = len(job.devices)
    metrics: dict[str, npt.NDArray[np.float64]] = {"diverged": np.zeros(count)}
    norms = np.zeros(count, np.int64)
    with ExactSum(total) as summing:
        for row, update in enumerate(work.updates(job)):
            summing.add(update.vector, update.norm_squared)
            norms[row] = update.norm_squared
            for name, value in (update.metrics | {"diverged": float(update.diverged)}).items():
                metrics.setdefault(name, np.zeros(count))[row] = value
    return Updates(total=total, count=count, metrics=metrics, norms_squared=norms)


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


def _encode(
    encoder: Encoder, device: int, delta: npt.NDArray[np.float32], metrics: dict[str, float], entropy: Entropy
) -> EncodedUpdate:
    # A finite dot product has finite terms; only an infinite one needs the slow look.
    with np.errstate(over="ignore", invalid="ignore"):
        finite = bool(np.isfinite(np.dot(delta, delta)))
    diverged = not finite and not bool(np.isfinite(delta).all())
    # A device whose training ran away contributes nothing, as if its update had been clipped to 0; the sum stays defined.
    vector = encoder.encode(np.zeros_like(delta) if diverged else delta, entropy, metrics)
    norm_squared = squared_norm(vector)
    if not encoder.may_be_summed(vector, norm_squared):
        raise ValueError(f"the update of device {device} left its bounds: a fault of the encoder")
    clean = {name: value if np.isfinite(value) else 0.0 for name, value in metrics.items()}
    return EncodedUpdate(device, vector, norm_squared, clean, diverged)
