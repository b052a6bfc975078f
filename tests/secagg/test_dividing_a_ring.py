"""The bound on a division of the ring: its values, its event counted by hand, and a server that tries everything on small rings."""

import itertools
import math
from dataclasses import dataclass, replace
from fractions import Fraction

import pytest

from contract.collusion import whole_devices
from secagg import Floors, Vector, choose, thresholds
from secagg.division import log2_division

UPDATE = Vector(name="u", length=4, lane_bits=20, largest=100)


@pytest.mark.parametrize(
    ("n", "g", "q", "published", "undivided"),
    [
        (100, 0.05, 0.05, (16, 11), (16, 11)),
        (100, 0.10, 0.20, (52, 32), (52, 32)),
        (500, 0.10, 0.10, (116, 83), (116, 83)),
        (1000, 0.05, 0.05, (80, 59), (80, 59)),
        (1000, 0.10, 0.10, (150, 108), (150, 108)),
        (1000, 0.10, 0.20, (278, 181), (278, 181)),
        (10_000, 0.05, 0.05, (102, 75), (108, 80)),
        (10_000, 0.10, 0.10, (198, 142), (208, 150)),
        (10_000, 0.10, 0.20, (440, 288), (454, 298)),
    ],
)
def test_up_to_a_thousand_the_published_ring_holds_and_ten_thousand_need_more(n, g, q, published, undivided):
    assert thresholds.smallest_ring(n, g, q) == published
    assert thresholds.undivided_ring(n, g, q) == undivided
    assert log2_division(n, *undivided, whole_devices(g, n)) <= -100
    if published != undivided:
        assert log2_division(n, *published, whole_devices(g, n)) > -100


def test_published_ring_of_ten_thousand_is_refused_and_what_is_chosen_passes():
    asked = choose(roster_size=10_000, vectors=(replace(UPDATE, lane_bits=24),), corrupt_fraction=0.1, drop_fraction=0.1)
    floors = Floors(corrupt_fraction=0.1)
    assert floors.fault(asked) is None
    assert "can divide 10000 devices with 198" in floors.fault(replace(asked, degree=198, threshold=142))


