"""Noise on the devices, secure sums: what the orchestrator asks of a task under SecAgg.

One round sums one vector of integers that is cut into named vectors: `delta`, and `metrics` where the task asks for federated
metrics. Each has an encoder, a clip norm, noise and a claim of its own; what a round costs is their composition.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from contract import plan as plans
from contract.canonical import Json
from contract.task import TaskSpec
from privacy import distributed_plans, events, scale_tuning
from privacy.distributed import METRICS_NOISE, DistributedPlan
from privacy.events import DistributedEvent, UnboundedEvent
from privacy.norm_tracking import NormTracking
from secagg import Parameters, Vector, VectorKind, choose, parameter_json
from server.leaf_noise import LeafNoise
from server.mechanisms import task_facts
from server.secure_split import fewest_in_a_group
from server.tuned_parameters import Tuned, norm_tracking, tracked

DELTA, METRICS = "delta", "metrics"
SCALE = "scale"
"""What the record calls the update's scale, where it follows released sums."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DistributedMechanism:
    """`metrics` is None where no metrics leave the devices; `metric_names` are its coordinates.

    Args:
      tracking: norms that follow quantiles; `bits` are the plans of their sums of bits, each a vector of length 1.
      base: where the update's scale follows released sums, the plan that is charged; `update` is the present one.
    """

    update: DistributedPlan
    metrics: DistributedPlan | None = None
    metric_names: tuple[str, ...] = ()
    secagg: Parameters | None = None
    """None where the sum is ideal."""
    groups: int = 1
    """Of a cohort, each with a sum of its own (`server.secure_split`); the plans are those of one group."""
    tracking: NormTracking | None = None
    bits: tuple[tuple[str, DistributedPlan], ...] = ()
    base: DistributedPlan | None = None

    @property
    def private(self) -> bool:
        """Whether anything is promised."""
        return self.update.local_sigma > 0

    @property
    def sum_length(self) -> int:
        """Coordinates of all vectors, padding included."""
        return sum(chosen.padded_dimension for _, chosen in self.vectors)

    @property
    def redrawable(self) -> bool:
        """No: the devices' noise is fresh, and a sum cannot be asked for twice."""
        return False

    @property
    def vectors(self) -> tuple[tuple[str, DistributedPlan], ...]:
        """Names and plans, in the order in which they stand in the sum."""
        counts = () if self.metrics is None else ((METRICS, self.metrics),)
        return ((DELTA, self.update), *counts, *self.bits)

    @property
    def sampling_rate(self) -> float | None:
        """None: nothing is amplified against a server that sees who comes."""
        return None

    @property
    def tuned(self) -> Mapping[str, Tuned]:
        """The norms that follow quantiles, and the scale."""
        scale = {} if self.base is None else {SCALE: Tuned(self.update.scale, "the length of the last noised sum")}
        return tracked(self.tracking) | scale

    def after(self, noised: NDArray[np.int64], *, count: int, seed: bytes, leaf: int) -> "DistributedMechanism":
        """With norms and scale of the next round."""
        del leaf
        if self.tracking is None and self.base is None:
            return self
        tracking, stretch = self.tracking, 1.0
        parts = self._split(noised)
        if tracking is not None:
            halves = {name: float(self._decoded(chosen, parts[name], count, seed)[0]) for name, chosen in self.bits}
            tracking = tracking.after(halves, devices=count)
            stretch = self.tracking.clip_norm / tracking.clip_norm if self.tracking is not None else 1.0
        update = self.update
        if self.base is not None:
            released = parts[DELTA].astype(np.float64) / update.scale
            update = scale_tuning.retuned(self.base, update, released, survivors=count, stretch=stretch)
        return self._with(tracking, update)

    def restored(self, values: Mapping[str, float]) -> "DistributedMechanism":
        """With the norms and the scale that the record holds."""
        tracking = None if self.tracking is None else self.tracking.restored(values)
        update = self.update
        if self.base is not None and SCALE in values:
            update = scale_tuning.at_scale(self.base, values[SCALE])
        return self._with(tracking, update)

    def _with(self, tracking: NormTracking | None, update: DistributedPlan) -> "DistributedMechanism":
        changed = replace(self, tracking=tracking, update=update)
        secagg = None if self.secagg is None else replace(self.secagg, vectors=lanes(changed.vectors))
        return replace(changed, secagg=secagg)

    def event(self, leaves: int) -> dict[str, Json]:
        """What `leaves` rounds cost at the fewest survivors."""
        return self.events([self.update.minimum_survivors] * leaves)["event"]

    def events(self, history: Sequence[int]) -> dict[str, dict[str, Json]]:
        """Two claims: against a curious server, and against one to which the corrupt devices give their noise."""
        corrupt = self.update.corrupt
        return {"event": self._composed(history, 0)} | ({"colluding": self._composed(history, corrupt)} if corrupt else {})

    def noise(self, secret: bytes, *, released: int) -> LeafNoise:
        """None is added by the server."""
        del secret
        return LeafNoise(lambda: np.zeros(self.sum_length, dtype=np.int64), next_leaf=released)

    def decode(self, total: NDArray[np.int64], *, count: int, seed: bytes) -> tuple[NDArray[np.float64], dict[str, float]]:
        """The noised sum of updates and the federated metrics: counts over all survivors, never below 0."""
        parts = self._split(total)
        summed = self._decoded(self.update, parts[DELTA], count, seed)
        if self.tracking is not None:
            summed = summed * (self.tracking.clip_norm / self.tracking.fixed_norm)
        if self.metrics is None:
            return summed, {}
        counts = self._decoded(self.metrics, parts[METRICS], count, seed)
        return summed, federated(dict(zip(self.metric_names, counts.tolist(), strict=True)))

    def _split(self, total: NDArray[np.int64]) -> dict[str, NDArray[np.int64]]:
        ends = np.cumsum([chosen.padded_dimension for _, chosen in self.vectors])
        parts = np.split(total, ends[:-1])
        return {name: part for (name, _), part in zip(self.vectors, parts, strict=True)}

    def _decoded(self, chosen: DistributedPlan, part: NDArray[np.int64], count: int, seed: bytes) -> NDArray[np.float64]:
        # Decoding is linear: several groups' sums are decoded at once, though each group has at most `devices` of the devices.
        return chosen.decode(part, min(count, chosen.devices), seed)

    def denominator(self, count: int) -> float:
        """The survivors: under zero-out adjacency a neighbour takes part too, so their number is public."""
        return float(count)

    def plan_bytes(
        self, *, spec: TaskSpec, run: str, round_index: int, leaf: int, model_digest: str, ledger_checkpoint: str
    ) -> bytes:
        """What every device of a round is told; under SecAgg it signs the digest of all of it."""
        secure: dict[str, Json] = {}
        if self.secagg is not None:
            facts: dict[str, Json] = {"parameters": parameter_json.to_json(self.secagg), "epoch": EPOCH}
            split: dict[str, Json] = {"groups": self.groups} if self.groups > 1 else {}
            secure = {"secagg": {**facts, **split, "ledger_checkpoint": ledger_checkpoint}}
        vectors: list[Json] = [{"name": name, "plan": chosen.to_json()} for name, chosen in self.vectors]
        norms: dict[str, Json] = {} if self.tracking is None else {"norms": self.tracking.round_norms().to_json()}
        return plans.encode(
            plans.Plan(
                task=task_facts(spec),
                run=run,
                round_index=round_index,
                leaf=leaf,
                model_digest=model_digest,
                encoding={
                    "kind": "distributed-vectors",
                    "vectors": vectors,
                    "metric_names": list(self.metric_names),
                    **norms,
                    **secure,
                },
                outputs=tuple(
                    plans.Output(name=name, length=chosen.padded_dimension, aggregated=True) for name, chosen in self.vectors
                ),
            )
        )

    def _composed(self, history: Sequence[int], corrupt: int) -> dict[str, Json]:
        charged = [self.base or self.update, *(chosen for _, chosen in self.vectors[1:])]
        parts = [self._event(chosen, history, corrupt) for chosen in charged]
        return events.to_json(parts[0] if len(parts) == 1 else events.ComposedEvent(parts=tuple(parts)))

    def _event(self, chosen: DistributedPlan, history: Sequence[int], corrupt: int) -> DistributedEvent | UnboundedEvent:
        """One vector's price: that of the group with the fewest survivors; `history` counts all groups' survivors."""
        floor, size = chosen.minimum_survivors, chosen.devices
        fewest = [fewest_in_a_group(one, groups=self.groups, roster_size=size, floor=floor) for one in history]
        event = chosen.event(tuple(fewest), corrupt)
        if self.groups == 1 or not isinstance(event, DistributedEvent):
            return event
        return replace(event, draws=chosen.padded_dimension * event.participations * size)  # of a full group, whoever survived


