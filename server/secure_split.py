"""A cohort in several groups, each with its own secure aggregation: who is where, and what the sums cost together.

The server reads every group's sum before it adds them up. So the noise of a group has to stand alone: it is calibrated for the fewest
honest survivors of one group, of whose roster of m max(1, floor(g m)) are corrupt where g > 0 (an assumption about each group, and who is
in which is the server's word: if all corrupt devices of a cohort of n may meet in one group of m, the task has to say g n / m).

What one round reveals is (A_1, ..., A_J), A_j the noised sum of group j (absent where the group was abandoned). Who is in which group does
not depend on data: the i-th device that was taken into the cohort is in group i mod J. Take neighbours that differ in one device's data
(zero-out adjacency: it takes part in both). It is in one group only, since its record allows one participation in a release; say j. All
other A_i have the same law under both neighbours and are independent of A_j, for devices draw their noise independently. Hence for every
order a D_a(A || A') = sum_i D_a(A_i || A_i') = D_a(A_j || A_j'), which is parallel composition: the price of a round is that of the dearest
group, whose survivors are the fewest. Rounds compose one after another, whatever groups the device is in.

A record says how many devices are in a round's sums in all, N. Each of the at most J groups holds at most m of them, so the smallest
holds at least N - (J - 1) m, and never fewer than the floor u below which nothing is unmasked: the claim is for max(u, N - (J - 1) m).

The price of splitting is accuracy: the sum of J groups carries J times the variance of one group's noise. A task splits only where it
says so.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def fewest_in_a_group(count: int, *, groups: int, roster_size: int, floor: int) -> int:
    """A number of survivors that each group of a round has at least, when `count` are in its sums in all.

    >>> [fewest_in_a_group(count, groups=2, roster_size=100, floor=80) for count in (200, 190, 170, 95)]
    [100, 90, 80, 80]
    >>> fewest_in_a_group(93, groups=1, roster_size=100, floor=80)
    93
    """
    return count if groups == 1 else max(floor, count - (groups - 1) * roster_size)


def group_of_place(place: int, groups: int) -> int:
    """The group of the device that was taken into the cohort as number `place`.

    >>> [group_of_place(place, 3) for place in range(5)]
    [0, 1, 2, 0, 1]
    """
    return place % groups


def added_up(sums: Sequence[NDArray[np.int64]]) -> NDArray[np.int64]:
    """The sum of the groups' sums, in the order of the groups; integers, so that any order would give the same.

    >>> added_up([np.array([1, 2]), np.array([3, -5])]).tolist()
    [4, -3]
    """
    if len(sums) == 1:
        return sums[0]
    total = np.zeros_like(sums[0])
    for one in sums:
        total += one
    return total
