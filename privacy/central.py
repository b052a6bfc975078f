"""Central mechanisms as plans: the grid that devices round to, the noise that the server adds, the event that is charged.

A plan is a public value: everybody who knows the task's parameters computes the same one. The server adds `stream(key)`'s integers
to each leaf's integer sum; `event(leaves)` is what all leaves so far cost together.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from decimal import ROUND_CEILING, Context, Decimal
from fractions import Fraction

from privacy import accounting, grid, rounding, tree_sensitivity
from privacy.events import Adjacency, Event, GaussianEvent, Law, TreeEvent, UnboundedEvent
from privacy.grid import Grid
from privacy.noise import IndependentNoise, NoiseStream, NoNoise, TreeNoise
from privacy.samplers import Sampler, rounded_gaussian

MECHANISMS = ("none", "tree", "gaussian")
_LARGEST_MULTIPLIER = 1e6
UNCLIPPED_NORM = 64.0
"""Norm to which updates are clipped when training without privacy and without a clip norm: the grid needs some bound."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CentralPlan:
    """A central mechanism, ready to run.

    Args:
      mechanism: one of `MECHANISMS`.
      grid: integer grid of the contributions; its norm bound is the sensitivity.
      noise_multiplier: z; 0 for no noise.
      sigma: deviation of the noise of a node or release in grid steps, a whole number, the least that is at least z times the
        norm bound; 0 for no noise.
      rounds: leaves planned; no more can be streamed or priced.
      minimum_separation, max_participations: the schedule, separation counted strictly between.
      restart_every, honaker: tree only.
      sampling_rate: gaussian only: every device joins every round by a coin of this probability that nobody sees.

    >>> chosen = plan(mechanism="tree", dimension=8, clip_norm=1.0, noise_multiplier=7.0, rounds=4, minimum_separation=1)
    >>> chosen.event(4).leaves, chosen.stream(bytes(32)).next().shape
    (4, (8,))
    """

    mechanism: str
    grid: Grid
    noise_multiplier: float
    sigma: int
    rounds: int
    minimum_separation: int = 0
    max_participations: int | None = None
    restart_every: int | None = None
    honaker: bool = True
    sampling_rate: float | None = None

    def event(self, leaves: int) -> Event:
        """Everything that `leaves` rounds release, as one event.

        Raises:
          ValueError: for a negative number, or more leaves than planned.
        """
        if not 0 <= leaves <= self.rounds:
            raise ValueError(f"leaves must lie in [0, {self.rounds}], not {leaves}")
        if self.sigma == 0:
            return UnboundedEvent(reason="no noise was added")
        schedule = (self.minimum_separation, self.max_participations)
        if self.mechanism == "tree":
            return TreeEvent(
                noise_multiplier=self.noise_multiplier,
                leaves=leaves,
                minimum_separation=schedule[0],
                max_participations=schedule[1],
                restart_every=self.restart_every,
                law=Law.ROUNDED_GAUSSIAN,
                draws=tree_sensitivity.nodes(leaves, self.restart_every) * self.grid.dimension,
                distance_log2=self._sampler().distance_log2,
            )
        return GaussianEvent(
            noise_multiplier=self.noise_multiplier,
            releases=leaves,
            minimum_separation=schedule[0],
            max_participations=schedule[1],
            sampling_rate=self.sampling_rate,
            adjacency=Adjacency.ZERO_OUT if self.sampling_rate is None else Adjacency.ADD_OR_REMOVE,
            law=Law.ROUNDED_GAUSSIAN,
            draws=leaves * self.grid.dimension,
            distance_log2=self._sampler().distance_log2,
        )

    def stream(self, key: bytes, first_leaf: int = 0) -> NoiseStream:
        """The run's noise from `first_leaf` on; equal keys give equal noise.

        Args:
          key: the run's 32 secret bytes.
          first_leaf: a resumed run's next leaf. With Honaker's estimator the tree's noise so far is drawn again, about two
            nodes a leaf.

        Guarantee:
          The integer sums with this noise are the rounding of a Gaussian mechanism's outputs, or a function of them, up to the
          distance that `event` states: round(S + x) = S + round(x) for an integer S.
        """
        if self.sigma == 0:
            return NoNoise(dimension=self.grid.dimension, leaf=first_leaf)
        if self.mechanism == "tree":
            return TreeNoise(
                dimension=self.grid.dimension,
                sampler=self._sampler(),
                key=key,
                honaker=self.honaker,
                restart_every=self.restart_every,
                first_leaf=first_leaf,
            )
        return IndependentNoise(dimension=self.grid.dimension, sampler=self._sampler(), key=key, leaf=first_leaf)

    def _sampler(self) -> Sampler:
        return rounded_gaussian(float(self.sigma))


