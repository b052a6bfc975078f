"""A whole cohort on accelerators: devices side by side in lanes, lanes over a mesh of accelerators, one reduction a round.

It gives the sum of the clipped updates and no single one, so that an update never leaves the accelerator's memory. The service
itself sums integers that were rounded on the device; this is for replays at production's scale, where what is measured is the
training.
"""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# (JAX types its functions only in part.)

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P
from numpy.typing import NDArray

from trainer.batches import Batches, batches
from trainer.model import Array, Batch, DeviceExamples, FloatVector, Model, Params, Sums

_AXIS = "cohort"


@dataclass(frozen=True, slots=True, eq=False)
class CohortSum:
    """`total`, float32 of shape (d,): the sum of the clipped updates of `num_devices` devices; their training metrics."""

    total: FloatVector = field(repr=False)
    num_devices: int
    metrics: dict[str, float]


@dataclass(frozen=True, kw_only=True, eq=False)
class CohortTrainer:
    """Trains cohorts and sums their clipped updates.

    Args:
      batch_size, epochs, max_examples, learning_rate: as in `LocalTrainer`.
      clip_norm: L2 bound of each update.
      lanes: devices side by side on one accelerator; bounded by its memory.
      num_accelerators: how many of `jax.devices()` to use; 0 is all.
      matmul_precision: as `jax.default_matmul_precision` takes it, such as `BF16_BF16_F32` where the accelerator gains by it;
        parameters, sums and updates stay float32.

    Raises:
      ValueError: for a value that is not positive, or more accelerators than there are.
    """

    model: Model
    batch_size: int
    epochs: int = 1
    max_examples: int = 256
    learning_rate: float
    clip_norm: float
    lanes: int
    num_accelerators: int = 0
    matmul_precision: str | None = None

    def __post_init__(self) -> None:
        for name in ("batch_size", "epochs", "max_examples", "learning_rate", "clip_norm", "lanes"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be positive, not {getattr(self, name)}")
        if not 0 <= self.num_accelerators <= len(jax.devices()):
            raise ValueError(f"num_accelerators must lie in 0..{len(jax.devices())}, not {self.num_accelerators}")

    def sum_updates(
        self, params: FloatVector, devices: Sequence[DeviceExamples], order_seeds: Sequence[int | None]
    ) -> CohortSum:
        """The sum over a cohort; devices with as many steps share a chunk, so their order does not matter.

        Raises:
          ValueError: if there is no device, not as many seeds, or `params` has another shape than (d,).
        """
        if not devices or len(devices) != len(order_seeds):
            raise ValueError(f"{len(devices)} devices need as many order seeds and at least one, not {len(order_seeds)}")
        plans = [self._plan(examples, seed) for examples, seed in zip(devices, order_seeds, strict=True)]
        start = jax.device_put(self.model.unravel(params), NamedSharding(self._mesh, P()))
        totals = self._zeros
        metrics: list[Sums] = []
        for chosen in _chunks([len(plan.rows) for plan in plans], self.lanes * self._mesh.size):
            batch, mask = self._stack([devices[i] for i in chosen], [plans[i] for i in chosen])
            totals, sums = self._chunk(start, totals, batch, mask)
            metrics.append(sums)
        reduced = self._reduce(totals)
        summed = {name: sum(np.asarray(sums[name], np.float64).sum() for sums in metrics) for name in metrics[0]}
        total = self.model.ravel({name: np.asarray(array) for name, array in reduced.items()})
        return CohortSum(total, len(devices), self.model.summarise(summed))  # pyright: ignore[reportArgumentType] NumPy scalars

    @cached_property
    def _mesh(self) -> Mesh:
        count = self.num_accelerators or len(jax.devices())
        return Mesh(np.asarray(jax.devices()[:count]), (_AXIS,))

    @cached_property
    def _zeros(self) -> Params:
        """A sum on each accelerator; it is the first chunk's argument in every round, so it is never donated."""
        spread = NamedSharding(self._mesh, P(_AXIS))
        return {
            name: jax.device_put(np.zeros((self._mesh.size, *shape), np.float32), spread)
            for name, shape in self.model.shapes.items()
        }

    @cached_property
    def _reduce(self) -> Any:
        def reduce(totals: Params) -> Params:
            return {name: array.sum(axis=0) for name, array in totals.items()}

        return jax.jit(reduce)

    @cached_property
    def _chunk(self) -> Any:
        def chunk(start: Params, totals: Params, batch: Batch, mask: Array) -> tuple[Params, Sums]:
            updates, sums = jax.vmap(self._clipped_update, in_axes=(None, 0, 0))(start, batch, mask)
            return {name: totals[name] + updates[name].sum(axis=0) for name in totals}, sums

        spread = P(_AXIS)
        mapped = jax.shard_map(
            chunk, mesh=self._mesh, in_specs=(P(), spread, spread, spread), out_specs=(spread, spread), check_vma=False
        )

        def traced(*arguments: Any) -> Any:
            with _precision(self.matmul_precision):
                return mapped(*arguments)

        return jax.jit(traced)

    def _clipped_update(self, start: Params, batch: Batch, mask: Array) -> tuple[Params, Sums]:
        def step(params: Params, row: tuple[Batch, Array]) -> tuple[Params, Sums]:
            gradients, sums = jax.grad(self.model.loss, has_aux=True)(params, *row)
            return {name: params[name] - self.learning_rate * gradients[name] for name in params}, sums

        trained, sums = jax.lax.scan(step, start, (batch, mask))
        update = {name: trained[name] - start[name] for name in start}
        norm = jnp.sqrt(sum((jnp.vdot(array, array) for array in update.values()), jnp.float32(0.0)))
        scale = jnp.minimum(1.0, self.clip_norm / jnp.maximum(norm, 1e-30))
        return {name: array * scale for name, array in update.items()}, {
            name: array.sum(axis=0) for name, array in sums.items()
        }

    def _plan(self, examples: DeviceExamples, order_seed: int | None) -> Batches:
        return batches(
            examples.num_examples,
            batch_size=self.batch_size,
            epochs=self.epochs,
            max_examples=self.max_examples,
            order_seed=order_seed,
        )

    def _stack(
        self, devices: Sequence[DeviceExamples], plans: Sequence[Batches]
    ) -> tuple[dict[str, NDArray[Any]], FloatVector]:
        """Batches of a chunk, shape (lanes of all accelerators, steps, rows, ...); the number of steps is a power of two."""
        chunk, rows = self.lanes * self._mesh.size, self.batch_size
        steps = 1 << max(len(plans[0].rows) - 1, 0).bit_length()
        arrays = {
            name: np.zeros((chunk, steps, rows, *array.shape[1:]), array.dtype) for name, array in devices[0].arrays.items()
        }
        mask = np.zeros((chunk, steps, rows), np.float32)
        for lane, (examples, plan) in enumerate(zip(devices, plans, strict=True)):
            real = len(plan.rows)
            mask[lane, :real] = np.arange(rows) < plan.rows[:, None]
            for name, array in examples.arrays.items():
                if len(array):
                    arrays[name][lane, :real] = array[plan.indices]
        return arrays, mask


def _chunks(steps: Sequence[int], size: int) -> Iterator[list[int]]:
    """Devices in chunks of at most `size`, those with the most steps first, so that a chunk's devices have about as many."""
    order = sorted(range(len(steps)), key=lambda i: -steps[i])
    for first in range(0, len(order), size):
        yield order[first : first + size]


def _precision(name: str | None) -> contextlib.AbstractContextManager[None]:
    return contextlib.nullcontext() if name is None else jax.default_matmul_precision(name)
