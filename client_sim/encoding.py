"""From a plan to the function that turns an update into the integers that may leave the device."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Protocol, cast

import numpy as np
import numpy.typing as npt

from contract.entropy import Entropy
from contract.plan import Plan, rotation_seed
from privacy.distributed import DistributedPlan
from privacy.grid import Grid
from privacy.grid_rounding import Cut
from privacy.keystream import KEY_BYTES, Keystream
from privacy.norm_tracking import RoundNorms, bits_are_sound

_NO_METRICS: Mapping[str, float] = MappingProxyType({})


class Encoder(Protocol):
    """Clips and rounds, and adds the device's share of noise where the mechanism asks for one."""

    @property
    def dimension(self) -> int:
        """Length d of an update."""
        ...

    @property
    def encoded_dimension(self) -> int:
        """Length of what is encoded, at least d."""
        ...

    def encode(
        self, delta: npt.NDArray[np.float32], entropy: Entropy, metrics: Mapping[str, float] = _NO_METRICS
    ) -> npt.NDArray[np.int32]:
        """Integers, int32 of shape (encoded_dimension,), from an update, float32 of shape (d,), and the device's counts."""
        ...

    @property
    def outputs(self) -> Mapping[str, int]:
        """Names and lengths of what leaves the device, in their order."""
        ...

    @property
    def norms(self) -> RoundNorms | None:
        """The round's norms where they follow quantiles: what an update is scaled by before it is encoded, and the bits beside it."""
        ...

    def may_be_summed(self, vector: npt.NDArray[np.int32], norm_squared: int) -> bool:
        """Whether the accounting, or the sum's lanes, are made for `vector`, whose squared norm is `norm_squared`."""
        ...


@dataclass(frozen=True, slots=True)
class GridEncoder:
    """Central differential privacy: the public integer grid, and behind the update one coordinate for each bit about its norm.

    Guarantee: what `may_be_summed` lets through has the norm to which the mechanism is calibrated, and bits of at most 1.
    """

    grid: Grid
    norms: RoundNorms | None = None

    @property
    def dimension(self) -> int:
        return self.grid.dimension

    @property
    def encoded_dimension(self) -> int:
        return sum(self.outputs.values())

    @property
    def outputs(self) -> Mapping[str, int]:
        return {"delta": self.dimension} | ({} if self.norms is None else dict.fromkeys(self.norms.names, 1))

    def encode(
        self, delta: npt.NDArray[np.float32], entropy: Entropy, metrics: Mapping[str, float] = _NO_METRICS
    ) -> npt.NDArray[np.int32]:
        del metrics  # under central privacy nothing but the update leaves the device
        return self.rounded(delta, Keystream(entropy(KEY_BYTES), "stochastic rounding", 0))[0]

    def rounded(
        self, delta: npt.NDArray[np.float32], coins: Keystream, *, length: float | None = None, cut: Cut | None = None
    ) -> tuple[npt.NDArray[np.int32], int]:
        """`encode` with the coins that come next in a stream, and the exact squared norm; `length` and `cut` as in `Grid.rounded`."""
        if self.norms is None:
            return self.grid.rounded(delta, coins, length=length, cut=cut)
        prepared, said = self.norms.prepared(delta)
        vector, norm_squared = self.grid.rounded(prepared, coins, cut=cut)
        bits = np.array(list(said.values()), np.int32)
        return np.concatenate([vector, bits]), norm_squared + int(np.abs(bits).sum())

    def may_be_summed(self, vector: npt.NDArray[np.int32], norm_squared: int) -> bool:
        if vector.shape != (self.encoded_dimension,):
            return False
        if self.norms is None:
            return norm_squared <= self.grid.norm_bound_squared
        bits = vector[self.dimension :]
        return bits_are_sound(bits) and norm_squared - int(np.abs(bits).sum()) <= self.grid.norm_bound_squared