def federated(counts: Mapping[str, float]) -> dict[str, float]:
    """Noised counts as metrics: each count, and each ratio that its name asks for.

    A count `x/y` is the part of count `y` for which x holds; the metric is their ratio, cut to [0, 1].

    >>> federated({"targets": 10.0, "top1/targets": 4.0})
    {'federated_targets': 10.0, 'federated_top1': 0.4}
    """
    found: dict[str, float] = {}
    for name, value in counts.items():
        part, _, whole = name.partition("/")
        total = counts.get(whole, 0.0)
        if not whole:
            found[f"federated_{name}"] = max(0.0, value)
        elif total > 0:
            found[f"federated_{part}"] = min(1.0, max(0.0, value / total))
    return found


def distributed_mechanism(spec: TaskSpec, *, dimension: int, metric_names: Sequence[str]) -> DistributedMechanism:
    """The mechanism of a secure task; without noise for `none`.

    Raises:
      ValueError: for numbers that no plan can meet; the message names them.
    """
    privacy = spec.privacy
    kind = "ddg" if privacy.mechanism == "none" else privacy.mechanism
    multiplier = 0.0 if privacy.mechanism == "none" else (privacy.noise_multiplier or 0.0)
    tracking = norm_tracking(spec)
    vector_multiplier = multiplier if tracking is None else tracking.vector_noise_multiplier(multiplier)
    update = _plan(spec, kind, dimension, privacy.clip_norm or UNCLIPPED_NORM, vector_multiplier, spec.aggregation.bits)
    automatic = spec.aggregation.scale == "auto"
    if automatic:
        scale_tuning.check_base(update)
    metrics = None
    if privacy.metrics is not None and metric_names:
        asked = privacy.metrics.noise_multiplier
        noise = 0.0 if multiplier == 0 else (METRICS_NOISE * multiplier if asked is None else asked)
        metrics = _plan(spec, kind, len(metric_names), privacy.metrics.clip_norm, noise, None)
    chosen = DistributedMechanism(
        update=update,
        metrics=metrics,
        metric_names=() if metrics is None else tuple(metric_names),
        groups=spec.groups,
        tracking=tracking,
        bits=() if tracking is None else _bits(spec, kind, tracking),
        base=update if automatic else None,
    )
    return replace(chosen, secagg=_secagg(spec, chosen.vectors))


