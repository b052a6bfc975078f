"""The numbers with which a round of a task begins."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from contract.simulation import RoundPosition
from contract.task import TaskSpec
from server.rounds.states import RoundFacts

MAX_BARREN_ROUNDS = 20
"""Abandoned rounds in a row after which a run gives up."""

ANY_NUMBER = 1 << 31
"""Devices that a Poisson cohort may have: it is never cut, since a cut would make one device's presence depend on the others'."""


def facts_of(spec: TaskSpec, *, index: int, leaf: int, attempt: int) -> RoundFacts:
    """What does not change during round `index` of a task."""
    cohort, drawn = spec.cohort, spec.privacy.sampling == "poisson"
    return RoundFacts(
        index=index,
        leaf=leaf,
        attempt=attempt,
        report_goal=ANY_NUMBER if drawn else cohort.report_goal,
        cohort_target=ANY_NUMBER if drawn else max(cohort.report_goal, round(cohort.report_goal * cohort.over_selection)),
        minimum_reports=0 if drawn else cohort.fewest_reports,
        minimum_survivors=spec.fewest_contributions,
        secure=spec.aggregation.secure,
        reporting_s=spec.deadlines.reporting_s,
    )


def position_of(
    run: str, spec: TaskSpec, facts: RoundFacts, *, opened_s: float, sampled: Callable[[int], NDArray[np.bool_]] | None
) -> RoundPosition:
    """The round `facts` of a run, selecting since `opened_s`, as devices meet it."""
    return RoundPosition(
        run=run,
        round_index=facts.index,
        attempt=facts.attempt,
        leaf=facts.leaf,
        cohort_target=facts.cohort_target,
        report_goal=facts.report_goal,
        minimum_separation=spec.cohort.minimum_separation,
        max_participations=spec.cohort.max_participations,
        opened_s=opened_s,
        deadline_s=opened_s + spec.deadlines.selection_s,
        roster_size=facts.report_goal if facts.secure else None,
        sampled=sampled,
    )
