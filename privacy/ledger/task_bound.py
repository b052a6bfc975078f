"""Whether the event that a run was registered with is what its task asks for.

Exact where the task alone decides: noise multiplier, schedule, rounds, relation, sampling, restarts, bands. The noise of devices is held
to the multiplier from above, since rounding and caps only take from it; the strategy of a BLT to the optimum for its schedule
(`blt_bound`); the length of a model, and with it how much noise was drawn and a BLT's numerical error, where the caller knows it.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from contract.task import DISTRIBUTED_MECHANISMS, TaskSpec
from privacy import adaptive_clip, central, distributed, tree_sensitivity
from privacy.events import (
    AdaptiveClipEvent,
    Adjacency,
    BandedEvent,
    BltEvent,
    DistributedEvent,
    Event,
    GaussianEvent,
    Law,
    TreeEvent,
    UnboundedEvent,
    Unit,
    simple,
)
from privacy.ledger import blt_bound
from privacy.ledger.noised_sums import NoisedSums

_KINDS: Mapping[str, type] = {"tree": TreeEvent, "gaussian": GaussianEvent, "banded": BandedEvent, "blt": BltEvent}
_LEEWAY = 1 + 1e-9


def faults(
    spec: TaskSpec, registered: Mapping[str, Any], planned: Event, colluding: Event | None, *, length: int | None = None
) -> Iterator[str]:
    """What of a registration its task does not ask for, in words.

    Args:
      registered: the `run-registered` entry.
      planned: its event.
      colluding: its claim against a colluding server, where it makes one.
      length: parameters of the task's model, where the caller knows it.
    """
    facts = registered["facts"]
    relation = Adjacency.ADD_OR_REMOVE if spec.privacy.sampling == "poisson" else Adjacency.ZERO_OUT
    yield from _differ("population", registered["population"], spec.population)
    for name, said, meant in (("unit", planned.unit, Unit.DEVICE), ("adjacency", planned.adjacency, relation)):
        yield from _differ(name, said.value, meant.value)
        yield from _differ(f"{name} of the facts", facts.get(name), meant.value)
    if isinstance(planned, UnboundedEvent):
        return  # nothing is promised
    multiplier = spec.privacy.noise_multiplier
    if spec.privacy.mechanism == "none" or not multiplier:
        yield f"the task {'names no noise multiplier' if multiplier is None else 'adds no noise'}, and the event is a promise"
        return
    foreign = facts.get("engine") is not None
    try:
        noises = _bit_noises(spec)
        vector = adaptive_clip.vector_noise_multiplier(multiplier, noises) if noises else multiplier
    except ValueError as error:
        yield f"the task's bits leave no noise for the update: {error}"
        return
    if spec.privacy.mechanism in DISTRIBUTED_MECHANISMS:
        corrupt = NoisedSums.of(registered["task"]).corrupt
        for claim, hidden in ((planned, 0), (colluding, corrupt)):
            if claim is not None:
                parts = simple([claim])
                yield from _distributed(spec, parts, vector, corrupt=corrupt, hidden=hidden, foreign=foreign)
                if length is not None and isinstance(parts[0], DistributedEvent) and parts[0].dimension < length:
                    yield f"the event is of a vector of {parts[0].dimension} numbers, and the task's model has {length}"
        return
    yield from _central(spec, planned, vector, foreign=foreign, length=length)


def _central(spec: TaskSpec, planned: Event, vector: float, *, foreign: bool, length: int | None) -> Iterator[str]:
    noises, release = _bit_noises(spec), planned
    if isinstance(planned, AdaptiveClipEvent) and noises:
        bits = math.fsum((2 * noise) ** -2 for noise in noises) ** -0.5 / 2
        release = planned.release
        yield from _above("vector_noise_multiplier", planned.vector_noise_multiplier, vector)
        yield from _above("bit_noise_multiplier", planned.bit_noise_multiplier, bits)
    elif noises:
        yield f"the task moves norms by noised bits, and the event is {planned.kind}"
        return
    if not isinstance(release, TreeEvent | GaussianEvent | BandedEvent | BltEvent) or type(release) is not _KINDS.get(
        spec.privacy.mechanism
    ):
        yield f"the task's mechanism is {spec.privacy.mechanism}, and the event's {release.kind}"
        return
    if not noises:
        yield from _differ("noise_multiplier", release.noise_multiplier, spec.privacy.noise_multiplier)
    if foreign and release.law is not Law.FLOATING_POINT:
        yield f"another engine adds its noise in floating point, and the event's law is {release.law.value}"
    yield from _differ("minimum_separation", release.minimum_separation, spec.cohort.minimum_separation)
    yield from _differ("max_participations", release.max_participations, spec.cohort.max_participations)
    rounds = release.releases if isinstance(release, GaussianEvent) else release.leaves
    yield from _differ("number of rounds", rounds, spec.rounds)
    match release:
        case TreeEvent():
            yield from _differ("restart_every", release.restart_every, spec.privacy.restart_every)
        case GaussianEvent():
            rate = spec.privacy.sampling_rate if spec.privacy.sampling == "poisson" else None
            yield from _differ("sampling_rate", release.sampling_rate, rate)
        case BandedEvent():
            bands = min(spec.privacy.bands or min(spec.cohort.minimum_separation + 1, central.MOST_BANDS), spec.rounds)
            yield from _differ("bands", release.bands, bands)
            yield from _differ("column_norm_squared", release.column_norm_squared, 1.0)
        case BltEvent():
            yield from blt_bound.faults(spec, release, length=length)
    if length is not None and release.law is Law.ROUNDED_GAUSSIAN:
        vectors = (
            tree_sensitivity.nodes(spec.rounds, spec.privacy.restart_every) if isinstance(release, TreeEvent) else spec.rounds
        )
        if release.draws < vectors * length:
            yield f"the event counts {release.draws} draws of noise, and a model of {length} parameters takes {vectors * length}"


def _distributed(
    spec: TaskSpec, parts: Sequence[Event], vector: float, *, corrupt: int, hidden: int, foreign: bool
) -> Iterator[str]:
    """The update's noise, that of the metrics and that of each sum of bits, in the order in which they are summed.

    Args:
      corrupt: devices of a sum for which the others' noise is raised.
      hidden: those whose noise this claim does not count.
    """
    multiplier, metrics = spec.privacy.noise_multiplier or 0.0, spec.privacy.metrics
    asked = [vector]
    if metrics is not None:
        asked.append(distributed.METRICS_NOISE * multiplier if metrics.noise_multiplier is None else metrics.noise_multiplier)
    asked += [2 * noise for noise in _bit_noises(spec)]
    if len(parts) != len(asked):
        yield f"the task sums {len(asked)} vectors, and the event has {len(parts)} parts"
        return
    times = tree_sensitivity.most_participations(
        leaves=spec.rounds,
        minimum_separation=spec.cohort.minimum_separation,
        max_participations=spec.cohort.max_participations,
    )
    fewest, honest = spec.minimum_survivors - hidden, spec.minimum_survivors - corrupt
    for part, noise in zip(parts, asked, strict=True):
        if isinstance(part, UnboundedEvent):
            continue
        if not isinstance(part, DistributedEvent) or part.mechanism != spec.privacy.mechanism:
            yield f"the task's mechanism is {spec.privacy.mechanism}, and the event has a part that is {part.kind}"
            continue
        yield from _differ("participations", part.participations, times)
        if any(count > fewest for count in part.contributors):
            yield f"the event counts {list(part.contributors)} contributors, and the task promises {fewest}"
        # An engine that draws whole deviations rounds up to them; the norm is rounded down to a whole square.
        sigma = max(0.0, part.local_sigma - (1 if foreign else 0))
        if honest * sigma**2 > noise**2 * (part.squared_norm + 1) * _LEEWAY:
            yield f"the event has more noise than the {noise:g} times the norm that the task asks of {honest} devices"


def _bit_noises(spec: TaskSpec) -> tuple[float, ...]:
    """sigma_b of each sum of bits, over one device's whole bit."""
    asked = [one for one in (spec.privacy.adaptive_clip, spec.privacy.adaptive_zeroing) if one is not None]
    return tuple(one.bit_noise_multiplier or spec.cohort.report_goal / adaptive_clip.DEFAULT_BIT_SHARE for one in asked)


def _differ(name: str, said: object, meant: object) -> Iterator[str]:
    if said != meant:
        yield f"{name} is {said}, and {meant} in the task"


def _above(name: str, said: float, meant: float) -> Iterator[str]:
    if said > meant * _LEEWAY:
        yield f"{name} is {said}, and {meant:g} for the task"