def test_more_shares_make_it_rarer_and_more_corrupt_devices_or_places_likelier():
    by_threshold = [log2_division(1000, 150, t, 100) for t in range(90, 125)]
    assert by_threshold == sorted(by_threshold, reverse=True)
    by_corrupt = [log2_division(1000, 150, 108, c) for c in range(70, 200, 5)]
    assert by_corrupt == sorted(by_corrupt)
    by_size = [log2_division(n, 150, 108, n // 10) for n in range(1000, 20_000, 1000)]
    assert by_size == sorted(by_size)
    assert log2_division(1000, 150, 75, 100) == 0.0  # t = k/2: nothing is promised


@pytest.mark.parametrize("degree", [3, 0, 12])
def test_degree_that_is_no_rings_is_an_error(degree):
    with pytest.raises(ValueError, match="even degree"):
        log2_division(10, degree, 2, 1)


@pytest.mark.parametrize(("n", "degree", "threshold", "corrupt"), [(12, 4, 3, 3), (13, 6, 5, 5), (14, 4, 4, 6), (11, 4, 3, 2)])
def test_bound_covers_the_events_and_is_their_sum(n, degree, threshold, corrupt):
    # All placements of the corrupt devices, and the three events looked up on each.
    half, beyond = degree // 2, 2 * threshold - degree
    placements = list(itertools.combinations(range(n), corrupt))
    bad = sum(is_rare(n, degree, threshold, frozenset(c)) for c in placements)
    bound = 2.0 ** log2_division(n, degree, threshold, corrupt)
    assert bad / len(placements) <= bound * (1 + 1e-9)
    runs = [frozenset((start + i) % n for i in range(half)) for start in range(n)]
    neighbourhoods = sum(len(around(n, half, u) & set(c)) >= beyond for c in placements for u in range(n))
    witnesses = sum(len(set(range(degree)) & set(c)) >= beyond for c in placements)
    pairs = sum(
        min(len(one & set(c)), len(other & set(c))) >= threshold - half
        for c in placements
        for one, other in itertools.combinations(runs, 2)
        if not one & other
    )
    exact = Fraction(neighbourhoods + witnesses + pairs, len(placements))
    assert math.isclose(bound, min(1.0, float(exact)), rel_tol=1e-9)


def around(n, half, u):
    return {(u + step) % n for step in range(-half, half + 1) if step}


def is_rare(n, degree, threshold, corrupt):
    """Whether one of the events of `secagg.division` happens that are not about witnesses."""
    half, beyond = degree // 2, 2 * threshold - degree
    if any(len(around(n, half, u) & corrupt) >= beyond for u in range(n)):
        return True
    runs = [{(start + i) % n for i in range(half)} for start in range(n)]
    heavy = [run for run in runs if len(run & corrupt) >= threshold - half]
    return any(not one & other for one, other in itertools.combinations(heavy, 2))


@dataclass(frozen=True)
class Attack:
    """What a server made of each honest device: dropped, silent (survived, was asked for no share) or releasing."""

    dropped: frozenset[int]
    silent: frozenset[int]
    releasing: frozenset[int]

    def readable(self, n, degree, threshold, corrupt):
        """The sets of honest devices whose sum the server can read: one list, everybody on the roster."""
        half = degree // 2
        peers = {u: around(n, half, u) for u in range(n)}
        uncovered = {u for u in range(n) if len(peers[u] & (self.releasing | corrupt)) >= threshold}
        own_mask = uncovered & (self.silent | self.releasing)
        linked = set(range(n)) - corrupt - (uncovered & self.dropped)
        while linked:
            part, waiting = set(), {next(iter(linked))}
            while waiting:
                u = waiting.pop()
                part.add(u)
                waiting |= (peers[u] & linked) - part
            linked -= part
            if part <= own_mask:
                yield frozenset(part)


def attacks(n, degree, threshold, corrupt):
    """Every assignment in which each releasing device has the threshold of signatures of its neighbours."""
    honest = [u for u in range(n) if u not in corrupt]
    for fate in itertools.product((0, 1, 2), repeat=len(honest)):
        sets = [frozenset(u for u, f in zip(honest, fate, strict=True) if f == which) for which in range(3)]
        attack = Attack(*sets)
        signing = attack.silent | attack.releasing | corrupt
        if all(len(around(n, degree // 2, u) & signing) >= threshold for u in attack.releasing):
            yield attack


@pytest.mark.slow
@pytest.mark.parametrize(("n", "degree", "threshold", "corrupt"), [(9, 4, 3, 1), (11, 4, 4, 2), (10, 6, 5, 2), (10, 4, 4, 3)])
def test_without_a_rare_event_no_attack_reads_anything_but_the_sum_of_all_honest_survivors(n, degree, threshold, corrupt):
    # Rotating a placement rotates the attacks, so device 0 may be taken as corrupt; one list is what the witnesses leave.
    tried = 0
    for others in itertools.combinations(range(1, n), corrupt - 1):
        bad = frozenset({0, *others})
        if is_rare(n, degree, threshold, bad):
            continue
        for attack in attacks(n, degree, threshold, bad):
            survivors = attack.silent | attack.releasing
            for part in attack.readable(n, degree, threshold, bad):
                tried += 1
                assert part == survivors
    assert tried >= 10


def test_with_a_thin_threshold_the_same_search_finds_a_division():
    # The search is not blind: with t = k/2 two arcs of a ring are read apart.
    found = {
        part
        for attack in attacks(8, 4, 2, frozenset({0, 4}))
        for part in attack.readable(8, 4, 2, frozenset({0, 4}))
        if part != attack.silent | attack.releasing
    }
    assert found


def mixed_sums(n, degree, threshold, dropped):
    """What the server reads if nobody is corrupt, either half of the ring is shown a list of its own, and no witness is asked.

    Args:
      dropped: for either half the devices that its list calls dropped.
    """
    near = [around(n, degree // 2, u) for u in range(n)]
    half = [int(u >= n // 2) for u in range(n)]
    alive = [set(range(n)) - gone for gone in dropped]
    signing = {u for u in range(n) if u in alive[half[u]]}
    releasing = {u for u in signing if sum(half[v] == half[u] for v in near[u] & signing) >= threshold}
    held = [[v for v in near[u] if v in releasing] for u in range(n)]
    own_mask = {u for u in range(n) if sum(u in alive[half[v]] for v in held[u]) >= threshold}
    linked = {u for u in range(n) if sum(u not in alive[half[v]] for v in held[u]) < threshold}
    while linked:
        part, waiting = set(), {next(iter(linked))}
        while waiting:
            u = waiting.pop()
            part.add(u)
            waiting |= (near[u] & linked) - part
        linked -= part
        if part <= own_mask:
            yield part


def test_without_witnesses_two_lists_mix_into_a_sum_of_fewer_than_either_names():
    # Why witnesses: each half takes its own three out, and the sum is of 54, though either list names 57, and nobody is corrupt.
    dropped = ({12, 15, 18}, {42, 45, 48})
    (summed,) = mixed_sums(60, 18, 10, dropped)
    assert summed == set(range(60)) - dropped[0] - dropped[1]
    assert min(60 - len(gone) for gone in dropped) == 57 > len(summed)
