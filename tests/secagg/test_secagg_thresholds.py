"""Degrees and thresholds are the published ones, and what they promise holds by exact arithmetic and by simulation."""

from fractions import Fraction
from math import comb

import numpy as np
import pytest

from contract.randomness import stream
from secagg import LOWEST_FLOORS, Floors, Infeasible, Vector, VectorKind, bitmaps, choose, graph, thresholds
from secagg.testing import context_of, run_round

UPDATE = Vector(name="u", length=4, lane_bits=20, largest=100)


@pytest.mark.parametrize(
    ("n", "g", "q", "bits", "expected"),
    [
        (100, 0.05, 0.05, 40, (16, 11)),
        (1000, 0.05, 0.05, 40, (62, 43)),
        (10000, 0.05, 0.05, 40, (74, 51)),
        (100, 0.10, 0.20, 40, (52, 32)),
        (1000, 0.10, 0.20, 40, (226, 142)),
        (10000, 0.10, 0.20, 40, (332, 209)),
        (1000, 0.10, 0.10, 40, (114, 78)),
        (1000, 0.10, 0.10, 100, (150, 108)),
        (1000, 0.10, 0.20, 100, (278, 181)),
        (100, 0.10, 0.20, 100, (52, 32)),
        (100, 0.05, 0.05, 100, (16, 11)),
    ],
)
def test_published_degrees_and_thresholds_come_out(n, g, q, bits, expected):
    assert thresholds.smallest_ring(n, g, q, security_bits=bits) == expected


def exact_tail(n, corrupt, sample, above):
    """P[more than `above` corrupt in the sample], as a fraction."""
    top = min(corrupt, sample)
    return Fraction(sum(comb(corrupt, c) * comb(n - corrupt, sample - c) for c in range(above + 1, top + 1)), comb(n, sample))


@pytest.mark.parametrize(("n", "corrupt", "sample", "bits"), [(100, 5, 16, 41), (1000, 100, 150, 101), (1000, 100, 278, 101)])
def test_tail_quantiles_agree_with_exact_fractions(n, corrupt, sample, bits):
    limit = Fraction(1, 2**bits * n)
    c = thresholds.corrupt_in_sample(n, corrupt, sample, bits)
    assert exact_tail(n, corrupt, sample, c) <= limit
    assert c == 0 or exact_tail(n, corrupt, sample, c - 1) > limit
    t = thresholds.present_in_sample(n, n - corrupt, sample, 30)
    missing = lambda t: exact_tail(n, corrupt, sample, sample - t)  # noqa: E731 - P[fewer than t present]
    assert missing(t) <= Fraction(1, 2**30 * n)
    assert t == sample or missing(t + 1) > Fraction(1, 2**30 * n)