def _bits(spec: TaskSpec, kind: str, tracking: NormTracking) -> tuple[tuple[str, DistributedPlan], ...]:
    """A vector of length 1 for each sum of bits: in halves one device moves it by 1, and sigma_b of a whole bit is 2 sigma_b."""
    noises = zip(tracking.names, tracking.bit_noises, strict=True)
    return tuple((name, _plan(spec, kind, 1, 1.0, 2 * noise, None)) for name, noise in noises)


UNCLIPPED_NORM = 64.0
"""Without a clip norm integers still need a bound."""


EPOCH = 1
"""Of the devices' one-time certificates, in a simulation."""


def _secagg(spec: TaskSpec, vectors: Sequence[tuple[str, DistributedPlan]]) -> Parameters | None:
    if spec.aggregation.ideal:
        return None
    return choose(
        roster_size=spec.group_roster,
        minimum_roster=spec.group_minimum_roster,
        minimum_survivors=spec.minimum_survivors,
        corrupt_fraction=spec.aggregation.corrupt_fraction,
        drop_fraction=spec.aggregation.drop_fraction,
        vectors=lanes(vectors),
    )


def lanes(vectors: Iterable[tuple[str, DistributedPlan]]) -> tuple[Vector, ...]:
    """The named vectors as secure aggregation packs them: *exact* where the sum fits its lane for certain, else *modular*."""
    return tuple(
        Vector(
            name=name,
            length=chosen.padded_dimension,
            lane_bits=chosen.bits,
            kind=VectorKind.EXACT if chosen.exact else VectorKind.MODULAR,
            largest=chosen.largest_value,
        )
        for name, chosen in vectors
    )


def _plan(
    spec: TaskSpec, kind: str, dimension: int, clip_norm: float, noise_multiplier: float, bits: int | None
) -> DistributedPlan:
    aggregation = spec.aggregation
    return distributed_plans.plan(
        mechanism=kind,
        dimension=dimension,
        clip_norm=clip_norm,
        noise_multiplier=noise_multiplier,
        devices=spec.group_roster,
        minimum_survivors=spec.minimum_survivors,
        corrupt_fraction=aggregation.corrupt_fraction,
        bits=bits,
        beta=math.exp(-0.5) if spec.privacy.beta is None else spec.privacy.beta,
        minimum_separation=spec.cohort.minimum_separation,
        max_participations=spec.cohort.max_participations,
    )
