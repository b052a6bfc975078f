"""Distributed noise: devices clip, rotate, scale, round and add integer noise; the sum is private though no device is trusted to the end.

Notation follows arXiv:2102.06387v4: clip norm c, scale s, D2 the largest norm after rounding, n devices. Integers leave unwrapped: the
lanes of secure aggregation must hold the sum, and `overflow_probability` bounds how often they don't. An overflow costs accuracy, never
privacy.

`privacy.ddg` and `privacy.skellam` make the plans.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from contract.canonical import Json, plain
from contract.entropy import Entropy
from privacy import distributed_curves, overflow, rounding, tree_sensitivity
from privacy.events import DistributedEvent, UnboundedEvent
from privacy.keystream import KEY_BYTES, Keystream
from privacy.rotation import Rotation
from privacy.samplers import DISTANCE_LOG2, Sampler, discrete_gaussian, skellam
from privacy.samplers.laws import SKELLAM_LARGEST

MECHANISMS = ("ddg", "skellam")
METRICS_NOISE = 4.0
"""Noise multiplier of the metrics over that of the update, unless a task says otherwise."""
MOST_BITS, FEWEST_BITS = 32, 8
"""Of a lane."""
LARGEST_VALUE = 1 << 31
"""Below it are the values of one device."""
NARROWEST = {"ddg": distributed_curves.NARROWEST, "skellam": 2.0**-10}
"""The least deviation of one device's noise, in integer units; below it no theorem prices a sum of discrete Gaussians."""
TAIL_Z = 3.8905918864131204
"""k: a coordinate may leave its lane with probability 10^-4 (the quantile of 1 - 10^-4 / 2)."""


_LARGEST_COUNT = (1 << 53) - 1
_DECIMALS = frozenset({"clip_norm", "scale", "noise_multiplier", "local_sigma", "beta", "sum_norm"})
_COUNTS = frozenset({"bits", "devices", "minimum_survivors", "corrupt", "minimum_separation", "max_participations"})


