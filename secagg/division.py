"""Can a lying server divide a ring, and learn a sum other than that of all honest survivors of one list? The proof, and its bound.

Setting. n places in an order that nobody chose, k/2 neighbours on either side, t shares for a secret. Corrupt devices, fixed
before the order is, give the server everything and sign anything; c(u) of u's neighbours are corrupt. The server may show
each honest device another roster, other sharers A1 and other survivors A2, and calls dropped whom it likes. It may list
identities that nobody certified, but not near an honest device that goes on, nor as witnesses: both look at certificates.
Some events are rare (below). Without them:

1. *No device loses both secrets.* An honest neighbour releases one of the two, so the server has k + c(u) shares at most and
   needs 2t. It falls short if c(u) < 2t - k for every u.
2. *One list a roster.* A device releases only with t signatures of the witnesses, the devices at the k first places, over its
   own roster, A1 and A2. Honest witnesses sign once: signatures on two lists number k + c at most, c of the
   witnesses being corrupt. With c < 2t - k no two lists have t each, and all releases on a roster are on one list (A1, A2).
3. *Survivors were there.* A device signs the roster when it deals, and its neighbours check that. So an honest device of A2
   with an honest neighbour that went on was shown this very roster, and the shares of its mask key went to nobody on another
   one. By 2 whoever releases calls it a survivor: its mask key stays covered.
4. *No cut.* Let K be honest devices whose sum the server can read: own masks uncovered, and no mask unknown between K and the
   other honest devices. By 2 all of K survived. A device u of K masked with t neighbours at least, and t - c(u) honest
   neighbours at least released its seed; as 2t - k - c(u) > 0, some v is both. It survived, so its mask key is covered (3)
   and it must be in K. It released, so it masked with all of A1. Then each honest neighbour of v that released is in K
   for the same reason, at least t - c(v) of them, and so on from each. Not more than k/2 - (corrupt ones to the left of v) of
   them are to the left, so at least t - k/2 - (corrupt ones to the right) are to the right: K goes on to the
   right, unless of the k/2 places to the right of v t - k/2 or more are corrupt; likewise to the left. An honest
   survivor x outside K has no such v as a neighbour, since v masked with x and nobody uncovers that. So K ends on
   either side of k + 1 places around x: **there are two disjoint runs of k/2 places with t - k/2 corrupt devices each**.
   Where no such pair is on the ring, K is all honest survivors of A2.

So the server learns the sum of all honest survivors of one list and nothing else, and of these there are at least
`minimum_survivors` less the corrupt devices, for which devices size their noise. Every event is about counts of corrupt places in a uniform
order, and the probabilities add up to `log2_division`. A server that tries many orders multiplies it: 2^60 tries at 2^-100
leave 2^-40.

On the complete graph nothing is left to probability: for 1 and 2 2t > k + the corrupt devices, where a device's own signature does not
count; for 3 a device counts as a survivor whose sealed shares opened (`secagg.client.consistency_check`), and 4 is immediate.
"""

import functools
import math

import numpy as np


@functools.lru_cache(maxsize=4096)
def log2_division(n: int, degree: int, threshold: int, corrupt: int) -> float:
    """log2 of a bound on the probability that a random ring lets a lying server divide it; -inf if no ring does.

    The sum of three bounds: a neighbourhood with 2t - k corrupt devices (n of them), witnesses with as many, and a pair of
    disjoint runs of k/2 places with t - k/2 each (n (n - k + 1) / 2 pairs).

    Args:
      n: devices on the roster.
      degree: k, even.
      threshold: t.
      corrupt: of the roster (`contract.collusion`).

    Raises:
      ValueError: for an odd degree, or one that is no ring's.

    >>> round(log2_division(1000, 150, 108, 100), 1)
    -101.9
    >>> log2_division(10_000, 198, 142, 1000) > -93  # the published degree for 0.1 corrupt and dropping is too thin here
    True
    """
    if degree % 2 or not 2 <= degree < n:
        raise ValueError(f"a ring of {n} has an even degree in [2, {n - 1}], not {degree}")
    half, beyond = degree // 2, 2 * threshold - degree
    if beyond <= 0:
        return 0.0
    counts = np.arange(half + 1)
    pairs = _log_pair(n, half, corrupt, counts)
    both = counts + counts[:, None]
    neighbourhood = _log_sum(pairs[both >= beyond])
    apart = _log_sum(pairs[np.ix_(counts >= beyond / 2, counts >= beyond / 2)].ravel())
    total = np.logaddexp(neighbourhood + math.log(n + 1), apart + math.log(n * (n - degree + 1) / 2))
    return min(0.0, float(total) / math.log(2))


def _log_pair(n: int, half: int, corrupt: int, counts: np.ndarray) -> np.ndarray:
    """ln P[i corrupt in one run, j in another disjoint one], float64, shape (half + 1, half + 1); -inf where it cannot be."""
    logs = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, n + 1)))])
    rest = corrupt - counts - counts[:, None]
    possible = (rest >= 0) & (rest <= n - 2 * half)
    within = np.where(possible, rest, 0)
    one = logs[half] - logs[counts] - logs[half - counts]
    outside = logs[n - 2 * half] - logs[within] - logs[n - 2 * half - within]
    whole = logs[n] - logs[corrupt] - logs[n - corrupt]
    return np.where(possible, one + one[:, None] + outside - whole, -np.inf)


def _log_sum(terms: np.ndarray) -> float:
    """ln of the sum of exponentials."""
    top = float(terms.max(initial=-np.inf))
    return top if top == -np.inf else top + math.log(float(np.exp(terms - top).sum()))
