"""What happened, as the accountant must know it: frozen events, each with its unit and its neighbouring relation.

An event is cumulative: it describes everything that one mechanism has released so far, since correlated noise cannot be charged
by increments. Events are what ledger entries hold, so that their JSON is canonical (floats as decimal strings) and fields and
kinds are only ever added. An accountant refuses an event that it does not know.

Conventions: `noise_multiplier` is the standard deviation of the noise over the L2 bound of one contribution, rounding included;
`minimum_separation` counts the rounds strictly between two participations; noise is added to sums.
"""

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from types import MappingProxyType
from typing import Any, ClassVar, TypeAlias, cast

from contract.canonical import Json, plain
from privacy import event_ranges


class Unit(Enum):
    """Whose data one neighbouring step changes."""

    DEVICE = "device"
    """All that one device ever contributes."""
    DEVICE_DAY = "device-day"
    """What one device contributes on one day, or in one participation where a device takes part at most once a day."""
    EXAMPLE = "example"


class Adjacency(Enum):
    """What the neighbouring step is."""

    ZERO_OUT = "zero-out"
    """The unit's contributions become zero; its participation is not hidden."""
    ADD_OR_REMOVE = "add-or-remove"
    """The unit is there or is not; hides participation too."""
    REPLACE = "replace"
    """The unit's data, and when it takes part, become any other; costs four times the rho of zero-out."""