class NarrowNoiseError(ValueError):
    """Noise so narrow in integer units that it has no price: a wider lane, or more noise, gives it one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DistributedPlan:
    """An encoder, its decoder and its price; a public value that devices and server compute alike.

    Args:
      mechanism: `ddg` or `skellam`.
      rotation: how vectors are spread; its padded length is that of an encoded vector.
      clip_norm: c.
      scale: s, integer units per unit of the update.
      bits: width of a lane of the sum, 8 to 32.
      devices: n, for which scale and lanes are sized.
      local_sigma: deviation of one device's noise in integer units; 0 for none.
      minimum_survivors: u_min, below which nothing is unmasked.
      corrupt: devices of a sum whose noise the colluding server may know (`contract.collusion`).
      beta: of the conditional rounding.
      minimum_separation, max_participations: the schedule, separation counted strictly between.
      sum_norm: what the norm of a sum of updates is taken to be at most, in units of the update; n c unless tuned.
    """

    mechanism: str
    rotation: Rotation
    clip_norm: float
    scale: float
    bits: int
    devices: int
    noise_multiplier: float
    local_sigma: float
    minimum_survivors: int
    corrupt: int
    beta: float
    minimum_separation: int
    max_participations: int | None
    sum_norm: float

    def __post_init__(self) -> None:
        _check_ranges(self)
        # Values that wrapped on a device would make the sum no function of the noised integers, on which the proof rests.
        narrow = self.clip_norm * self.scale < LARGEST_VALUE
        if not (narrow and 15 * self.local_sigma + 32 + math.sqrt(self.squared_norm) < LARGEST_VALUE):
            raise ValueError(
                f"bits must be fewer than {self.bits} for {self.devices} devices: one device's values leave 31 bits"
            )
        if self.squared_norm < 1:
            raise ValueError(f"scale must be more than {self.scale}: every update within the clip norm is rounded to 0")
        if 0 < self.local_sigma < NARROWEST[self.mechanism]:
            raise NarrowNoiseError(
                f"bits must be more than {self.bits} for {self.devices} devices: noise of {self.local_sigma:.3g} units a device is "
                f"narrower than the {NARROWEST[self.mechanism]:g} from which {self.mechanism} has a price"
            )

    @property
    def dimension(self) -> int:
        """d, of the updates."""
        return self.rotation.dimension

    @property
    def padded_dimension(self) -> int:
        """Length of an encoded vector."""
        return self.rotation.padded

    @property
    def squared_norm(self) -> int:
        """D2^2: the largest squared norm of an encoded vector before noise."""
        return rounding.squared_norm_bound(
            scaled_norm=self.clip_norm * self.scale, dimension=self.padded_dimension, beta=self.beta
        )

    @property
    def inflated_norm(self) -> float:
        """D2, in integer units."""
        return math.sqrt(self.squared_norm)

    @property
    def lane_width(self) -> int:
        """Bits that a coordinate of the sum takes."""
        return self.bits

    @property
    def largest_value(self) -> int:
        """The largest magnitude of a coordinate that one device can send, noise included."""
        return math.isqrt(self.squared_norm) + (self._sampler().reach if self.local_sigma > 0 else 0)

    @property
    def exact(self) -> bool:
        """Whether the sum of all devices fits its lane for certain."""
        return self.devices * self.largest_value < 1 << (self.bits - 1)

    @property
    def overflow_probability(self) -> float:
        """A proved bound on the probability that a coordinate of one sum leaves its lane; 0 where the sum always fits."""
        if self.exact:
            return 0.0
        return overflow.coordinate(
            mechanism=self.mechanism,
            bits=self.bits,
            devices=self.devices,
            sum_norm=self.sum_norm * self.scale,
            block=self.rotation.block,
            local_sigma=self.local_sigma,
        )

    def encode(self, vector: NDArray[np.float32], entropy: Entropy, rotation_seed: bytes) -> NDArray[np.int32]:
        """What a device hands to secure aggregation: int32, shape (padded_dimension,), not wrapped.

        Args:
          vector: the update, float32, shape (d,).
          entropy: secret randomness for rounding and noise.
          rotation_seed: 32 public bytes, the same for all devices of a round, drawn independently of their updates.

        Raises:
          ValueError: for another shape, or a value that is not finite.

        Guarantee:
          The squared norm before noise is at most `squared_norm`, whatever the arguments. The noise has the law of the mechanism
          with deviation `local_sigma` up to the sampler's distance, which `event` carries.

        Source: the client's procedure of arXiv:2102.06387v4 and of arXiv:2110.04995v3.
        """
        if vector.shape != (self.dimension,):
            raise ValueError(f"vector must have shape ({self.dimension},), not {vector.shape}")
        factor = rounding.clipping_factor(vector.astype(np.float32, copy=False), clip_norm=self.clip_norm, scale=self.scale)
        key = entropy(KEY_BYTES)
        single = self.clip_norm * self.scale < rounding.SINGLE_BELOW
        real = vector.astype(np.float32, copy=False) if single else vector.astype(np.float64)
        scaled = self.rotation.apply(real, rotation_seed, factor=factor)
        rounded = rounding.round_within(scaled, self.squared_norm, Keystream(key, "stochastic rounding", 0))
        if self.local_sigma > 0:
            rounded += (
                self._sampler().draw(Keystream(key, "local noise", 0), self.padded_dimension).astype(np.int32, copy=False)
            )
        return rounded

    def decode(self, total: NDArray[np.int64], survivors: int, rotation_seed: bytes) -> NDArray[np.float64]:
        """The noised sum of the survivors' updates, float64, shape (d,).

        Raises:
          ValueError: for fewer survivors than `minimum_survivors`, more than `devices`, or another shape.
        """
        if not self.minimum_survivors <= survivors <= self.devices:
            raise ValueError(f"survivors must lie in [{self.minimum_survivors}, {self.devices}], not {survivors}")
        if total.shape != (self.padded_dimension,):
            raise ValueError(f"total must have shape ({self.padded_dimension},), not {total.shape}")
        return self.rotation.undo(total, rotation_seed, factor=1 / self.scale)

    @property
    def honest(self) -> int:
        """The fewest devices in a sum whose noise nobody but themselves knows; may be negative in a plan that lies."""
        return self.minimum_survivors - self.corrupt

    @property
    def guaranteed_multiplier(self) -> float:
        """Of the Gaussian mechanism that costs as much as one sum with the noise of the fewest honest survivors; 0 where nothing is proved.

        What `event` is priced at (`distributed_curves.published_rho`): rounding's share of the norm and the distance of a sum of discrete
        Gaussians from one are in it, so that it is below `noise_multiplier`.
        """
        if self.local_sigma == 0 or self.honest < 1:
            return 0.0
        one = DistributedEvent(
            mechanism=self.mechanism,
            dimension=self.padded_dimension,
            squared_norm=self.squared_norm,
            local_sigma=self.local_sigma,
            contributors=(self.honest,),
            participations=1,
        )
        return 1 / math.sqrt(2 * distributed_curves.published_rho(one))

    def sum_variance(self, survivors: int) -> float:
        """Variance of the noise in each coordinate of `decode`'s sum, without that of rounding."""
        return survivors * (self.local_sigma / self.scale) ** 2

    def event(self, survivors: int | Sequence[int], corrupt: int = 0) -> DistributedEvent | UnboundedEvent:
        """Everything released so far: one number of survivors for each sum, of whom the adversary knows the noise of `corrupt`.

        The claim against a curious server has `corrupt` 0, that against a colluding one `self.corrupt`.
        """
        each = (survivors,) if isinstance(survivors, int) else tuple(survivors)
        if self.local_sigma == 0:
            return UnboundedEvent(reason="no noise was added")
        times = tree_sensitivity.most_participations(
            leaves=len(each), minimum_separation=self.minimum_separation, max_participations=self.max_participations
        )
        return DistributedEvent(
            mechanism=self.mechanism,
            dimension=self.padded_dimension,
            squared_norm=self.squared_norm,
            local_sigma=self.local_sigma,
            contributors=tuple(sorted(max(0, count - corrupt) for count in each)[:times]),
            participations=times,
            draws=self.padded_dimension * times * max(each, default=0),
            distance_log2=DISTANCE_LOG2,
        )

    def to_json(self) -> dict[str, Json]:
        """What a device is told, canonical-ready."""
        return {"kind": "distributed", **cast(dict[str, Json], plain(self))}

    @classmethod
    def from_json(cls, mapping: Mapping[str, Any]) -> "DistributedPlan":
        """The plan that `to_json` wrote.

        Raises:
          ValueError: for anything that describes none, whatever it is: a server wrote it.
        """
        names = set(cls.__dataclass_fields__)
        if not isinstance(mapping, dict) or mapping.get("kind") != "distributed" or set(mapping) != names | {"kind"}:
            raise ValueError("no distributed plan: its fields are others")
        values: dict[str, Any] = {name: _typed(name, mapping[name]) for name in names}
        return cls(**values)

    def _sampler(self) -> Sampler:
        return discrete_gaussian(self.local_sigma) if self.mechanism == "ddg" else skellam(self.local_sigma)


