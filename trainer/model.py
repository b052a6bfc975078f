"""What a model is to the rest of the house: named arrays, a loss, metrics, and a way to turn examples into arrays.

Outside of `trainer`, parameters and updates are flat float32 vectors of shape (d,). Inside they are `Params`, a dict from names
to arrays in the order of `Model.shapes`. NumPy ends and JAX begins in `local` and `evaluation`; featurising is NumPy
throughout.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from contract import randomness

Array: TypeAlias = jax.Array
Params: TypeAlias = dict[str, jax.Array]
Batch: TypeAlias = dict[str, jax.Array]
Sums: TypeAlias = dict[str, jax.Array]
"""Float32 scalars that add up over examples: `targets` (how many were counted) and, per metric, its sum over them."""
Example: TypeAlias = Mapping[str, Any]
FloatVector: TypeAlias = NDArray[np.float32]
Loss: TypeAlias = Callable[[Params, Batch, Array], tuple[Array, Sums]]


@dataclass(frozen=True, slots=True, eq=False)
class DeviceExamples:
    """One device's examples as arrays that all have the examples on their first axis.

    Args:
      arrays: name -> array of shape (n, ...). They are made read-only.

    Raises:
      ValueError: if there is no array, or their first axes differ.

    >>> DeviceExamples({"x": np.zeros((3, 2)), "y": np.zeros(3)}).num_examples
    3
    """

    arrays: Mapping[str, NDArray[Any]] = field(repr=False)

    def __post_init__(self) -> None:
        sizes = {name: len(array) for name, array in self.arrays.items()}
        if len(set(sizes.values())) != 1:
            raise ValueError(f"arrays must share their first axis, not {sizes}")
        for array in self.arrays.values():
            array.setflags(write=False)

    @property
    def num_examples(self) -> int:
        """Examples on the device, n."""
        return len(next(iter(self.arrays.values())))

    def first(self, limit: int) -> "DeviceExamples":
        """The first `limit` examples."""
        return DeviceExamples({name: array[:limit] for name, array in self.arrays.items()})


def concatenate(parts: Sequence[DeviceExamples]) -> DeviceExamples:
    """All examples of `parts`, in their order.

    Raises:
      ValueError: if `parts` is empty.
    """
    if not parts:
        raise ValueError("parts must hold at least one DeviceExamples")
    names = parts[0].arrays.keys()
    return DeviceExamples({name: np.concatenate([part.arrays[name] for part in parts]) for name in names})


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrangement:
    """How a model's local training is laid out; chosen by measurement (benchmarks/train_rounds.py, benchmarks/gpu).

    Args:
      lanes: on a CPU core, devices trained side by side by `vmap`. 1 trains one device's model at a time, since batched weights
        defeat the matrix product of a large model.
      row_multiple: with one lane, a batch that is short is padded to a multiple of this many rows, not to the full batch.
      eval_rows: examples that `evaluate` puts through the model at once.
      accelerator_lanes: devices side by side where the backend is no CPU; an accelerator wants many, as far as its memory goes.
      lane_mb: what each of them takes with batches of 16, in MiB, as XLA's analysis of the step has it; 0 is not measured.
      whole_steps: on a CPU, a device with at most this many steps is trained by `Model.whole`, in one program.
    """

    lanes: int = 50
    row_multiple: int = 4
    eval_rows: int = 64
    accelerator_lanes: int = 256
    lane_mb: int = 0
    whole_steps: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Descent:
    """A model's own step of SGD, for one device at a time on a processor, where that is faster than its `loss` differentiated.

    Its functions are traced inside JAX.

    Args:
      arrange: the named parameters, in the layout that the step's products are fastest in.
      restore: the inverse of `arrange`.
      step: (arranged parameters, batch, mask, learning rate, rounded) -> those moved against the gradient of `loss`, and its
        `Sums`. `rounded` says whether large products may round their factors to bfloat16; parameters and sums are float32.
      bfloat16: whether they gain by that where `trainer.bfloat16.gains`.
    """

    arrange: Callable[[Params], Params] = field(repr=False)
    restore: Callable[[Params], Params] = field(repr=False)
    step: Callable[[Params, Batch, Array, float, bool], tuple[Params, Sums]] = field(repr=False)
    bfloat16: bool = False


def means(sums: Sums) -> dict[str, float]:
    """The default of `Model.summarise`: every sum over the number of targets, and that number as `targets`."""
    targets = float(sums["targets"])
    return {**{name: float(value) / max(targets, 1.0) for name, value in sums.items()}, "targets": targets}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Model:
    """A trainable model as a value: shapes and pure functions.

    Args:
      name: as in a task file.
      shapes: parameter names and shapes; their order is the order in the flat vector.
      initial: generator -> name -> array.
      featurize: examples as a data file has them -> arrays. Raises ValueError for an example that it cannot take.
      loss: (params, batch, mask of shape (rows,)) -> the mean loss over what is counted in the rows whose mask is 1, a
        differentiable scalar that is 0 when nothing is counted; and its `Sums`.
      measure: the same arguments -> the `Sums` of evaluation; `loss`'s own unless given.
      summarise: `Sums` over any number of examples -> metrics.
      whole: (start, batch, mask, learning rate), batch and mask with an axis of steps before that of the rows -> the update of all
        steps of plain SGD as named arrays, and their `Sums`: for a model whose update costs less than the parameters between its steps.
      prepare: NumPy (batch, mask) -> another batch that `loss` and `measure` take, used where shapes may differ from batch to
        batch: with one lane, and in evaluation; a chance to leave out what is padding.
      arrangement: how its local training is laid out.
      descent: its own step, where it has one.
    """

    name: str
    shapes: Mapping[str, tuple[int, ...]]
    initial: Callable[[np.random.Generator], Mapping[str, NDArray[np.floating[Any]]]] = field(repr=False)
    featurize: Callable[[Sequence[Example]], DeviceExamples] = field(repr=False)
    loss: Loss = field(repr=False)
    measure: Callable[[Params, Batch, Array], Sums] | None = field(default=None, repr=False)
    summarise: Callable[[Sums], dict[str, float]] = field(default=means, repr=False)
    whole: Callable[[Params, Batch, Array, float], tuple[Params, Sums]] | None = field(default=None, repr=False)
    prepare: Callable[[dict[str, NDArray[Any]], FloatVector], dict[str, NDArray[Any]]] | None = field(default=None, repr=False)
    arrangement: Arrangement = field(default_factory=Arrangement)
    descent: Descent | None = None

    @property
    def num_parameters(self) -> int:
        """Length d of the flat vector."""
        return sum(math.prod(shape) for shape in self.shapes.values())

    def init(self, seed: int) -> FloatVector:
        """The starting parameters, float32, shape (d,): a function of `seed` alone."""
        drawn = self.initial(randomness.stream(seed, "init", self.name))
        return self.ravel({name: np.asarray(drawn[name], np.float32) for name in self.shapes})

    def ravel(self, params: Mapping[str, Any]) -> FloatVector:
        """Named arrays as one float32 vector of shape (d,)."""
        return np.concatenate([np.asarray(params[name], np.float32).reshape(-1) for name in self.shapes])

    def unravel(self, flat: FloatVector) -> dict[str, FloatVector]:
        """Views of `flat`, float32 of shape (d,), under their names.

        Raises:
          ValueError: if `flat` has another shape.
        """
        if flat.shape != (self.num_parameters,):
            raise ValueError(f"parameters of {self.name} must have shape ({self.num_parameters},), not {flat.shape}")
        out: dict[str, FloatVector] = {}
        start = 0
        for name, shape in self.shapes.items():
            stop = start + math.prod(shape)
            out[name] = flat[start:stop].reshape(shape)
            start = stop
        return out

    def flat_update(self, start: Params, trained: Params) -> Array:
        """`trained - start` as one vector of shape (d,), traced inside JAX (whose dicts come back sorted by name)."""
        return self.flat({name: trained[name] - start[name] for name in self.shapes})

    def flat(self, params: Params) -> Array:
        """`ravel`, traced inside JAX."""
        return jnp.concatenate([params[name].reshape(-1) for name in self.shapes])

    def evaluation_sums(self, params: Params, batch: Batch, mask: Array) -> Sums:
        """The `Sums` of evaluation for the rows whose mask is 1."""
        return self.loss(params, batch, mask)[1] if self.measure is None else self.measure(params, batch, mask)
