"""Local training on a device: plain SGD, whose result is the update `trained - start`.

Every compiled program has a shape that depends on the model, the batch size and the device's own examples, never on which
devices are trained beside it. XLA's bits depend on shapes and on the number of cores; so on one pinned core an update is a
function of (parameters, examples, order seed), whoever computes it and in whatever company.
"""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# (JAX types its functions only in part.)

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P
from numpy.typing import NDArray

from trainer import bfloat16, freed_memory, memory
from trainer.batches import Batches, batches_of, lane_rows, whole_rows
from trainer.model import Array, Batch, Descent, DeviceExamples, FloatVector, Model, Params, Sums

Trained: TypeAlias = tuple[FloatVector, dict[str, float]]
_AXIS = "lanes"


@dataclass(frozen=True, slots=True, eq=False)
class TrainedLanes:
    """Devices that were trained side by side.

    Args:
      places: which they are of those that were given.
      updates: float32, shape (lanes, d): a row for each of `places`, in their order; rows behind them are nobody's.
      metrics: of each of `places`.
    """

    places: Sequence[int]
    updates: FloatVector = field(repr=False)
    metrics: Sequence[dict[str, float]] = field(repr=False)


_WINDOW_CHUNKS = 8  # devices of similar size share a chunk; only so many chunks of updates are held at once


