"""The server's optimisers, on flat vectors, with a state that can be stored: optax behind `init` and `update`."""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# (JAX types its functions only in part.)

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal, TypeAlias, cast

import jax
import jax.numpy as jnp
import numpy as np
import optax
from numpy.typing import NDArray

from trainer.model import FloatVector

Kind: TypeAlias = Literal["sgd", "adam", "yogi", "adagrad"]
State: TypeAlias = dict[str, NDArray[Any]]
"""Named arrays, each of shape (d,) or (); enough to go on from."""
BETA_1, BETA_2 = 0.9, 0.99


@dataclass(frozen=True, kw_only=True, eq=False)
class ServerOptimizer:
    """Moves the model along a mean update, as `FedOpt` does: the mean update is the negative gradient.

    Source: arXiv:2003.00295v5, Alg. 1 and 2 (Adam here with bias correction, as optax has it).
    """

    kind: Kind
    learning_rate: float
    momentum: float
    epsilon: float
    _rule: optax.GradientTransformation = field(repr=False)
    _forms: dict[int, tuple[dict[str, tuple[int, ...]], Any]] = field(
        default_factory=dict[int, tuple[dict[str, tuple[int, ...]], Any]], init=False, repr=False
    )

    def init(self, num_parameters: int) -> State:
        """The state before the first round, for d = `num_parameters`."""
        return _named(self._rule.init(jnp.zeros(num_parameters, jnp.float32)))

    def update(
        self, mean_update: FloatVector, state: Mapping[str, NDArray[Any]], params: FloatVector
    ) -> tuple[FloatVector, State]:
        """The next parameters, float32 of shape (d,), and the next state.

        Args:
          mean_update: float32, shape (d,): the noised sum of updates over its fixed denominator.
          state: from `init` or `update`, or restored.
          params: float32, shape (d,).

        Raises:
          ValueError: if shapes differ or the state belongs to another optimiser.
        """
        if mean_update.shape != params.shape:
            raise ValueError(f"mean_update has shape {mean_update.shape}, the parameters {params.shape}")
        tree = self._restored(state, len(params))
        moved, following = self._apply(np.asarray(mean_update, np.float32), tree, np.asarray(params, np.float32))
        return np.asarray(moved), {
            name: np.asarray(leaf) for name, leaf in zip(self._forms[len(params)][0], jax.tree.leaves(following), strict=True)
        }

    @cached_property
    def _apply(self) -> Callable[..., Any]:
        def apply(mean_update: jax.Array, state: Any, params: jax.Array) -> Any:
            step, following = self._rule.update(-mean_update, state, params)
            return optax.apply_updates(params, step), following

        return jax.jit(apply)

    def _restored(self, state: Mapping[str, NDArray[Any]], num_parameters: int) -> Any:
        if num_parameters not in self._forms:  # traced once: a small model's step takes less time than that
            wanted = jax.eval_shape(self._rule.init, jax.ShapeDtypeStruct((num_parameters,), jnp.float32))
            paths, structure = jax.tree_util.tree_flatten_with_path(wanted)
            self._forms[num_parameters] = {_name(path): leaf.shape for path, leaf in paths}, structure
        shapes, structure = self._forms[num_parameters]
        given = {name: array.shape for name, array in state.items()}
        if shapes != given:
            raise ValueError(f"the state of {self.kind} must hold {shapes}, not {given}")
        return jax.tree_util.tree_unflatten(structure, [state[name] for name in shapes])


def server_optimizer(kind: str, learning_rate: float, momentum: float = 0.0, *, epsilon: float = 1e-8) -> ServerOptimizer:
    """The optimiser that a task names.

    Args:
      kind: `sgd` (with heavy-ball momentum if it is not 0), `adam`, `yogi` or `adagrad`.
      momentum: for `sgd`, in [0, 1); the others have beta_1 = 0.9, beta_2 = 0.99 and want 0.
      epsilon: the adaptivity of the others. Mean updates of clipped devices are small (1e-4 a coordinate), so the published
        1e-3 would make SGD of them; the default leaves the step free of the updates' scale.

    Raises:
      ValueError: for an unknown kind or a value out of range.

    >>> optimizer = server_optimizer("sgd", 0.5)
    >>> optimizer.update(np.ones(2, np.float32), optimizer.init(2), np.zeros(2, np.float32))[0].tolist()
    [0.5, 0.5]
    """
    if learning_rate <= 0:
        raise ValueError(f"learning_rate must be positive, not {learning_rate}")
    if not 0 <= momentum < 1:
        raise ValueError(f"momentum must lie in [0, 1), not {momentum}")
    if momentum and kind != "sgd":
        raise ValueError(f"momentum belongs to sgd; {kind} must have 0, not {momentum}")
    rules: dict[str, Callable[[], optax.GradientTransformation]] = {
        "sgd": lambda: optax.sgd(learning_rate, momentum=momentum or None),
        "adam": lambda: optax.adam(learning_rate, b1=BETA_1, b2=BETA_2, eps=epsilon),
        "yogi": lambda: optax.yogi(learning_rate, b1=BETA_1, b2=BETA_2, eps=epsilon),
        "adagrad": lambda: optax.adagrad(learning_rate, initial_accumulator_value=epsilon**2, eps=epsilon**2),
    }
    if kind not in rules:
        raise ValueError(f"optimizer must be one of {', '.join(rules)}, not {kind!r}")
    return ServerOptimizer(
        kind=cast(Kind, kind), learning_rate=learning_rate, momentum=momentum, epsilon=epsilon, _rule=rules[kind]()
    )


def _named(tree: Any) -> State:
    return {_name(path): np.asarray(leaf) for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]}


def _name(path: Any) -> str:
    return jax.tree_util.keystr(path, simple=True, separator=".")
