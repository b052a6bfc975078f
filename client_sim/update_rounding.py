"""From a trained update to the integers that may be summed, one device at a time or several that were trained side by side."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from client_sim.compiled_rounding import compiled_cut, compiled_rows
from client_sim.encoding import Encoder, GridEncoder
from client_sim.exact_sums import ExactSum
from contract.entropy import Entropy, system_entropy
from privacy import grid_rounding
from privacy.keystream import KEY_BYTES, Keystream
from privacy.rounding import squared_norm


@dataclass(frozen=True, slots=True, eq=False)
class EncodedUpdate:
    """One device's contribution: int32, shape (d,); `diverged` if its training did not end in numbers, and it is therefore 0."""

    device: int
    vector: npt.NDArray[np.int32] = field(repr=False)
    norm_squared: int
    metrics: dict[str, float] = field(repr=False)
    diverged: bool


def device_entropy(noise_seed: bytes | None, round_index: int, device: int) -> Entropy:
    """The operating system's entropy, or with a seed a stream of its own for each (round, device)."""
    if noise_seed is None:
        return system_entropy
    return Keystream(noise_seed, f"device {device}", round_index).read


class UpdateRounding:
    """Turns the updates of a job's devices into what may be summed.

    Args:
      noise_seed: None takes coins from the operating system: a key for all devices of the job, whose stream none reads twice.
      lanes: how many devices are trained side by side.
    """

    def __init__(self, encoder: Encoder, noise_seed: bytes | None, round_index: int, *, lanes: int = 1) -> None:
        self._encoder, self._noise_seed, self._round_index = encoder, noise_seed, round_index
        self._coins = Keystream(system_entropy(KEY_BYTES), "coins of devices", 0)
        self._cut = compiled_cut(encoder.dimension)
        plain = isinstance(encoder, GridEncoder) and encoder.norms is None and encoder.grid.is_moderate
        self._rows = compiled_rows(lanes, encoder.dimension) if plain else None

    @property
    def side_by_side(self) -> bool:
        """Whether `add_rows` rounds several updates at once."""
        return self._rows is not None

    def add_rows(
        self, summing: ExactSum, devices: Sequence[int], updates: npt.NDArray[np.float32], metrics: Sequence[dict[str, float]]
    ) -> list[tuple[int, dict[str, float]]]:
        """Adds `encoded` of each device to `summing`; the exact squared norms, and what was measured with `diverged`.

        Args:
          updates: shape (lanes, d), the devices' in the first rows.

        Guarantee: what is added is what `encoded` gives: with a seed to the bit, without by the same law, every device with coins of its
          own. One attempt at rounding is made for all; whose norm exceeds the bound is drawn again alone, until it does not.

        Raises:
          ValueError: as `encoded`.
        """
        whole, norms = self._attempted(devices, updates)
        kept = [norm is not None for norm in norms]
        summing.add_rows(whole if all(kept) else whole[kept], [norm for norm in norms if norm is not None])
        found: list[tuple[int, dict[str, float]]] = []
        for row, (device, norm, measured) in enumerate(zip(devices, norms, metrics, strict=True)):
            if norm is None:
                update = self.encoded(device, updates[row], measured)
                summing.add(update.vector, update.norm_squared)
                found.append((update.norm_squared, update.metrics | {"diverged": float(update.diverged)}))
            else:
                found.append((norm, _clean(measured) | {"diverged": 0.0}))
        return found

    def _attempted(
        self, devices: Sequence[int], updates: npt.NDArray[np.float32]
    ) -> tuple[npt.NDArray[np.float32], list[int | None]]:
        """An attempt for each device; None for what may not be summed, and for all if one of them diverged."""
        lengths = grid_rounding.lengths(updates[: len(devices)])
        if self._rows is None or not isinstance(self._encoder, GridEncoder) or not all(map(math.isfinite, lengths)):
            return np.empty((len(devices), len(updates[0])), np.float32), [None] * len(devices)
        grid = self._encoder.grid
        coins = self._coins if self._noise_seed is None else [self._coins_of(device) for device in devices]
        whole, norms = grid.attempted(updates, coins, lengths=lengths, cut=self._rows)
        return whole, [norm if norm <= grid.norm_bound_squared else None for norm in norms]

    def encoded(self, device: int, delta: npt.NDArray[np.float32], metrics: dict[str, float]) -> EncodedUpdate:
        length = grid_rounding.length(delta)
        diverged = not math.isfinite(length)
        if diverged:
            # A device whose training ran away contributes nothing, as if its update had been clipped to 0; the sum stays defined.
            delta, length = np.zeros_like(delta), 0.0
        if isinstance(self._encoder, GridEncoder):
            vector, norm_squared = self._encoder.rounded(delta, self._coins_of(device), length=length, cut=self._cut)
        else:
            vector = self._encoder.encode(delta, device_entropy(self._noise_seed, self._round_index, device), metrics)
            norm_squared = squared_norm(vector)
        if not self._encoder.may_be_summed(vector, norm_squared):
            raise ValueError(f"the update of device {device} left its bounds: a fault of the encoder")
        return EncodedUpdate(device, vector, norm_squared, _clean(metrics), diverged)

    def _coins_of(self, device: int) -> Keystream:
        if self._noise_seed is None:
            return self._coins
        return Keystream(self._noise_seed, f"coins of device {device}", self._round_index)


def _clean(metrics: dict[str, float]) -> dict[str, float]:
    """With 0 for what is no number."""
    if all(map(math.isfinite, metrics.values())):
        return metrics
    return {name: value if math.isfinite(value) else 0.0 for name, value in metrics.items()}