@pytest.mark.parametrize("n", range(3, 65))
@pytest.mark.parametrize("g", [0.0, 0.05, 0.2, 0.33])
def test_complete_graph_separates_and_holds_the_two_thirds_rule(n, g):
    topology = thresholds.complete_topology(n, g)
    assert topology.separates
    assert topology.threshold >= -(-2 * n // 3)
    assert topology.threshold <= topology.degree


def test_ring_tolerates_a_lying_choice_of_the_dropped():
    # The published bound takes the dropped to be chosen without knowledge of the graph. A server that knows it can call a whole stretch of
    # the ring dropped. Devices count survivors in every stretch, so such a list is refused, while random dropping practically never is.
    n, g, q = 1000, 0.05, 0.05
    topology = thresholds.ring_topology(n, *thresholds.smallest_ring(n, g, q, security_bits=40), g)
    identities = b"".join(i.to_bytes(32, "big") for i in range(n))
    ring = graph.build(topology, bytes(32), identities)
    victim = 17
    rng = stream(1, "dropping")
    worst = np.ones(n, dtype=np.bool_)
    place = int(ring.places[victim])
    worst[ring.order[(place + np.arange(1, topology.degree // 2 + 1)) % n]] = False
    assert not ring.holds_together(worst)
    for _ in range(200):
        random_drop = np.ones(n, dtype=np.bool_)
        random_drop[rng.choice(n, 50, replace=False)] = False
        assert ring.holds_together(random_drop)


@pytest.mark.parametrize("seed", range(20))
def test_where_the_window_check_passes_the_honest_survivors_are_connected(seed):
    n, degree = 60, 8
    rng = stream(seed, "connected")
    corrupt = set(rng.choice(n, 4, replace=False).tolist())
    topology = thresholds.Topology(
        n, degree, 6, 3, 3
    )  # three survivors in each run of four: two runs cannot hide in four corrupt
    ring = graph.build(topology, bytes([seed]) * 32, bytes(32 * n))
    for _ in range(200):
        survivors = np.ones(n, dtype=np.bool_)
        place, length = rng.integers(n), rng.integers(1, 12)
        survivors[ring.order[(place + np.arange(length)) % n]] = False
        survivors[rng.choice(n, rng.integers(0, 12), replace=False)] = False
        if ring.holds_together(survivors):
            honest = {slot for slot in range(n) if survivors[slot]} - corrupt
            assert reachable(ring, honest) == honest


def reachable(ring, nodes):
    found, waiting = set(), [min(nodes)]
    while waiting:
        slot = waiting.pop()
        if slot not in found:
            found.add(slot)
            waiting += [peer for peer in ring.neighbours(slot) if peer in nodes]
    return found


def test_cut_of_the_ring_is_refused_by_devices(draw_inputs, view):
    # The server calls every second neighbour run dropped: consistent bitmaps, enough survivors, all signatures there.
    asked = choose(roster_size=80, minimum_roster=80, vectors=(UPDATE,), corrupt_fraction=0.05, drop_fraction=0.2)
    bad = {}

    def cut(device, phase, message):
        from secagg.messages import Roster, SurvivorsAnnouncement

        if isinstance(message, Roster) and "survivors" not in bad:
            topology = asked.topology(80)
            ring = graph.build(topology, context_of(asked).digest(), message.identities)
            dropped = ring.order[np.arange(topology.degree // 2)].tolist()
            bad["survivors"] = bitmaps.encode(set(range(80)) - set(dropped), 80)
        if isinstance(message, SurvivorsAnnouncement):
            from dataclasses import replace

            return replace(message, survivors=bad["survivors"])
        return message

    outcome = run_round(context_of(asked), draw_inputs(asked), from_server=cut, from_device=view.watch)
    assert not view.released_by
    assert {abort.reason.name for abort in outcome.aborts.values()} <= {"TOO_FEW_SURVIVORS", "WRONG_SURVIVORS"}


def test_ring_is_symmetric_regular_and_moves_with_the_keys():
    topology = thresholds.ring_topology(200, 60, 41, 0.1)
    identities = b"".join(i.to_bytes(32, "big") for i in range(200))
    ring = graph.build(topology, bytes(32), identities)
    neighbours = [set(ring.neighbours(slot)) for slot in range(200)]
    assert all(len(peers) == 60 and slot not in peers for slot, peers in enumerate(neighbours))
    assert all(slot in neighbours[peer] for slot, peers in enumerate(neighbours) for peer in peers)
    other = graph.build(topology, bytes(32), identities[::-1])
    assert [set(other.neighbours(slot)) for slot in range(200)] != neighbours


def test_order_of_the_ring_is_uniform():
    # Place of slot 0 among 8, over 4,000 seeds; chi-squared with 7 degrees of freedom exceeds 29.9 with probability 1e-4.
    topology = thresholds.Topology(8, 4, 3, 0, 0)
    places = [int(graph.build(topology, i.to_bytes(32, "big"), bytes(256)).places[0]) for i in range(4000)]
    counts = np.bincount(places, minlength=8)
    assert float(((counts - 500) ** 2 / 500).sum()) < 29.9


def refused(**changes) -> Infeasible:
    asked = {"roster_size": 32, "vectors": (UPDATE,), "corrupt_fraction": 0.05, "drop_fraction": 0.1, **changes}
    with pytest.raises(Infeasible) as caught:
        choose(**asked)
    nearest = {**asked, **caught.value.nearest}
    if set(caught.value.nearest) <= set(asked) | {"minimum_survivors"}:
        choose(**nearest)  # what is named can really be met
    return caught.value


def test_what_cannot_be_met_is_refused_with_the_nearest_that_can():
    assert refused(drop_fraction=0.5).nearest == {"drop_fraction": 0.31}
    assert refused(corrupt_fraction=0.5).nearest == {"corrupt_fraction": 0.33}
    assert refused(minimum_survivors=40).nearest == {"minimum_survivors": 32}
    assert refused(minimum_survivors=1).nearest == {"minimum_survivors": 3}
    assert "drop_fraction" in refused(roster_size=1000, drop_fraction=0.6).nearest
    full = Vector(name="u", length=4, lane_bits=8, largest=10)
    assert refused(vectors=(full,)).nearest == {"roster_size": 12, "largest": 3, "lane_bits": 10}
    assert "roster_size 12" in str(refused(vectors=(full,)))


def test_largest_cohort_of_an_exact_vector_sums_extremes_and_one_more_is_refused():
    vector = Vector(name="u", length=5, lane_bits=8, largest=10)
    assert vector.largest_cohort == 12
    asked = choose(roster_size=12, vectors=(vector,), corrupt_fraction=0.0, drop_fraction=0.0)
    for sign in (1, -1):
        inputs = {i: {"u": np.full(5, sign * 10)} for i in range(12)}
        assert run_round(context_of(asked), inputs).result.sums["u"].tolist() == [sign * 120] * 5
    with pytest.raises(Infeasible, match="13 devices with values up to 10 do not fit 8 bits"):
        choose(roster_size=13, vectors=(vector,), corrupt_fraction=0.0, drop_fraction=0.0)
    modular = Vector(name="u", length=5, lane_bits=8, largest=10, kind=VectorKind.MODULAR)
    choose(roster_size=13, vectors=(modular,), corrupt_fraction=0.0, drop_fraction=0.0)


@pytest.mark.parametrize(
    "changes",
    [
        {"name": ""},
        {"length": 0},
        {"lane_bits": 7},
        {"lane_bits": 33},
        {"largest": 0},
        {"largest": 2**62},
    ],
)
def test_vector_out_of_range_is_an_error(changes):
    with pytest.raises(ValueError, match="vector"):
        Vector(**{"name": "u", "length": 1, "lane_bits": 8, "largest": 1, **changes})


def test_chosen_parameters_pass_the_floors_for_every_roster_in_range():
    for n, lowest in [(32, 20), (100, 70), (300, 250)]:
        asked = choose(roster_size=n, minimum_roster=lowest, vectors=(UPDATE,), corrupt_fraction=0.05, drop_fraction=0.1)
        floors = Floors(minimum_roster=lowest, minimum_survivors=3, corrupt_fraction=0.05)
        assert floors.fault(asked) is None
        for size in range(lowest, n + 1, 7):
            assert floors.topology_fault(asked, asked.topology(size)) is None


def test_floors_refuse_a_thin_ring():
    from dataclasses import replace

    asked = choose(roster_size=1000, vectors=(UPDATE,), corrupt_fraction=0.1, drop_fraction=0.1)
    floors = LOWEST_FLOORS
    assert floors.fault(asked) is None
    thin = replace(asked, degree=10, threshold=10, corrupt_fraction=0.001, drop_fraction=0.3)
    assert "neighbours are too few" in floors.fault(thin)
    assert "can uncover both" in floors.fault(replace(asked, threshold=90))
