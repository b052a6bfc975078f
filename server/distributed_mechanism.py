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
from privacy import distributed_plans, events
from privacy.distributed import DistributedPlan
from privacy.events import DistributedEvent, UnboundedEvent
from secagg import Parameters, Vector, VectorKind, choose, parameter_json
from server.mechanisms import LeafNoise, task_facts
from server.secure_split import fewest_in_a_group

DELTA, METRICS = "delta", "metrics"
METRICS_NOISE = 4.0
"""Noise multiplier of the metrics over that of the update, unless the task says otherwise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DistributedMechanism:
    """`metrics` is None where no metrics leave the devices; `metric_names` are its coordinates."""

    update: DistributedPlan
    metrics: DistributedPlan | None = None
    metric_names: tuple[str, ...] = ()
    secagg: Parameters | None = None
    """None where the sum is ideal."""
    groups: int = 1
    """Of a cohort, each with a sum of its own (`server.secure_split`); the plans are those of one group."""

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
        return ((DELTA, self.update),) if self.metrics is None else ((DELTA, self.update), (METRICS, self.metrics))

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
        zero = np.zeros(self.sum_length, dtype=np.int64)
        return LeafNoise(lambda: zero, next_leaf=released)

    def decode(self, total: NDArray[np.int64], *, count: int, seed: bytes) -> tuple[NDArray[np.float64], dict[str, float]]:
        """The noised sum of updates and the federated metrics: counts over all survivors, never below 0."""
        found, start = dict[str, NDArray[np.float64]](), 0
        for name, chosen in self.vectors:
            stop = start + chosen.padded_dimension
            # Decoding is linear: several groups' sums are decoded at once, though each group has at most `devices` of the devices.
            found[name] = chosen.decode(total[start:stop], min(count, chosen.devices), seed)
            start = stop
        counts = found.get(METRICS, np.zeros(0))
        return found[DELTA], federated(dict(zip(self.metric_names, counts.tolist(), strict=True)))

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
                    **secure,
                },
                outputs=tuple(
                    plans.Output(name=name, length=chosen.padded_dimension, aggregated=True) for name, chosen in self.vectors
                ),
            )
        )

    def _composed(self, history: Sequence[int], corrupt: int) -> dict[str, Json]:
        parts = [self._event(chosen, history, corrupt) for _, chosen in self.vectors]
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
    update = _plan(spec, kind, dimension, privacy.clip_norm or UNCLIPPED_NORM, multiplier, spec.aggregation.bits)
    if privacy.metrics is None or not metric_names:
        return DistributedMechanism(update=update, secagg=_secagg(spec, [(DELTA, update)]), groups=spec.groups)
    asked = privacy.metrics.noise_multiplier
    noise = 0.0 if multiplier == 0 else (METRICS_NOISE * multiplier if asked is None else asked)
    metrics = _plan(spec, kind, len(metric_names), privacy.metrics.clip_norm, noise, None)
    secagg = _secagg(spec, [(DELTA, update), (METRICS, metrics)])
    return DistributedMechanism(
        update=update, metrics=metrics, metric_names=tuple(metric_names), secagg=secagg, groups=spec.groups
    )


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
