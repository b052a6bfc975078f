"""The tree's squared sensitivity against brute force, a dense matrix and the published cases."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from privacy.tree_sensitivity import most_participations, nodes, squared


def dense_tree(leaves: int, restart_every: int | None) -> np.ndarray:
    """Rows are the complete nodes, found by walking up from each leaf; float64, shape (nodes, leaves)."""
    rows = []
    every = restart_every or leaves
    for start in range(0, leaves, every):
        size = min(every, leaves - start)
        width = 1
        while width <= size:
            for left in range(0, size - width + 1, width):
                row = np.zeros(leaves)
                row[start + left : start + left + width] = 1
                rows.append(row)
            width *= 2
    return np.array(rows)


def brute_force(leaves: int, separation: int, cap: int | None, restart_every: int | None) -> int:
    tree, best = dense_tree(leaves, restart_every), 0
    for count in range(1, (cap or leaves) + 1):
        for pattern in itertools.combinations(range(leaves), count):
            if all(b - a > separation for a, b in itertools.pairwise(pattern)):
                column = tree[:, list(pattern)].sum(axis=1)
                best = max(best, int(column @ column))
    return best


@given(
    leaves=st.integers(1, 13),
    separation=st.integers(0, 14),
    cap=st.none() | st.integers(1, 6),
    restart=st.none() | st.integers(1, 14),
)
@settings(max_examples=150, deadline=None)
def test_every_small_case_equals_brute_force_over_all_patterns(
    leaves: int, separation: int, cap: int | None, restart: int | None
):
    found = squared(leaves=leaves, minimum_separation=separation, max_participations=cap, restart_every=restart)
    assert found == brute_force(leaves, separation, cap, restart)
    assert nodes(leaves, restart) == len(dense_tree(leaves, restart))


@pytest.mark.parametrize(("participations", "expected"), list(enumerate([11, 26, 41, 60, 70, 79, 87], start=1)))
def test_production_case_for_every_cap(participations: int, expected: int):
    assert squared(leaves=2000, minimum_separation=313, max_participations=participations) == expected


def test_periodic_participation_is_not_the_worst_case():
    tree = dense_tree(1000, None)
    periodic = tree[:, ::100][:, :5].sum(axis=1)
    assert squared(leaves=1000, minimum_separation=99, max_participations=5) == 82
    assert (
        max(float(c @ c) for c in (tree[:, start::100][:, :5].sum(axis=1) for start in range(100))) == 80 >= periodic @ periodic
    )


def test_completing_the_tree_with_virtual_rounds_would_price_virtual_nodes():
    assert squared(leaves=2048, minimum_separation=313, max_participations=6) == 122


@pytest.mark.parametrize(
    ("multiplier", "leaves", "separation", "rho"), [(1, 4, 1, 4.0), (2, 4, 1, 1.0), (1, 5, 1, 4.5), (1, 7, 1, 5.5)]
)
def test_published_small_trees(multiplier: int, leaves: int, separation: int, rho: float):
    assert squared(leaves=leaves, minimum_separation=separation) / (2 * multiplier**2) == rho


@given(leaves=st.integers(1, 60), separation=st.integers(0, 20), cap=st.integers(1, 6))
@settings(max_examples=60, deadline=None)
def test_price_never_falls_with_rounds_or_participations_nor_rises_with_separation(leaves: int, separation: int, cap: int):
    here = squared(leaves=leaves, minimum_separation=separation, max_participations=cap)
    assert squared(leaves=leaves + 1, minimum_separation=separation, max_participations=cap) >= here
    assert squared(leaves=leaves, minimum_separation=separation, max_participations=cap + 1) >= here
    assert squared(leaves=leaves, minimum_separation=separation + 1, max_participations=cap) <= here


def test_separation_counts_the_rounds_strictly_between():
    assert most_participations(leaves=3, minimum_separation=1) == 2  # rounds 0 and 2, one between
    assert most_participations(leaves=2, minimum_separation=1) == 1


@pytest.mark.parametrize(
    "wrong",
    [{"leaves": -1}, {"minimum_separation": -1}, {"max_participations": 0}, {"restart_every": 0}],
    ids=lambda wrong: str(wrong),
)
def test_a_wrong_argument_is_named(wrong: dict[str, int]):
    (name,) = wrong
    with pytest.raises(ValueError, match=name):
        squared(**{"leaves": 4, "minimum_separation": 0, **wrong})