class Law(Enum):
    """The law of the noise, which decides what conversions are valid."""

    GAUSSIAN = "gaussian"
    """Real-valued: an idealisation, or the subject of a `tutti account` question."""
    ROUNDED_GAUSSIAN = "rounded-gaussian"
    """Gaussian noise rounded to the integers that it is added to: post-processing of the real-valued mechanism."""
    FLOATING_POINT = "floating-point"
    """Gaussian noise computed and added in floating point; its guarantee is an approximation, and never has the exact conversion."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TreeEvent:
    """Sums over the complete nodes of a binary tree of `leaves` rounds, Gaussian noise on each node."""

    kind: ClassVar[str] = "tree"
    noise_multiplier: float
    leaves: int
    minimum_separation: int = 0
    max_participations: int | None = None
    restart_every: int | None = None
    law: Law = Law.GAUSSIAN
    draws: int = 0
    """Numbers drawn for the noise; 0 for an ideal sampler."""
    distance_log2: int = 0
    """Each draw is within 2^distance_log2 of its law in total variation; read only where `draws` is positive."""
    unit: Unit = Unit.DEVICE
    adjacency: Adjacency = Adjacency.ZERO_OUT

    def __post_init__(self) -> None:
        _check(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class GaussianEvent:
    """`releases` noised sums with independent Gaussian noise; a unit takes part at most as the schedule allows.

    With `sampling_rate` every unit joins every release by an independent coin of that probability (Poisson sampling), the
    relation is add-or-remove, and separation and cap do not count.
    """

    kind: ClassVar[str] = "gaussian"
    noise_multiplier: float
    releases: int
    minimum_separation: int = 0
    max_participations: int | None = None
    sampling_rate: float | None = None
    law: Law = Law.GAUSSIAN
    draws: int = 0
    distance_log2: int = 0
    unit: Unit = Unit.DEVICE
    adjacency: Adjacency = Adjacency.ZERO_OUT

    def __post_init__(self) -> None:
        _check(self)
        if self.sampling_rate is not None and self.adjacency is not Adjacency.ADD_OR_REMOVE:
            raise ValueError(f"Poisson sampling is priced under add-or-remove, not {self.adjacency.value}")


@dataclass(frozen=True, slots=True, kw_only=True)
class BandedEvent:
    """Correlated noise from a banded strategy matrix; bands lie within the separation, so that columns of one unit are orthogonal."""

    kind: ClassVar[str] = "banded"
    noise_multiplier: float
    leaves: int
    bands: int
    column_norm_squared: float = 1.0
    """The largest squared column norm of the strategy."""
    numerical_inflation: float = 0.0
    """What finite precision adds to the sensitivity, in contribution bounds."""
    minimum_separation: int = 0
    max_participations: int | None = None
    law: Law = Law.GAUSSIAN
    draws: int = 0
    distance_log2: int = 0
    unit: Unit = Unit.DEVICE
    adjacency: Adjacency = Adjacency.ZERO_OUT

    def __post_init__(self) -> None:
        _check(self)
        if self.bands > self.minimum_separation + 1:
            raise ValueError(f"bands must lie in [1, minimum_separation + 1 = {self.minimum_separation + 1}], not {self.bands}")


@dataclass(frozen=True, slots=True, kw_only=True)
class BltEvent:
    """Correlated noise from a buffered-linear-Toeplitz strategy c_0 = 1, c_j = sum_i output_scale_i buf_decay_i^(j-1)."""

    kind: ClassVar[str] = "blt"
    noise_multiplier: float
    leaves: int
    buf_decay: tuple[float, ...]
    output_scale: tuple[float, ...]
    numerical_inflation: float = 0.0
    minimum_separation: int = 0
    max_participations: int | None = None
    law: Law = Law.GAUSSIAN
    draws: int = 0
    distance_log2: int = 0
    unit: Unit = Unit.DEVICE
    adjacency: Adjacency = Adjacency.ZERO_OUT

    def __post_init__(self) -> None:
        _check(self)
        if len(self.buf_decay) != len(self.output_scale) or sum(self.output_scale) > 1:
            raise ValueError(
                f"one output scale a buffer, with a sum of at most 1: {len(self.buf_decay)} decays, scales {self.output_scale}"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class DistributedEvent:
    """Releases of one distributed sum with integer noise from each contributor, at most `participations` of them hold a unit.

    All lengths are in grid units. `contributors` counts the devices whose noise the adversary does not know.
    """

    kind: ClassVar[str] = "distributed"
    mechanism: str
    """`ddg` (discrete Gaussian) or `skellam`."""
    dimension: int
    """Of the encoded vector, padding included."""
    squared_norm: int
    """D2^2: the largest squared norm of an encoded vector before noise."""
    local_sigma: float
    """Standard deviation of one contributor's noise."""
    contributors: tuple[int, ...]
    """One number for each release that the unit can be in; the dearest are counted where there are more."""
    participations: int
    draws: int = 0
    distance_log2: int = 0
    unit: Unit = Unit.DEVICE
    adjacency: Adjacency = Adjacency.ZERO_OUT

    def __post_init__(self) -> None:
        _check(self)
        if len(self.contributors) < self.participations:
            raise ValueError(f"{self.participations} participations need as many contributors, not {list(self.contributors)}")


@dataclass(frozen=True, slots=True, kw_only=True)
class AdaptiveClipEvent:
    """`release`, calibrated with part of its noise moved to a sum of clipping bits: it costs what `release` says.

    The noise of the vector is `vector_noise_multiplier`, that of the bits, each +-1/2, `bit_noise_multiplier` a unit.
    """

    kind: ClassVar[str] = "adaptive-clip"
    release: "TreeEvent | GaussianEvent"
    vector_noise_multiplier: float
    bit_noise_multiplier: float
    unit: Unit = Unit.DEVICE
    adjacency: Adjacency = Adjacency.ZERO_OUT

    def __post_init__(self) -> None:
        _check(self)
        if not isinstance(self.release, TreeEvent | GaussianEvent):  # pyright: ignore[reportUnnecessaryIsInstance] - JSON may hold others
            raise ValueError(f"bits go with a tree or Gaussian event, not with {self.release!r:.80}")
        _same_scope(self, self.release)


