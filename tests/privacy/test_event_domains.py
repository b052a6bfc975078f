"""An event outside what its kind can have is refused, by value: no entry buys a smaller price with a number that is none."""

import dataclasses
import json
import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from privacy import accounting, events
from privacy.events import (
    AdaptiveClipEvent,
    Adjacency,
    BandedEvent,
    BltEvent,
    ComposedEvent,
    DistributedEvent,
    Event,
    GaussianEvent,
    SelectionEvent,
    TreeEvent,
    UnboundedEvent,
    Unit,
)

GAUSSIAN = GaussianEvent(noise_multiplier=1.0, releases=6, minimum_separation=1, max_participations=2)
TREE = TreeEvent(
    noise_multiplier=1.0, leaves=6, minimum_separation=1, max_participations=2, restart_every=3, draws=5, distance_log2=-115
)
SAMPLED = GaussianEvent(noise_multiplier=1.0, releases=6, sampling_rate=0.25, adjacency=Adjacency.ADD_OR_REMOVE)
BANDED = BandedEvent(noise_multiplier=1.0, leaves=6, bands=2, minimum_separation=1)
BLT = BltEvent(noise_multiplier=1.0, leaves=6, buf_decay=(0.5, 0.9), output_scale=(0.25, 0.125), numerical_inflation=0.01)
DISTRIBUTED = DistributedEvent(
    mechanism="skellam", dimension=8, squared_norm=100, local_sigma=10.0, contributors=(16, 18), participations=2
)
ADAPTIVE = AdaptiveClipEvent(release=TREE, vector_noise_multiplier=1.01, bit_noise_multiplier=5.0)
SELECTION = SelectionEvent(trial=GAUSSIAN, shape=1.0, stop_probability=0.1)
COMPOSED = ComposedEvent(parts=(DISTRIBUTED, GAUSSIAN))
EVENTS: tuple[Event, ...] = (
    GAUSSIAN, TREE, SAMPLED, BANDED, BLT, DISTRIBUTED, ADAPTIVE, SELECTION, COMPOSED, UnboundedEvent(reason="none"),
)  # fmt: skip


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: event.kind)
def test_what_is_written_is_read_back(event: Event) -> None:
    assert events.from_json(json.loads(json.dumps(events.to_json(event)))) == event


@pytest.mark.parametrize(
    ("event", "name", "value"),
    [
        (GAUSSIAN, "noise_multiplier", "inf"),
        (TREE, "noise_multiplier", "Infinity"),
        (TREE, "noise_multiplier", "nan"),
        (GAUSSIAN, "noise_multiplier", "-1"),
        (TREE, "noise_multiplier", "1e200"),
        (TREE, "noise_multiplier", "1e-200"),
        (TREE, "noise_multiplier", True),
        (TREE, "noise_multiplier", None),
        (SAMPLED, "releases", -900),
        (SAMPLED, "releases", "3"),
        (GAUSSIAN, "releases", True),
        (TREE, "leaves", -1),
        (TREE, "restart_every", 0),
        (TREE, "max_participations", 0),
        (TREE, "minimum_separation", -1),
        (TREE, "draws", -1),
        (TREE, "distance_log2", 1),
        (TREE, "law", "cauchy"),
        (TREE, "unit", []),
        (SAMPLED, "sampling_rate", "0"),
        (SAMPLED, "sampling_rate", "1.5"),
        (SAMPLED, "sampling_rate", "nan"),
        (SAMPLED, "adjacency", "zero-out"),
        (BANDED, "column_norm_squared", "0"),
        (BANDED, "column_norm_squared", "-20"),
        (BANDED, "numerical_inflation", "-0.5"),
        (BANDED, "bands", 0),
        (BANDED, "bands", 3),
        (BLT, "numerical_inflation", "-2.5"),
        (BLT, "buf_decay", ["1.5", "0.5"]),
        (BLT, "buf_decay", ["0.5"]),
        (BLT, "output_scale", ["-1", "0.5"]),
        (BLT, "output_scale", ["0.75", "0.5"]),
        (BLT, "output_scale", 3),
        (DISTRIBUTED, "local_sigma", "inf"),
        (DISTRIBUTED, "mechanism", "laplace"),
        (DISTRIBUTED, "dimension", 0),
        (DISTRIBUTED, "squared_norm", 0),
        (DISTRIBUTED, "squared_norm", -100),
        (DISTRIBUTED, "contributors", [16, -1]),
        (DISTRIBUTED, "contributors", [16]),
        (DISTRIBUTED, "contributors", 16),
        (DISTRIBUTED, "participations", -1),
        (ADAPTIVE, "vector_noise_multiplier", "0"),
        (ADAPTIVE, "bit_noise_multiplier", "inf"),
        (ADAPTIVE, "release", events.to_json(BANDED)),
        (ADAPTIVE, "release", "tree"),
        (SELECTION, "shape", "-1"),
        (SELECTION, "shape", "inf"),
        (SELECTION, "stop_probability", "0"),
        (SELECTION, "trial", events.to_json(ADAPTIVE)),
        (COMPOSED, "parts", []),
        (COMPOSED, "parts", [events.to_json(COMPOSED)]),
        (COMPOSED, "parts", "none"),
        (COMPOSED, "unit", "example"),
        (COMPOSED, "leaves", 3),
    ],
)
def test_value_that_no_mechanism_has_is_refused(event: Event, name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=r"."):
        events.from_json({**events.to_json(event), name: value})


