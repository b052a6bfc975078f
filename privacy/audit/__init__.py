"""Audit statistics: exposure, comparisons, epsilon from below, tests of the mechanism, and the verdict beside the proven bound."""

from privacy.audit.comparison import Ratio, drop_p_value, median_rank_ratio, permutation_p_value, spearman, trend_p_value
from privacy.audit.exposure import Exposure, exposures, null_p_value, ranks
from privacy.audit.one_run import LowerBound, attack, coins, comparison_delta, epsilon_below
from privacy.audit.random_updates import Estimate, estimate
from privacy.audit.verdict import Certainty, Claim, Finding, Judgement, Scope, Verdict, claim, judge, level_of_each, overall

__all__ = [
    "Certainty",
    "Claim",
    "Estimate",
    "Exposure",
    "Finding",
    "Judgement",
    "LowerBound",
    "Ratio",
    "Scope",
    "Verdict",
    "attack",
    "claim",
    "coins",
    "comparison_delta",
    "drop_p_value",
    "epsilon_below",
    "estimate",
    "exposures",
    "judge",
    "level_of_each",
    "median_rank_ratio",
    "null_p_value",
    "overall",
    "permutation_p_value",
    "ranks",
    "spearman",
    "trend_p_value",
]
