"""Degree and threshold of the neighbour graph: how many neighbours, and how many shares uncover a secret.

Notation follows arXiv:2002.10839v1 (Bell, Bonawitz, Gascon, Lepoint, Raykova 2020): n devices on a roster, k neighbours each, t
shares that uncover, gamma the corrupt and delta the dropping fraction, sigma and eta the bits of security and of completeness.
Everything here is a pure function of public numbers, so that a device computes the same as the server and believes nobody.
"""

import functools
import math
from dataclasses import dataclass

from contract.collusion import colluding_devices, whole_devices
from secagg.division import log2_division

COMPLETE_UP_TO = 64
"""Rosters up to this size use the complete graph: the tail bounds give unsafe degrees for small numbers."""
SECURITY_BITS = 100
"""The server picks the roster after it has seen the keys: 2^60 tries at a graph leave 2^-40."""
COMPLETENESS_BITS = 30


@dataclass(frozen=True, slots=True)
class Topology:
    """The graph's numbers for one roster.

    Args:
      roster_size: n, devices on the roster.
      degree: k, neighbours of each device; roster_size - 1 is the complete graph.
      threshold: t, shares that uncover a secret, signatures that a device wants before it releases.
      corrupt_neighbours: t1, corrupt neighbours that some device may have.
      survivors_per_window: fewest survivors among any k/2 successive places of the ring; 0 for the complete graph.
    """

    roster_size: int
    degree: int
    threshold: int
    corrupt_neighbours: int
    survivors_per_window: int

    @property
    def complete(self) -> bool:
        """Whether everybody is everybody's neighbour."""
        return self.degree == self.roster_size - 1

    @property
    def separates(self) -> bool:
        """2t > k + t1: no coalition with the corrupt neighbours can uncover both secrets of a device."""
        return 2 * self.threshold > self.degree + self.corrupt_neighbours


