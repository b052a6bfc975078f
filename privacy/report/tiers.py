"""The three tiers of guarantees."""

TIER_EDGES = ((1.0, "strong (epsilon at most 1)"), (10.0, "reasonable (epsilon at most 10)"))
"""Tiers 1 and 2 of "How to DP-fy ML" (arXiv:2303.00654v3, section 5.1); tier 3 is everything beyond."""


def tier(epsilon: float | None) -> str:
    """The tier of an epsilon.

    >>> tier(0.5), tier(8.9), tier(None)
    ('strong (epsilon at most 1)', 'reasonable (epsilon at most 10)', 'weak (epsilon above 10 or none)')
    """
    for edge, name in TIER_EDGES:
        if epsilon is not None and epsilon <= edge:
            return name
    return "weak (epsilon above 10 or none)"
