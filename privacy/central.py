"""Central mechanisms as plans: the grid that devices round to, the noise that the server adds, the event that is charged.

A plan is a public value: everybody who knows the task's parameters computes the same one. The server adds `stream(key)`'s integers
to each leaf's integer sum; `event(leaves)` is what all leaves so far cost together.
"""

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction

from privacy import blt_optimum, calibration, grid, rounding, strategies, tree_sensitivity
from privacy.events import Adjacency, BandedEvent, BltEvent, Event, GaussianEvent, Law, TreeEvent, UnboundedEvent
from privacy.grid import Grid
from privacy.matrix_noise import BandedNoise, BufferedNoise
from privacy.noise import IndependentNoise, NoiseStream, NoNoise, TreeNoise
from privacy.samplers import DISTANCE_LOG2, Sampler, rounded_gaussian
from privacy.strategies import Banded, BufferedToeplitz, Strategy

MECHANISMS = ("none", "tree", "gaussian", "banded", "blt")
MOST_BANDS = 64
"""Unless a task says otherwise."""
BUFFERS = 3
"""Of a BLT, at most, unless a task says otherwise."""
UNCLIPPED_NORM = 64.0
"""Norm to which updates are clipped when training without privacy and without a clip norm: the grid needs some bound."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CentralPlan:
    """A central mechanism, ready to run.

    Args:
      mechanism: one of `MECHANISMS`.
      grid: integer grid of the contributions; its norm bound is the sensitivity.
      noise_multiplier: z; 0 for no noise.
      sigma: deviation of what is drawn, a whole number of 2^-fraction_bits grid steps, the least that is at least z times the
        norm bound (banded: times the column norm too); 0 for no noise.
      fraction_bits: 0 but for correlated noise, which is drawn finer than it is released.
      strategy: of correlated noise.
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
    fraction_bits: int = 0
    strategy: Strategy | None = None

    def event(self, leaves: int) -> Event:
        """Everything that `leaves` rounds release, as one event.

        Raises:
          ValueError: for a negative number, or more leaves than planned.
        """
        if not 0 <= leaves <= self.rounds:
            raise ValueError(f"leaves must lie in [0, {self.rounds}], not {leaves}")
        if self.sigma == 0:
            return UnboundedEvent(reason="no noise was added")
        draws = leaves if self.mechanism != "tree" else tree_sensitivity.nodes(leaves, self.restart_every)
        drawn = {"draws": draws * self.grid.dimension, "distance_log2": DISTANCE_LOG2}
        return dataclasses.replace(self._ideal(leaves), law=Law.ROUNDED_GAUSSIAN, **drawn)

    def _ideal(self, leaves: int) -> TreeEvent | GaussianEvent | BandedEvent | BltEvent:
        multiplier, separation, cap = self.noise_multiplier, self.minimum_separation, self.max_participations
        match self.strategy:
            case Banded():
                return BandedEvent(
                    noise_multiplier=multiplier,
                    leaves=leaves,
                    bands=self.strategy.bands,
                    minimum_separation=separation,
                    max_participations=cap,
                )
            case BufferedToeplitz():
                error = self.strategy.numerical_error(self.rounds) * math.sqrt(self.grid.dimension * self.rounds)
                return BltEvent(
                    noise_multiplier=multiplier,
                    leaves=leaves,
                    buf_decay=self.strategy.buf_decay,
                    output_scale=self.strategy.output_scale,
                    numerical_inflation=error / math.sqrt(self.grid.norm_bound_squared),
                    minimum_separation=separation,
                    max_participations=cap,
                )
            case None:
                pass
        if self.mechanism == "tree":
            return TreeEvent(
                noise_multiplier=multiplier,
                leaves=leaves,
                minimum_separation=separation,
                max_participations=cap,
                restart_every=self.restart_every,
            )
        return GaussianEvent(
            noise_multiplier=multiplier,
            releases=leaves,
            minimum_separation=separation,
            max_participations=cap,
            sampling_rate=self.sampling_rate,
            adjacency=Adjacency.ZERO_OUT if self.sampling_rate is None else Adjacency.ADD_OR_REMOVE,
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
        dimension = self.grid.dimension
        if self.sigma == 0:
            return NoNoise(dimension=dimension, leaf=first_leaf)
        sampler = self._sampler()
        match self.strategy:
            case Banded():
                return BandedNoise(dimension=dimension, strategy=self.strategy, sampler=sampler, key=key, first_leaf=first_leaf)
            case BufferedToeplitz():
                return BufferedNoise(
                    dimension=dimension, strategy=self.strategy, sampler=sampler, key=key, first_leaf=first_leaf
                )
            case None:
                return self._pattern(dimension, sampler, key, first_leaf)

    def bit_stream(self, key: bytes, deviation: float, first_leaf: int = 0) -> NoiseStream:
        """Noise for one sum of bits in the pattern of this plan, of which a device changes each leaf's sum by at most 1.

        Args:
          key: 32 secret bytes of its own.
          deviation: of each draw.

        Raises:
          ValueError: for noise from a strategy matrix, beside which no bits are priced.
        """
        if self.strategy is not None:
            raise ValueError(f"no bits go with {self.mechanism}")
        return self._pattern(1, rounded_gaussian(deviation), key, first_leaf)

    def _pattern(self, dimension: int, sampler: Sampler, key: bytes, first_leaf: int) -> NoiseStream:
        if self.mechanism == "tree":
            return TreeNoise(
                dimension=dimension,
                sampler=sampler,
                key=key,
                honaker=self.honaker,
                restart_every=self.restart_every,
                first_leaf=first_leaf,
            )
        return IndependentNoise(dimension=dimension, sampler=sampler, key=key, leaf=first_leaf)

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
    bands: int | None = None,
    buffers: int | None = None,
    strategy: Strategy | None = None,
    beta: float = rounding.DEFAULT_BETA,
) -> CentralPlan:
    """The plan of a central mechanism.

    Args:
      mechanism: one of `MECHANISMS`.
      clip_norm: may be None for `none` only, where `UNCLIPPED_NORM` then bounds the grid.
      noise_multiplier: z >= 0; None for `none`. Banded: relative to a strategy whose columns are normalised.
      sampling_rate: gaussian only: Poisson sampling.
      bands: banded only; all that the separation allows, up to 64, unless given.
      buffers: blt only, at most; 3 unless given. The strategy is then optimised (`blt_optimum`), in about a second.
      strategy: banded and blt: the strategy itself, such as that of a run that is resumed.

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
    if mechanism in ("banded", "blt") and strategy is None:
        strategy = _strategy(mechanism, rounds, minimum_separation, max_participations, bands, buffers)
    fraction_bits = strategy.fraction_bits if strategy is not None else 0
    column = strategy.squared_norm if isinstance(strategy, Banded) else 1 << (2 * fraction_bits)
    return CentralPlan(
        mechanism=mechanism,
        grid=chosen,
        noise_multiplier=multiplier,
        sigma=whole_sigma(multiplier, chosen.norm_bound_squared * column),
        fraction_bits=fraction_bits,
        strategy=strategy,
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
    """The least noise multiplier that meets a target: `calibration.noise_multiplier`."""
    return calibration.noise_multiplier(event_of, epsilon=epsilon, delta=delta)


def _strategy(
    mechanism: str, rounds: int, separation: int, cap: int | None, bands: int | None, buffers: int | None
) -> Strategy:
    if mechanism == "banded":
        chosen = min(separation + 1, rounds, MOST_BANDS) if bands is None else bands
        if not 1 <= chosen <= separation + 1:
            raise ValueError(f"bands must lie in [1, minimum_separation + 1 = {separation + 1}], not {chosen}")
        return strategies.square_root_banded(bands=min(chosen, rounds))
    times = tree_sensitivity.most_participations(leaves=rounds, minimum_separation=separation, max_participations=cap)
    schedule = blt_optimum.Schedule(rounds=rounds, minimum_separation=separation, participations=times)
    found = blt_optimum.optimum(schedule, buffers=BUFFERS if buffers is None else buffers)
    return strategies.buffered(buf_decay=found.buf_decay, output_scale=found.output_scale)


def _grid(mechanism: str, dimension: int, clip_norm: float | None, beta: float) -> Grid:
    if mechanism == "none":
        return grid.finest(dimension=dimension, clip_norm=UNCLIPPED_NORM if clip_norm is None else clip_norm)
    if clip_norm is None:
        raise ValueError(f"mechanism {mechanism} needs a clip_norm")
    return grid.plan(dimension=dimension, clip_norm=clip_norm, beta=beta)