def plan(
    *,
    mechanism: str,
    dimension: int,
    clip_norm: float | None,
    noise_multiplier: float | None,
    rounds: int,
    minimum_separation: int = 0,
    max_participations: int | None = None,
    restart_every: int | None = None,
    honaker: bool = True,
    sampling_rate: float | None = None,
    beta: float = rounding.DEFAULT_BETA,
) -> CentralPlan:
    """The plan of a central mechanism.

    Args:
      mechanism: `tree`, `gaussian`, or `none`.
      clip_norm: may be None for `none` only, where `UNCLIPPED_NORM` then bounds the grid.
      noise_multiplier: z >= 0; None for `none`.

    Raises:
      ValueError: for a mechanism that is not planned here, or a value that names itself.

    >>> plan(mechanism="none", dimension=2, clip_norm=None, noise_multiplier=None, rounds=1).event(1).kind
    'unbounded'
    """
    if mechanism not in MECHANISMS:
        raise ValueError(f"mechanism must be one of {MECHANISMS}, not {mechanism!r}")
    multiplier = 0.0 if mechanism == "none" else noise_multiplier
    if multiplier is None or not (multiplier >= 0 and math.isfinite(multiplier)):
        raise ValueError(f"noise_multiplier must be finite and not negative, not {noise_multiplier}")
    if rounds < 1:
        raise ValueError(f"rounds must be at least 1, not {rounds}")
    if sampling_rate is not None and (mechanism != "gaussian" or not 0 < sampling_rate <= 1):
        raise ValueError(f"sampling_rate must lie in (0, 1], for gaussian only, not {sampling_rate} for {mechanism}")
    chosen = _grid(mechanism, dimension, clip_norm, beta)
    tree_sensitivity.nodes(rounds, restart_every)  # refuses what no tree has
    tree_sensitivity.most_participations(
        leaves=rounds, minimum_separation=minimum_separation, max_participations=max_participations
    )
    return CentralPlan(
        mechanism=mechanism,
        grid=chosen,
        noise_multiplier=multiplier,
        sigma=whole_sigma(multiplier, chosen.norm_bound_squared),
        rounds=rounds,
        minimum_separation=minimum_separation,
        max_participations=max_participations,
        restart_every=restart_every if mechanism == "tree" else None,
        honaker=honaker,
        sampling_rate=sampling_rate,
    )


def whole_sigma(noise_multiplier: float, norm_bound_squared: int) -> int:
    """The least whole number whose square is at least noise_multiplier^2 norm_bound_squared, in exact arithmetic.

    >>> whole_sigma(7.0, 4), whole_sigma(0.5, 5)
    (14, 2)
    """
    square = Fraction(noise_multiplier) ** 2 * norm_bound_squared
    root = math.isqrt(math.ceil(square))
    return root if root**2 >= square else root + 1


def calibrate(event_of: Callable[[float], Event], *, epsilon: float, delta: float) -> float:
    """The least noise multiplier, to six digits upwards, with which an event costs at most `epsilon` at `delta`.

    Args:
      event_of: the event at a noise multiplier; its price falls as the multiplier grows.

    Raises:
      ValueError: if no multiplier below 10^6 is enough.

    >>> from privacy.accounting import price
    >>> z = calibrate(lambda z: GaussianEvent(noise_multiplier=z, releases=1), epsilon=1.0, delta=1e-6)
    >>> z, price(GaussianEvent(noise_multiplier=z, releases=1), 1e-6).epsilon <= 1.0
    (4.22468, True)
    """
    if not epsilon > 0:
        raise ValueError(f"epsilon must be positive, not {epsilon}")
    low, high = 0.0, _LARGEST_MULTIPLIER
    if accounting.price(event_of(high), delta).epsilon > epsilon:
        raise ValueError(f"no noise multiplier below {high:g} gives epsilon {epsilon} at delta {delta}")
    while high - low > 1e-7 * high:
        middle = math.sqrt(low * high) if low > 0 else high / 16
        if accounting.price(event_of(middle), delta).epsilon <= epsilon:
            high = middle
        else:
            low = middle
    return float(Context(prec=6, rounding=ROUND_CEILING).create_decimal(Decimal(high)))


def _grid(mechanism: str, dimension: int, clip_norm: float | None, beta: float) -> Grid:
    if mechanism == "none":
        return grid.finest(dimension=dimension, clip_norm=UNCLIPPED_NORM if clip_norm is None else clip_norm)
    if clip_norm is None:
        raise ValueError(f"mechanism {mechanism} needs a clip_norm")
    return grid.plan(dimension=dimension, clip_norm=clip_norm, beta=beta)