def _typed(name: str, value: object) -> object:
    """`value` as the field `name` holds it: decimal strings for numbers that are no integers, and integers as they are."""
    if name == "rotation":
        return Rotation.from_json(value)
    if name in _DECIMALS and isinstance(value, str):
        return float(value)
    if (name in _COUNTS and type(value) is int) or (name == "max_participations" and value is None):
        return value
    if name == "mechanism" and isinstance(value, str):
        return value
    raise ValueError(f"{name} cannot be {value!r:.80}")


def _check_ranges(plan: "DistributedPlan") -> None:
    """Raises ValueError, naming the field, for numbers that no mechanism has."""
    if plan.mechanism not in MECHANISMS:
        raise ValueError(f"mechanism must be one of {MECHANISMS}, not {plan.mechanism!r:.80}")
    for name in ("clip_norm", "scale"):
        if not 0 < getattr(plan, name) < math.inf:
            raise ValueError(f"{name} must be positive and finite, not {getattr(plan, name)}")
    for name in ("noise_multiplier", "local_sigma", "sum_norm"):
        if not 0 <= getattr(plan, name) < math.inf:
            raise ValueError(f"{name} must be finite and not negative, not {getattr(plan, name)}")
    if plan.mechanism == "skellam" and plan.local_sigma > SKELLAM_LARGEST:
        raise ValueError(f"local_sigma must be at most {SKELLAM_LARGEST:g} for Skellam noise, not {plan.local_sigma}")
    whole = {
        "bits": (FEWEST_BITS, MOST_BITS),
        "devices": (1, LARGEST_VALUE),
        "minimum_survivors": (1, plan.devices),
        "corrupt": (0, plan.devices),
        "minimum_separation": (0, _LARGEST_COUNT),
        "max_participations": (1, _LARGEST_COUNT),
    }
    for name, (least, most) in whole.items():
        value = getattr(plan, name)
        if value is not None and not least <= value <= most:
            raise ValueError(f"{name} must lie in [{least}, {most}], not {value}")