@dataclass(frozen=True, slots=True, kw_only=True)
class SelectionEvent:
    """`trial` repeated a random number of times, of which only the best is looked at: hyperparameter search by random stopping.

    The number of trials has the truncated negative binomial law of `shape` and `stop_probability` (shape 1: geometric).
    """

    kind: ClassVar[str] = "selection"
    trial: "TreeEvent | GaussianEvent | BandedEvent | BltEvent | DistributedEvent"
    shape: float
    stop_probability: float
    unit: Unit = Unit.DEVICE
    adjacency: Adjacency = Adjacency.ZERO_OUT

    def __post_init__(self) -> None:
        _check(self)
        if isinstance(self.trial, AdaptiveClipEvent | SelectionEvent | UnboundedEvent | ComposedEvent):  # pyright: ignore[reportUnnecessaryIsInstance] - JSON may hold them
            raise ValueError(f"a trial is one mechanism's event, not {self.trial!r:.80}")
        _same_scope(self, self.trial)


@dataclass(frozen=True, slots=True, kw_only=True)
class UnboundedEvent:
    """Something released without any guarantee."""

    kind: ClassVar[str] = "unbounded"
    reason: str
    unit: Unit = Unit.DEVICE
    adjacency: Adjacency = Adjacency.ZERO_OUT

    def __post_init__(self) -> None:
        _check(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class ComposedEvent:
    """Several accesses in the same rounds, such as an update and the metrics beside it: they cost what their parts cost together."""

    kind: ClassVar[str] = "composed"
    parts: tuple["SimpleEvent", ...]

    def __post_init__(self) -> None:
        if not self.parts or len({(part.unit, part.adjacency) for part in self.parts}) > 1:
            raise ValueError("a composition needs parts of one unit under one relation")

    @property
    def unit(self) -> Unit:
        """That of its parts."""
        return self.parts[0].unit

    @property
    def adjacency(self) -> Adjacency:
        """That of its parts."""
        return self.parts[0].adjacency


MatrixEvent: TypeAlias = BandedEvent | BltEvent
SimpleEvent: TypeAlias = (
    TreeEvent | GaussianEvent | BandedEvent | BltEvent | DistributedEvent | AdaptiveClipEvent | SelectionEvent | UnboundedEvent
)
Event: TypeAlias = SimpleEvent | ComposedEvent

_KINDS: Mapping[str, type[SimpleEvent]] = MappingProxyType(
    {
        kind.kind: kind
        for kind in (
            TreeEvent,
            GaussianEvent,
            BandedEvent,
            BltEvent,
            DistributedEvent,
            AdaptiveClipEvent,
            SelectionEvent,
            UnboundedEvent,
        )
    }
)
_ENUMS: Mapping[str, type[Enum]] = MappingProxyType({"unit": Unit, "adjacency": Adjacency, "law": Law})
_FLOATS = frozenset(
    {
        "noise_multiplier", "sampling_rate", "column_norm_squared", "numerical_inflation", "local_sigma",
        "vector_noise_multiplier", "bit_noise_multiplier", "shape", "stop_probability",
    }
)  # fmt: skip
_FLOAT_TUPLES = frozenset({"buf_decay", "output_scale"})


def _check(event: "SimpleEvent") -> None:
    """Refuses an event whose fields lie outside what its kind can have (`privacy.event_ranges`)."""
    fields = {name: getattr(event, name) for name in event.__dataclass_fields__}
    event_ranges.check(event.kind, fields)
    for name, kind in _ENUMS.items():
        if name in fields and not isinstance(fields[name], kind):
            raise ValueError(f"{event.kind} event: {name} cannot be {fields[name]!r:.80}")


def _same_scope(event: "SimpleEvent", inner: "SimpleEvent") -> None:
    """Refuses a wrapper that speaks of another unit or relation than what it wraps: its price is that of the inner event."""
    for name in ("unit", "adjacency"):
        said, meant = getattr(event, name).value, getattr(inner, name).value
        if said != meant:
            raise ValueError(f"{event.kind} event: {name} is {said}, and {meant} in the {inner.kind} event inside it")


def to_json(event: Event) -> dict[str, Json]:
    """The event as canonical-ready JSON, its kind included.

    >>> to_json(UnboundedEvent(reason="no noise"))["kind"]
    'unbounded'
    """
    if isinstance(event, ComposedEvent):
        scope: dict[str, Json] = {"unit": event.unit.value, "adjacency": event.adjacency.value}
        return {"kind": event.kind, "parts": [to_json(part) for part in event.parts], **scope}
    body = cast(dict[str, Json], plain(event))
    if isinstance(event, AdaptiveClipEvent):
        body["release"] = to_json(event.release)
    if isinstance(event, SelectionEvent):
        body["trial"] = to_json(event.trial)
    return {"kind": event.kind, **body}


def from_json(mapping: Mapping[str, Any]) -> Event:
    """The event that `to_json` wrote.

    Raises:
      ValueError: for an unknown kind, or fields that do not belong to it.

    >>> event = TreeEvent(noise_multiplier=7.0, leaves=2000, minimum_separation=313, max_participations=6)
    >>> from_json(to_json(event)) == event
    True
    """
    if not isinstance(mapping, Mapping):  # pyright: ignore[reportUnnecessaryIsInstance]  # whoever wrote it need not care for types
        raise ValueError(f"an event is an object, not {mapping!r:.80}")
    if mapping.get("kind") == ComposedEvent.kind:
        return _composed(mapping)
    kind = _KINDS.get(str(mapping.get("kind")))
    if kind is None:
        raise ValueError(f"unknown kind of event: {mapping.get('kind')!r:.80}")
    names = {field.name for field in dataclasses.fields(kind)}
    given = set(mapping) - {"kind"}
    if given - names:
        raise ValueError(f"a {kind.kind} event has no {sorted(given - names)}")
    try:
        return kind(**{name: _value(name, mapping[name]) for name in sorted(given)})
    except TypeError as error:
        raise ValueError(f"incomplete {kind.kind} event: {error}") from None


def _composed(mapping: Mapping[str, Any]) -> ComposedEvent:
    given, parts = set(mapping), mapping.get("parts")
    if given != {"kind", "parts", "unit", "adjacency"} or not isinstance(parts, list):
        raise ValueError(f"a composed event has a kind, parts, a unit and an adjacency, not {sorted(given)}")
    found = [from_json(part) for part in cast(list[Mapping[str, Any]], parts)]
    if any(isinstance(part, ComposedEvent) for part in found):
        raise ValueError("the parts of a composition are no compositions")
    event = ComposedEvent(parts=simple(found))
    if (mapping["unit"], mapping["adjacency"]) != (event.unit.value, event.adjacency.value):
        raise ValueError(
            f"a composition of parts that speak of {event.unit.value} and {event.adjacency.value} cannot speak of others"
        )
    return event


def simple(events: Iterable[Event]) -> tuple[SimpleEvent, ...]:
    """The events with every composition taken apart.

    >>> part = UnboundedEvent(reason="no noise")
    >>> simple([ComposedEvent(parts=(part, part)), part]) == (part, part, part)
    True
    """
    found: list[SimpleEvent] = []
    for event in events:
        found += event.parts if isinstance(event, ComposedEvent) else (event,)
    return tuple(found)


def _value(name: str, value: Any) -> Any:
    if name in _ENUMS:
        return _ENUMS[name](value)
    if name in _FLOATS:
        return None if value is None else _number(name, value)
    if name in _FLOAT_TUPLES:
        return tuple(_number(name, item) for item in value)
    if name in ("release", "trial"):
        return from_json(value)
    return tuple(cast(list[Any], value)) if isinstance(value, list) else value


def _number(name: str, value: object) -> float:
    """A real number as entries hold it: a decimal string, or an integer."""
    if type(value) not in (str, int, float):
        raise ValueError(f"{name} cannot be {value!r:.80}")
    try:
        return float(cast(str, value))
    except (ValueError, OverflowError):
        raise ValueError(f"{name} cannot be {value!r:.80}") from None