@dataclass(frozen=True, kw_only=True, eq=False)
class LocalTrainer:
    """Trains devices one after the other, or in vectorised chunks, as the model's arrangement says; on several accelerators a chunk
    is spread over all of them.

    Args:
      batch_size, epochs, max_examples: as in a task file.
      learning_rate: of the device's SGD.

    Raises:
      ValueError: for a value that is not positive.
    """

    model: Model
    batch_size: int
    epochs: int = 1
    max_examples: int = 256
    learning_rate: float
    lanes: int = field(default=0)
    """Devices side by side on one accelerator or core; 0 leaves it to the model's arrangement."""
    products: str = "auto"
    """`float32`; or `bfloat16` where a model's own step can round the factors of its large products to it; or by what the
    processor gains by (ADR 30). Parameters, sums and updates are float32."""
    accelerators: int = 0
    """How many of `jax.devices()` share the lanes; 0 takes all accelerators, or one processor."""
    _sums: list[str] = field(default_factory=list[str], init=False, repr=False)
    """Names of the model's `Sums`, in the order of the vector that a step adds to."""
    _shapes: set[tuple[Any, ...]] = field(default_factory=set[tuple[Any, ...]], init=False, repr=False)
    """Of the batches for which the step was compiled."""
    _refused: set[tuple[Any, ...]] = field(default_factory=set[tuple[Any, ...]], init=False, repr=False)
    """Those whose step XLA compiles with rounded products but cannot run."""

    def __post_init__(self) -> None:
        for name in ("batch_size", "epochs", "max_examples", "learning_rate"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be positive, not {getattr(self, name)}")
        if self.products not in ("auto", "float32", "bfloat16"):
            raise ValueError(f"products must be auto, float32 or bfloat16, not {self.products!r}")
        if self.lanes < 0:
            raise ValueError(f"lanes must not be negative, not {self.lanes}")
        if self.accelerators < 0:
            raise ValueError(f"accelerators must not be negative, not {self.accelerators}")

    def train(self, params: FloatVector, examples: DeviceExamples, order_seed: int | None) -> Trained:
        """The update of one device, float32 of shape (d,), and its metrics: means over the targets as they were met, before the
        step that learned from them; `examples` and `targets` are counts.

        Guarantee: `train` and `train_many` give the same bits for the same device, on the same backend, JAX version and core
          count.

        Raises:
          ValueError: if `params` has another shape than (d,).
        """
        return next(self.train_many(params, [examples], [order_seed]))

    def train_many(
        self, params: FloatVector, devices: Sequence[DeviceExamples], order_seeds: Sequence[int | None]
    ) -> Iterator[Trained]:
        """`train` for each of `devices`, in their order, computed while it is asked for.

        Raises:
          ValueError: if there are not as many seeds as devices, or `params` has another shape than (d,).
        """
        if len(devices) != len(order_seeds):
            raise ValueError(f"{len(devices)} devices need as many order seeds, not {len(order_seeds)}")
        if self._lanes == 1:
            return self.train_each(params, zip(devices, order_seeds, strict=True))
        return self._in_lanes(self._start(params), devices, order_seeds)

    def train_each(self, params: FloatVector, devices: Iterable[tuple[DeviceExamples, int | None]]) -> Iterator[Trained]:
        """`train` for devices with their order seeds that are asked for one at a time, each once the one before is trained.

        Raises:
          ValueError: if this model trains several devices side by side, or `params` has another shape than (d,).
        """
        if self.side_by_side > 1:
            raise ValueError(f"{self.model.name} trains {self.side_by_side} devices side by side")
        return self._one_by_one(self._start(params), devices)

    def train_lanes(
        self, params: FloatVector, devices: Sequence[DeviceExamples], order_seeds: Sequence[int | None]
    ) -> Iterator[TrainedLanes]:
        """`train_many` for whoever takes the updates as they come, lanes of them at once; each device is in one of what it gives.

        Raises:
          ValueError: as `train_many`, or if this model trains one device at a time.
        """
        if len(devices) != len(order_seeds):
            raise ValueError(f"{len(devices)} devices need as many order seeds, not {len(order_seeds)}")
        if self._lanes == 1:
            raise ValueError(f"{self.model.name} trains one device at a time")
        return self._in_chunks(self._start(params), devices, self._batches(devices, order_seeds))

    @property
    def side_by_side(self) -> int:
        """How many devices one program trains."""
        return self._lanes

    def _start(self, params: FloatVector) -> Params:
        return self._named(params)

    @property
    def _lanes(self) -> int:
        """Devices side by side on all accelerators together."""
        arrangement, mesh = self.model.arrangement, self._mesh
        lanes = self.lanes or (arrangement.lanes if jax.default_backend() == "cpu" else self._accelerator_lanes)
        return lanes * (1 if mesh is None else mesh.size)

    @cached_property
    def _accelerator_lanes(self) -> int:
        return memory.lanes_within(
            self.model.arrangement.accelerator_lanes,
            memory.accelerator_bytes(),
            lane_mb=self.model.arrangement.lane_mb,
            num_parameters=self.model.num_parameters,
            batch_size=self.batch_size,
        )

    @property
    def _descent(self) -> Descent | None:
        """The model's own step, where one device is trained at a time on a processor."""
        return self.model.descent if self._lanes == 1 and jax.default_backend() == "cpu" else None

    @property
    def _rounded(self) -> bool:
        automatic = self._descent is not None and self._descent.bfloat16 and bfloat16.gains()
        return automatic if self.products == "auto" else self.products == "bfloat16"

    @cached_property
    def _named(self) -> Any:
        """Flat parameters as named arrays, as the steps take them."""

        def named(params: FloatVector) -> Params:
            arrays: Any = self.model.unravel(params)
            return arrays if self._descent is None else self._descent.arrange(arrays)

        return jax.jit(named)

    @cached_property
    def _mesh(self) -> Mesh | None:
        """The accelerators that share the lanes; None for one."""
        count = self.accelerators or (1 if jax.default_backend() == "cpu" else len(jax.devices()))
        if count > len(jax.devices()):
            raise ValueError(f"accelerators must be at most {len(jax.devices())}, not {count}")
        return None if count == 1 else Mesh(np.asarray(jax.devices()[:count]), (_AXIS,))

    @cached_property
    def _step(self) -> Any:
        return self._compiled_step(shared=False)

    @cached_property
    def _exact_step(self) -> Any:
        return self._compiled_step(shared=False, exact=True)

    @cached_property
    def _first_step(self) -> Any:
        """The step after which each lane has parameters of its own: until then they are one matrix's, and so the products are."""
        return self._compiled_step(shared=True)

    def _compiled_step(self, *, shared: bool, exact: bool = False) -> Any:
        def step(params: Params, totals: Array, batch: Batch, mask: Array) -> tuple[Params, Array]:
            moved, sums = self._moved(params, batch, mask, exact)
            return moved, totals + jnp.stack([sums[name] for name in sorted(sums)])

        if self._lanes > 1:
            step = jax.vmap(step, in_axes=(None if shared else 0, 0, 0, 0))
        return self._compiled(step, shared=shared, spread=3)

    def _moved(self, params: Params, batch: Batch, mask: Array, exact: bool = False) -> tuple[Params, Sums]:
        """The parameters after a step of SGD, and the `Sums` of what it met."""
        if self._descent is not None:
            return self._descent.step(params, batch, mask, self.learning_rate, self._rounded and not exact)
        gradients, sums = jax.grad(self.model.loss, has_aux=True)(params, batch, mask)
        return {name: params[name] - self.learning_rate * gradients[name] for name in params}, sums

    def _compiled(self, program: Any, *, shared: bool, spread: int) -> Any:
        """A program of parameters, which all lanes may share, and of `spread` arguments with an axis of lanes."""
        if self._mesh is not None:
            # Each accelerator runs the program of one alone, so that an update has the same bits on however many there are.
            lanes = P(_AXIS)
            given = (P() if shared else lanes, *[lanes] * spread)
            program = jax.shard_map(program, mesh=self._mesh, in_specs=given, out_specs=lanes, check_vma=False)
        return jax.jit(program, compiler_options=_compiler_options())

    @cached_property
    def _whole(self) -> Any:
        def whole(start: Params, batch: Batch, mask: Array) -> tuple[Array, Array]:
            if self.model.whole is None:
                raise ValueError(f"{self.model.name} takes its steps one after the other")
            update, sums = self.model.whole(start, batch, mask, self.learning_rate)
            return self.model.flat(update), jnp.stack([sums[name] for name in sorted(sums)])

        return self._compiled(jax.vmap(whole, in_axes=(None, 0, 0)), shared=True, spread=2)

    @cached_property
    def _update(self) -> Any:
        return jax.jit(self._flat_update if self._lanes == 1 else jax.vmap(self._flat_update, in_axes=(None, 0)))

    def _flat_update(self, start: Params, trained: Params) -> Array:
        if self._descent is not None:
            start, trained = self._descent.restore(start), self._descent.restore(trained)
        return self.model.flat_update(start, trained)

    def _batches(self, devices: Sequence[DeviceExamples], order_seeds: Sequence[int | None]) -> list[Batches]:
        return batches_of(
            [examples.num_examples for examples in devices],
            order_seeds,
            batch_size=self.batch_size,
            epochs=self.epochs,
            max_examples=self.max_examples,
        )

    def _one_by_one(self, start: Params, devices: Iterable[tuple[DeviceExamples, int | None]]) -> Iterator[Trained]:
        for examples, seed in devices:
            (plan,) = self._batches([examples], [seed])
            params, totals, programs = start, None, len(self._shapes)
            for indices, rows in zip(plan.indices, plan.rows, strict=True):
                batch, mask = self._rows(examples, indices, int(rows))
                totals = self._zero_sums(start, batch, mask) if totals is None else totals
                params, totals = self._take_step(self._step, params, totals, batch, mask)
            update = np.asarray(self._update(start, params))
            self._release_after(programs)
            yield update, self._metrics(examples, plan, None if totals is None else np.asarray(totals))

    def _rows(
        self, examples: DeviceExamples, indices: NDArray[np.int64], rows: int
    ) -> tuple[dict[str, NDArray[Any]], FloatVector]:
        multiple = self.model.arrangement.row_multiple
        padded = min(-(-rows // multiple) * multiple, self.batch_size)
        batch = {name: array[indices[:padded]] for name, array in examples.arrays.items()}
        mask = (np.arange(padded) < rows).astype(np.float32)
        return (batch if self.model.prepare is None else self.model.prepare(batch, mask)), mask

    def _in_lanes(self, start: Params, devices: Sequence[DeviceExamples], seeds: Sequence[int | None]) -> Iterator[Trained]:
        chunks = memory.chunks_held(_WINDOW_CHUNKS, lanes=self._lanes, num_parameters=self.model.num_parameters)
        for window in _windows(devices, seeds, self._lanes * chunks):
            examples = [examples for examples, _ in window]
            results, due = dict[int, Trained](), 0
            for chunk in self._in_chunks(start, examples, self._batches(examples, [seed for _, seed in window])):
                results.update(zip(chunk.places, zip(chunk.updates, chunk.metrics, strict=False), strict=False))
                while due in results:  # while the update is still in the processor's cache
                    yield results.pop(due)
                    due += 1

    def _in_chunks(self, start: Params, devices: Sequence[DeviceExamples], plans: Sequence[Batches]) -> Iterator[TrainedLanes]:
        for whole, chosen in self._chunks(plans):
            # No name for what is given: while the next are trained, nothing here holds these.
            yield self._trained(start, chosen, [devices[i] for i in chosen], [plans[i] for i in chosen], whole)

    def _trained(
        self, start: Params, places: list[int], devices: Sequence[DeviceExamples], plans: Sequence[Batches], whole: int
    ) -> TrainedLanes:
        updates, totals = self._whole_chunk(start, devices, plans, whole) if whole else self._chunk(start, devices, plans)
        rows = [None] * len(places) if totals is None else totals
        metrics = [self._metrics(one, plan, sums) for one, plan, sums in zip(devices, plans, rows, strict=False)]
        return TrainedLanes(places, updates, metrics)

    def _chunks(self, plans: Sequence[Batches]) -> Iterator[tuple[int, list[int]]]:
        """The devices that are trained together, and for how many steps in one program, 0 for one after the other.

        How a device is trained depends on its own number of steps alone.
        """
        most = self.model.arrangement.whole_steps if self.model.whole and jax.default_backend() == "cpu" else 0
        steps = [len(plan.rows) for plan in plans]
        whole = [1 << (count - 1).bit_length() if 0 < count <= most else 0 for count in steps]
        for size in sorted(set(whole)):
            order = sorted((i for i in range(len(plans)) if whole[i] == size), key=lambda i: -steps[i])
            for first in range(0, len(order), self._lanes):
                yield size, order[first : first + self._lanes]

    def _whole_chunk(
        self, start: Params, devices: Sequence[DeviceExamples], plans: Sequence[Batches], steps: int
    ) -> tuple[FloatVector, FloatVector]:
        batch, mask = whole_rows(devices, plans, lanes=self._lanes, steps=steps, batch_size=self.batch_size)
        if not self._sums:
            alone = {name: array[0, 0] for name, array in batch.items()}
            self._sums.extend(sorted(jax.eval_shape(self.model.loss, start, alone, mask[0, 0])[1]))
        programs = len(self._shapes)
        self._shapes.add(("whole", *(array.shape for array in batch.values())))
        updates, totals = map(np.asarray, self._whole(start, batch, mask))
        self._release_after(programs)
        return updates, totals

    def _chunk(
        self, start: Params, devices: Sequence[DeviceExamples], plans: Sequence[Batches]
    ) -> tuple[FloatVector, FloatVector | None]:
        params, totals, programs = start, None, len(self._shapes)
        for index in range(max(len(plan.rows) for plan in plans)):
            batch, mask = lane_rows(devices, plans, index, lanes=self._lanes, batch_size=self.batch_size)
            step = self._first_step if totals is None else self._step
            totals = self._zero_sums(start, batch, mask) if totals is None else totals
            params, totals = self._take_step(step, params, totals, batch, mask)
        if totals is None:
            return np.zeros((self._lanes, self.model.num_parameters), np.float32), None
        updates = np.asarray(self._update(start, params))
        self._release_after(programs)
        return updates, np.asarray(totals)

    def _take_step(
        self, step: Any, params: Params, totals: Any, batch: dict[str, NDArray[Any]], mask: FloatVector
    ) -> tuple[Params, Array]:
        shape = (step is self._step, *(array.shape for array in batch.values()))
        new = shape not in self._shapes
        self._shapes.add(shape)
        if new and self._rounded:
            try:
                return jax.block_until_ready(step(params, totals, batch, mask))
            except jax.errors.JaxRuntimeError as error:
                # XLA may keep a product narrow, lay its factors out in another way, and have no code for it. A want of memory says nothing
                # of the shape: a worker that went on by it would give other bits than its neighbour.
                if "RESOURCE_EXHAUSTED" in str(error):
                    raise
                self._refused.add(shape)
        return (self._exact_step if shape in self._refused else step)(params, totals, batch, mask)

    def _release_after(self, programs: int) -> None:
        """Once results are there, and so what was running is done: gives back what compiling left, if there are more programs."""
        if len(self._shapes) > programs:
            freed_memory.release()

    def _zero_sums(self, params: Params, batch: dict[str, NDArray[Any]], mask: FloatVector) -> FloatVector:
        if not self._sums:  # the same for every batch
            moved = self._moved if self._lanes == 1 else jax.vmap(self._moved, in_axes=(None, 0, 0))
            self._sums.extend(sorted(jax.eval_shape(moved, params, batch, mask)[1]))
        return np.zeros((*((self._lanes,) if self._lanes > 1 else ()), len(self._sums)), np.float32)

    def _metrics(self, examples: DeviceExamples, plan: Batches, totals: FloatVector | None) -> dict[str, float]:
        if totals is None or not len(plan.rows):  # beside others, a device without examples has sums of nothing
            return {"examples": 0.0}
        sums: Any = dict(zip(self._sums, totals.tolist(), strict=True))
        return {"examples": float(min(examples.num_examples, self.max_examples)), **self.model.summarise(sums)}


def _compiler_options() -> dict[str, int] | None:
    """On a CPU, vectors of 512 bits where it has them: XLA by itself takes 256, at which exponentials take twice the time."""
    return {"xla_cpu_prefer_vector_width": 512} if jax.default_backend() == "cpu" else None


def _windows(
    devices: Sequence[DeviceExamples], seeds: Sequence[int | None], size: int
) -> Iterator[list[tuple[DeviceExamples, int | None]]]:
    for first in range(0, len(devices), size):
        yield list(zip(devices[first : first + size], seeds[first : first + size], strict=True))