@dataclass(frozen=True, slots=True)
class DistributedEncoder:
    """Distributed differential privacy: rotated, scaled, rounded, and noised on the device, for secure aggregation alone.

    The norm is bounded before the noise, by `privacy.distributed`; afterwards only the range of a value can be checked.

    Args:
      plan: of the update.
      metrics: of the vector of counts that goes with it, None if there is none.
      metric_names: its coordinates; `x/y` is the part of count y for which x holds.
      norms: as in `Encoder`; `bits` are the plans of its bits, each a vector of length 1.
    """

    plan: DistributedPlan
    seed: bytes
    metrics: DistributedPlan | None = None
    metric_names: tuple[str, ...] = ()
    norms: RoundNorms | None = None
    bits: tuple[tuple[str, DistributedPlan], ...] = ()

    @property
    def dimension(self) -> int:
        return self.plan.dimension

    @property
    def encoded_dimension(self) -> int:
        return sum(chosen.padded_dimension for _, chosen in self.vectors)

    @property
    def vectors(self) -> tuple[tuple[str, DistributedPlan], ...]:
        """Names and plans of what is summed, in their order."""
        counts = () if self.metrics is None else (("metrics", self.metrics),)
        return (("delta", self.plan), *counts, *self.bits)

    @property
    def outputs(self) -> Mapping[str, int]:
        return {name: chosen.padded_dimension for name, chosen in self.vectors}

    def encode(
        self, delta: npt.NDArray[np.float32], entropy: Entropy, metrics: Mapping[str, float] = _NO_METRICS
    ) -> npt.NDArray[np.int32]:
        bits: Mapping[str, int] = {}
        if self.norms is not None:
            delta, bits = self.norms.prepared(delta)
        encoded = [self.plan.encode(delta, entropy, self.seed)]
        if self.metrics is not None:
            counts = np.asarray([count_of(name, metrics) for name in self.metric_names], np.float32)
            encoded.append(self.metrics.encode(counts, entropy, self.seed))
        encoded += [chosen.encode(np.array([bits[name]], np.float32), entropy, self.seed) for name, chosen in self.bits]
        return np.concatenate(encoded) if len(encoded) > 1 else encoded[0]

    def may_be_summed(self, vector: npt.NDArray[np.int32], norm_squared: int) -> bool:
        largest = sum(chosen.padded_dimension * chosen.largest_value**2 for _, chosen in self.vectors)
        return vector.shape == (self.encoded_dimension,) and norm_squared <= largest


def count_of(name: str, metrics: Mapping[str, float]) -> float:
    """A device's count under its name, 0 where it did not measure it; `x/y` is the mean x times the count y.

    >>> count_of("top1/targets", {"top1": 0.25, "targets": 8.0})
    2.0
    """
    part, _, whole = name.partition("/")
    count = metrics.get(part, 0.0) * (metrics.get(whole, 0.0) if whole else 1.0)
    return count if math.isfinite(count) else 0.0


def encoder_of(plan: Plan) -> Encoder:
    """The encoder that a plan asks for.

    Raises:
      ValueError: for an encoding that this device does not know, or that is malformed.

    >>> grid = {"kind": "grid", "dimension": 3, "clip_norm": "1", "step": "0.0009765625", "beta": "0.5"}
    >>> encoder_of(Plan(task={}, run="r", round_index=0, leaf=0, model_digest="", encoding=grid, outputs=())).dimension
    3
    """
    kind = plan.encoding.get("kind")
    try:
        if kind == "grid":
            return GridEncoder(Grid.from_json(plan.encoding))
        if kind == "tracked-grid":
            return _tracked_grid(cast(dict[str, Any], plan.encoding))
        if kind == "distributed":
            return DistributedEncoder(DistributedPlan.from_json(plan.encoding), rotation_seed(plan))
        if kind == "distributed-vectors":
            return _vectors(plan)
    except (TypeError, KeyError, AttributeError, OverflowError) as error:
        raise ValueError(f"malformed encoding of kind {kind!r}: {error}") from None
    raise ValueError(f"this device knows no encoding of kind {kind!r}, only grid and distributed")


def _vectors(plan: Plan) -> DistributedEncoder:
    encoding = cast(dict[str, Any], plan.encoding)
    vectors = {_text(vector["name"]): DistributedPlan.from_json(vector["plan"]) for vector in encoding["vectors"]}
    names = tuple(_text(name) for name in encoding["metric_names"])
    metrics, norms = vectors.get("metrics"), None
    if "norms" in encoding:
        norms = RoundNorms.from_json(encoding["norms"])
        _check_norms(norms, vectors["delta"].clip_norm)
    bits = () if norms is None else norms.names
    named = ["delta", *(["metrics"] if metrics else []), *bits]
    lengths = (metrics.dimension if metrics else 0, *(vectors[name].dimension for name in bits if name in vectors))
    if list(vectors) != named or lengths != (len(names), *(1 for _ in bits)) or len(encoding["vectors"]) != len(vectors):
        raise ValueError(
            "a secure round sums `delta`, and perhaps behind it `metrics`, with a name for each of its coordinates, and a vector of "
            "length 1 for each bit about the norm"
        )
    return DistributedEncoder(
        vectors["delta"], rotation_seed(plan), metrics, names, norms, tuple((name, vectors[name]) for name in bits)
    )


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError(f"a name is expected, not {value!r:.80}")
    return value


def _tracked_grid(encoding: Mapping[str, Any]) -> GridEncoder:
    if set(encoding) != {"kind", "grid", "norms"}:
        raise ValueError(f"no tracked grid: {sorted(encoding)}")
    encoder = GridEncoder(Grid.from_json(encoding["grid"]), RoundNorms.from_json(encoding["norms"]))
    _check_norms(encoder.norms, encoder.grid.clip_norm)
    return encoder


def _check_norms(norms: RoundNorms | None, clip_norm: float) -> None:
    if norms is None or not norms.names or norms.fixed_norm != clip_norm:
        raise ValueError(f"norms that follow quantiles start at the encoder's clip norm {clip_norm} and have bits")