def complete_topology(n: int, corrupt_fraction: float) -> Topology:
    """The complete graph over n devices, t the least that is at least 2(k+1)/3 and above (k + t1)/2.

    >>> complete_topology(32, 0.05)
    Topology(roster_size=32, degree=31, threshold=22, corrupt_neighbours=1, survivors_per_window=0)
    """
    corrupt = colluding_devices(corrupt_fraction, n)
    threshold = max(-(-2 * n // 3), (n - 1 + corrupt) // 2 + 1)
    return Topology(n, n - 1, threshold, corrupt, 0)


def ring_topology(n: int, degree: int, threshold: int, corrupt_fraction: float) -> Topology:
    """A ring in an order that nobody chose, everybody next to k/2 on either side, with what its security asks of survivors.

    Honest survivors fall apart only where two runs of k/2 places hold none of them. `survivors_per_window` is more than half of
    the corrupt devices that any two such runs may hold together (probability of more, over all pairs of runs: 2^-SECURITY_BITS).
    With so many survivors in every run, two runs cannot be all corrupt: the honest survivors are connected whichever devices the
    server calls dropped, even if it chooses them after it has seen the graph, whatever the threshold is. The published bound
    (`connected`) takes the dropped ones to be independent of the graph. It is the second of two defences: `secagg.division` proves
    more, from the threshold.
    """
    corrupt = colluding_devices(corrupt_fraction, n)
    in_two_runs = corrupt_in_sample(n, corrupt, degree, SECURITY_BITS + math.log2(n) - 1)
    neighbours = corrupt_in_sample(n, corrupt, degree, SECURITY_BITS + 1)
    return Topology(n, degree, threshold, neighbours, in_two_runs // 2 + 1)


@functools.lru_cache(maxsize=256)
def smallest_ring(
    n: int,
    corrupt_fraction: float,
    drop_fraction: float,
    *,
    active: bool = True,
    security_bits: int = SECURITY_BITS,
    completeness_bits: int = COMPLETENESS_BITS,
) -> tuple[int, int] | None:
    """(k, t): the smallest even degree that is secure and complete, and its threshold; None if there is none below n - 1.

    Args:
      active: whether the server may lie; a merely curious one asks for less.

    Source: arXiv:2002.10839v1, definitions 3.3 and 4.2 and their instantiation, as in NUMBERS.md, section 4.

    >>> smallest_ring(100, 0.05, 0.05, security_bits=40), smallest_ring(1000, 0.10, 0.10)
    ((16, 11), (150, 108))
    """
    corrupt, dropped = colluding_devices(corrupt_fraction, n), whole_devices(drop_fraction, n)
    for degree in range(2, n - 1, 2):
        if not connected(n, degree, corrupt + dropped, security_bits):
            continue
        tolerated = corrupt_in_sample(n, corrupt, degree, security_bits + 1)
        threshold = tolerated + 1 if not active else math.ceil((tolerated + degree - 1.25) / 2) + 1
        if threshold <= present_in_sample(n, n - dropped, degree, completeness_bits):  # t2
            return degree, threshold
    return None


@functools.lru_cache(maxsize=256)
def undivided_ring(n: int, corrupt_fraction: float, drop_fraction: float) -> tuple[int, int] | None:
    """(k, t): the smallest ring from the published one on that no lying server divides either, `secagg.division`.

    Up to some 1,000 devices that is the published ring itself; 10,000 need about ten neighbours more.

    >>> undivided_ring(1000, 0.10, 0.10), smallest_ring(10_000, 0.10, 0.10), undivided_ring(10_000, 0.10, 0.10)
    ((150, 108), (198, 142), (208, 150))
    """
    published = smallest_ring(n, corrupt_fraction, drop_fraction)
    if published is None:
        return None
    corrupt, dropped = colluding_devices(corrupt_fraction, n), whole_devices(drop_fraction, n)
    for degree in range(published[0], n - 1, 2):
        highest = present_in_sample(n, n - dropped, degree, COMPLETENESS_BITS)
        tolerated = corrupt_in_sample(n, corrupt, degree, SECURITY_BITS + 1)
        for threshold in range(math.ceil((tolerated + degree - 1.25) / 2) + 1, highest + 1):
            if undivided(n, degree, threshold, corrupt):
                return degree, threshold
    return None


def undivided(n: int, degree: int, threshold: int, corrupt: int) -> bool:
    """Whether a lying server can divide this ring with probability 2^-SECURITY_BITS at most.

    >>> undivided(1000, 150, 108, 100), undivided(10_000, 198, 142, 1000)
    (True, False)
    """
    return log2_division(n, degree, threshold, corrupt) <= -SECURITY_BITS


def ring_serves(n: int, degree: int, threshold: int, corrupt_fraction: float, drop_fraction: float) -> bool:
    """Whether a given ring is secure and complete for a roster of n.

    >>> ring_serves(1000, 150, 108, 0.1, 0.1), ring_serves(1000, 150, 108, 0.1, 0.3)
    (True, False)
    """
    corrupt, dropped = colluding_devices(corrupt_fraction, n), whole_devices(drop_fraction, n)
    ring = ring_topology(n, degree, threshold, corrupt_fraction)
    return (
        ring.separates
        and connected(n, degree, corrupt + dropped, SECURITY_BITS)
        and undivided(n, degree, threshold, corrupt)
        and threshold <= present_in_sample(n, n - dropped, degree, COMPLETENESS_BITS)
        and ring.survivors_per_window <= present_in_sample(n, n - dropped, degree // 2, COMPLETENESS_BITS)
    )


def connected(n: int, degree: int, bad: int, security_bits: int) -> bool:
    """Whether two runs of k/2 bad devices cut the ring with probability below 2^-(security_bits + 1), condition (i).

    >>> connected(100, 16, 10, 40), connected(100, 8, 10, 40)
    (True, False)
    """
    cuts = n * (n - degree - 1) // 2
    if bad < degree or cuts == 0:
        return True
    log_cut = math.log2(cuts) + sum(math.log2(bad - i) - math.log2(n - i) for i in range(degree))
    return log_cut < -(security_bits + 1)


def corrupt_in_sample(n: int, corrupt: int, sample: int, bits: float) -> int:
    """Least c with P[more than c corrupt ones in a sample] at most 2^-bits / n: the sample is a device's neighbours.

    >>> corrupt_in_sample(100, 5, 16, 41)
    5
    """
    limit = -bits - math.log2(n)
    above = 0.0
    for c in range(min(corrupt, sample), -1, -1):
        above += _probability(n, corrupt, sample, c)
        if above > 0.0 and math.log2(above) > limit:
            return c
    return 0


def present_in_sample(n: int, present: int, sample: int, bits: float) -> int:
    """Greatest c with P[fewer than c present ones in a sample] at most 2^-bits / n.

    >>> present_in_sample(100, 95, 16, 30)
    11
    """
    limit = -bits - math.log2(n)
    below = 0.0
    for c in range(sample + 1):
        below += _probability(n, present, sample, c)
        if below > 0.0 and math.log2(below) > limit:
            return c
    return sample


def _probability(n: int, marked: int, sample: int, c: int) -> float:
    """P[Hypergeometric(n, marked, sample) = c]."""
    if not max(0, sample - (n - marked)) <= c <= min(marked, sample):
        return 0.0
    return math.exp(_log_choose(marked, c) + _log_choose(n - marked, sample - c) - _log_choose(n, sample))


def _log_choose(n: int, c: int) -> float:
    return math.lgamma(n + 1) - math.lgamma(c + 1) - math.lgamma(n - c + 1)
