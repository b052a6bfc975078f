"""Norms that follow quantiles from round to round without a change of what is added up: the clip, and where an update counts as zero.

The encoder of a run clips to one fixed norm C0 from the first round to the last. A round's public clip c_t enters before it: a device
multiplies its update by C0 / c_t, and the server multiplies the decoded sum by c_t / C0, which is post-processing. Clipping to C0 after
the first factor is clipping to c_t before it, so that the grid, the sensitivity and the noise in integers never change with c_t, and
neither does the price. With the update travel one or two bits, +1 if its norm is at most an estimate of the quantile and else -1, in
halves, with noise and a price of their own (`privacy.adaptive_clip`). The next estimates are functions of the noised bits alone.

Noise that is correlated over rounds cancels only between sums of one scale. Under a tree the bits are therefore collected, in a tree of the
same pattern, and the norms move where a new tree begins; banded and BLT noise, which never begins anew, does not go with norms that move.
"""

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from contract.canonical import Json, plain
from privacy import adaptive_clip
from privacy.adaptive_clip import QuantileState
from privacy.events import AdaptiveClipEvent, GaussianEvent, TreeEvent

CLIP, ZEROING = "clip_bits", "zeroing_bits"
"""Names of the sums of bits."""
_DEVICES = "bit_devices"
"""What the record calls `pending_devices`."""
_LARGEST_CHANGE = 2.0**30
"""An estimate stays within this factor of where it started: noise alone must not drive it to 0 or beyond all numbers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundNorms:
    """What a device is told of one round's norms.

    Args:
      fixed_norm: C0, the clip norm of the encoder.
      clip_norm: c_t; `fixed_norm` where the clip does not move.
      clip_bits: whether a bit says if the norm is at most c_t.
      quantile: the estimate that the second bit is about; None where nothing is zeroed.
      zero_beyond: norm beyond which the update counts as zero; None with `quantile`.

    Raises:
      ValueError: for a norm that is not positive and finite, or numbers that do not belong together.

    >>> norms = RoundNorms(fixed_norm=1.0, clip_norm=0.5, clip_bits=True)
    >>> norms.prepared(np.array([3.0, 4.0], np.float32))[0].round(3), norms.bits(5.0)
    (array([0.6, 0.8], dtype=float32), {'clip_bits': -1})
    """

    fixed_norm: float
    clip_norm: float
    clip_bits: bool
    quantile: float | None = None
    zero_beyond: float | None = None

    def __post_init__(self) -> None:
        for name in ("fixed_norm", "clip_norm", "quantile", "zero_beyond"):
            value = getattr(self, name)
            if value is not None and not (value > 0 and math.isfinite(value)):
                raise ValueError(f"{name} must be positive and finite, not {value}")
        if not math.isfinite(self.fixed_norm / self.clip_norm):
            raise ValueError(f"clip_norm {self.clip_norm} is too small beside {self.fixed_norm}")
        if (self.quantile is None) != (self.zero_beyond is None):
            raise ValueError("quantile and zero_beyond go together")
        if not self.clip_bits and self.clip_norm != self.fixed_norm:
            raise ValueError(f"a clip that does not move is {self.fixed_norm}, not {self.clip_norm}")

    @property
    def names(self) -> tuple[str, ...]:
        """The sums of bits that go with the update, in their order."""
        return ((CLIP,) if self.clip_bits else ()) + ((ZEROING,) if self.quantile is not None else ())

    def bits(self, norm: float) -> dict[str, int]:
        """+1 or -1 for each of `names`, for an update of this norm."""
        limits = {CLIP: self.clip_norm, ZEROING: self.quantile or 0.0}
        return {name: 1 if norm <= limits[name] else -1 for name in self.names}

    def prepared(self, delta: NDArray[np.float32]) -> tuple[NDArray[np.float32], dict[str, int]]:
        """What the fixed encoder is given, float32 of shape (d,), and the bits.

        A norm beyond `zero_beyond` gives a zero vector; its bits say what its norm was.

        Raises:
          ValueError: for a value that is not finite.
        """
        norm = math.sqrt(float(np.einsum("i,i->", delta, delta, dtype=np.float64)))
        if not math.isfinite(norm):
            raise ValueError("the update holds a value that is not finite")
        bits = self.bits(norm)
        if self.zero_beyond is not None and norm > self.zero_beyond:
            return np.zeros_like(delta), bits
        # Clipped before it is scaled: a long update times C0 / c_t might leave single precision.
        factor = self.fixed_norm / max(self.clip_norm, norm)
        return (delta if factor == 1.0 else (delta * np.float64(factor)).astype(np.float32)), bits

    def to_json(self) -> dict[str, Json]:
        """As a plan holds it, canonical-ready."""
        return cast(dict[str, Json], plain(self))

    @classmethod
    def from_json(cls, mapping: Mapping[str, Any]) -> "RoundNorms":
        """What `to_json` wrote.

        Raises:
          ValueError: for a mapping that holds anything else.
        """
        if set(mapping) != {field.name for field in dataclasses.fields(cls)} or not isinstance(mapping["clip_bits"], bool):
            raise ValueError(f"no norms of a round: {sorted(mapping)}")
        values = {name: None if value is None else float(value) for name, value in mapping.items() if name != "clip_bits"}
        return cls(clip_bits=mapping["clip_bits"], **cast(dict[str, Any], values))


def bits_are_sound(bits: NDArray[np.int32]) -> bool:
    """Whether bits are such as a device may send, each -1, 0 or +1: no device moves a sum of bits by more than the price says.

    >>> bits_are_sound(np.array([1, -1], np.int32)), bits_are_sound(np.array([2], np.int32))
    (True, False)
    """
    return bool((np.abs(bits.astype(np.int64)) <= 1).all())


@dataclass(frozen=True, slots=True, kw_only=True)
class NormTracking:
    """Where a run's norms stand, as the server knows them: a function of released sums.

    Args:
      fixed_norm: C0.
      clip: the clip's quantile; None where the clip does not move.
      zeroing: the quantile of zeroing; None where nothing is zeroed.
      factor: an update beyond `factor` times the estimate of `zeroing` counts as zero.
      bit_noises: sigma_b of each sum of bits, over one device's whole bit, in the order of `names`.
      starts: where the estimates began, in the same order.
      every: leaves of a tree, after which the norms move; 1 for independent noise.
      pending: noised sums of bits since they last moved, in the same order, of `pending_devices` devices.
    """

    fixed_norm: float
    clip: QuantileState | None = None
    zeroing: QuantileState | None = None
    factor: float = 2.0
    bit_noises: tuple[float, ...] = ()
    starts: tuple[float, ...] = ()
    every: int = 1
    pending: tuple[float, ...] = ()
    pending_devices: float = 0.0

    def __post_init__(self) -> None:
        if not len(self.names) == len(self.bit_noises) == len(self.starts) > 0:
            raise ValueError(f"norms of {self.names} need a noise and a start each, not {self.bit_noises} and {self.starts}")

    @property
    def names(self) -> tuple[str, ...]:
        """The sums of bits, in their order."""
        return tuple(name for name, state in ((CLIP, self.clip), (ZEROING, self.zeroing)) if state is not None)

    @property
    def clip_norm(self) -> float:
        """c_t."""
        return self.fixed_norm if self.clip is None else self.clip.estimate

    @property
    def values(self) -> dict[str, float]:
        """The estimates by the name that the record gives them."""
        found = {"clip_norm": self.clip, "zeroing_quantile": self.zeroing}
        estimates = {name: state.estimate for name, state in found.items() if state is not None}
        if self.every == 1:
            return estimates
        return estimates | dict(zip(self.names, self._pending, strict=True)) | {_DEVICES: self.pending_devices}

    @property
    def _pending(self) -> tuple[float, ...]:
        return self.pending or (0.0,) * len(self.names)

    def round_norms(self) -> RoundNorms:
        """What the devices of the next round are told."""
        quantile = None if self.zeroing is None else self.zeroing.estimate
        return RoundNorms(
            fixed_norm=self.fixed_norm,
            clip_norm=self.clip_norm,
            clip_bits=self.clip is not None,
            quantile=quantile,
            zero_beyond=None if quantile is None else self.factor * quantile,
        )

    def after(self, noised: Mapping[str, float], *, devices: float, leaf: int = 0) -> "NormTracking":
        """Where the norms stand after a release.

        Args:
          noised: by the name of each sum of bits, in halves and with its noise.
          devices: in the sums, or the fixed denominator where their number is no one's business.
          leaf: index of the release. A tree whose last leaf was used up without a release leaves the norms as they are for another one;
            the bits that were collected are about these norms still.

        Guarantee:
          Costs nothing: a function of the arguments, which were charged and noised.
        """
        total = {name: old + noised[name] for name, old in zip(self.names, self._pending, strict=True)}
        counted = self.pending_devices + devices
        if (leaf + 1) % self.every:
            return dataclasses.replace(self, pending=tuple(total.values()), pending_devices=counted)
        return dataclasses.replace(self._moved(total, counted), pending=(), pending_devices=0.0)

    def _moved(self, noised: Mapping[str, float], devices: float) -> "NormTracking":
        states = {CLIP: self.clip, ZEROING: self.zeroing}
        moved: dict[str, QuantileState] = {}
        for name, start in zip(self.names, self.starts, strict=True):
            state = cast(QuantileState, states[name])
            estimate = adaptive_clip.update(state, noised_sum=noised[name], devices=devices).estimate
            bounded = min(max(estimate, start / _LARGEST_CHANGE), start * _LARGEST_CHANGE)
            moved[name] = dataclasses.replace(state, estimate=bounded)
        return dataclasses.replace(self, clip=moved.get(CLIP), zeroing=moved.get(ZEROING))

    def restored(self, values: Mapping[str, float]) -> "NormTracking":
        """The same with the estimates that the record holds, where it holds any."""
        clip, zeroing = self.clip, self.zeroing
        if clip is not None and "clip_norm" in values:
            clip = dataclasses.replace(clip, estimate=values["clip_norm"])
        if zeroing is not None and "zeroing_quantile" in values:
            zeroing = dataclasses.replace(zeroing, estimate=values["zeroing_quantile"])
        changed = dataclasses.replace(self, clip=clip, zeroing=zeroing)
        if not values.get(_DEVICES):
            return changed
        pending = tuple(values.get(name, 0.0) for name in self.names)
        return dataclasses.replace(changed, pending=pending, pending_devices=values[_DEVICES])

    def vector_noise_multiplier(self, noise_multiplier: float) -> float:
        """The update's share of a noise multiplier that update and bits have together.

        Raises:
          ValueError: if the bits alone would cost as much.
        """
        return adaptive_clip.vector_noise_multiplier(noise_multiplier, self.bit_noises)

    def event(self, release: GaussianEvent | TreeEvent, *, dimension: int) -> AdaptiveClipEvent:
        """Update and bits together, for an update of length `dimension` released as `release` says; the bits' draws are counted too."""
        drawn = release.draws // dimension * (dimension + len(self.names))
        return adaptive_clip.combined(
            dataclasses.replace(release, draws=drawn),
            vector_multiplier=release.noise_multiplier,
            bit_noises=self.bit_noises,
        )