def test_refusal_names_the_field_and_the_value() -> None:
    with pytest.raises(ValueError, match=r"tree event: noise_multiplier .* not inf"):
        TreeEvent(noise_multiplier=math.inf, leaves=1)


@pytest.mark.parametrize("inner", [SAMPLED, dataclasses.replace(GAUSSIAN, unit=Unit.EXAMPLE)], ids=["relation", "unit"])
def test_wrapper_speaks_of_what_it_wraps(inner: GaussianEvent) -> None:
    with pytest.raises(ValueError, match=r"adaptive-clip event: (adjacency|unit) is .* inside it"):
        AdaptiveClipEvent(release=inner, vector_noise_multiplier=1.0, bit_noise_multiplier=5.0)
    with pytest.raises(ValueError, match=r"selection event: (adjacency|unit) is .* inside it"):
        SelectionEvent(trial=inner, shape=1.0, stop_probability=0.1)


LEAVES: st.SearchStrategy[Any] = st.one_of(
    st.none(), st.booleans(), st.integers(-(10**3), 10**3), st.sampled_from([-(1 << 60), 1 << 300]),
    st.floats().map(repr), st.floats(1e-3, 1e3).map(repr),
    st.sampled_from(["inf", "-0", "1e400", "1e-400", "1e100", "1e-100", "tree", "zero-out", "replace", "add-or-remove", "ddg", ""]),
)  # fmt: skip
VALUES = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["kind", "x"]), inner, max_size=2)
)
KEYS = sorted({key for event in EVENTS for key in events.to_json(event)})


def mutated(mapping: dict[str, Any], data: st.DataObject) -> dict[str, Any]:
    """One to three changes of one level of the object, or of an event inside it."""
    inner = [name for name, value in mapping.items() if isinstance(value, dict)]
    if inner and data.draw(st.booleans()):
        name = data.draw(st.sampled_from(inner))
        return {**mapping, name: mutated(mapping[name], data)}
    changed = dict(mapping)
    for _ in range(data.draw(st.integers(1, 3))):
        name = data.draw(st.sampled_from(sorted(changed) + (KEYS if data.draw(st.booleans()) else [])))
        if data.draw(st.integers(0, 4)) == 0:
            changed.pop(name, None)
        else:
            changed[name] = data.draw(VALUES)
    return changed


@settings(max_examples=400, deadline=None)
@given(data=st.data())
def test_mutated_event_is_refused_or_has_a_price(data: st.DataObject) -> None:
    honest = data.draw(st.sampled_from(EVENTS))
    try:
        event = events.from_json(mutated(dict(events.to_json(honest)), data))
        found = accounting.price(event, 1e-6)
    except ValueError:
        return
    assert found.epsilon >= 0
    assert found.rho is None or found.rho >= 0
    assert events.from_json(events.to_json(event)) == event
