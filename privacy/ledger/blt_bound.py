"""Whether the strategy of a buffered-linear-Toeplitz event is one that its task gives.

A task names a schedule and a number of buffers; the strategy is the optimum for them, which is found again here. Optimisers stop at
slightly different points, ours at different ones on different machines and in different versions, so that decays and scales are not
compared number by number, but by what they are there for: the sensitivity, which is the price, and the loss, whose minimum they are.
A smaller sensitivity with the loss that it costs is found by either.
"""

import math
from collections.abc import Iterator

from contract.task import TaskSpec
from privacy import blt_optimum, central, grid, matrix_sensitivity, strategies, tree_sensitivity
from privacy.events import BltEvent

LEAST_SENSITIVITY = 0.98
"""Of the squared sensitivity of the optimum that is found here: strategies of jax-privacy lie within 1%."""
MOST_LOSS = 1.01
"""Times the loss of the optimum that is found here; jax-privacy comes within half a percent."""
_LEEWAY = 1 + 1e-6


def faults(spec: TaskSpec, event: BltEvent, *, length: int | None) -> Iterator[str]:
    """What of an event's strategy its task does not ask for, in words.

    Args:
      spec: of a task with mechanism `blt`, whose schedule the event has.
      length: parameters of the task's model, where the caller knows it: then the numerical error is held to it.
    """
    asked = central.BUFFERS if spec.privacy.buffers is None else spec.privacy.buffers
    if len(event.buf_decay) > asked:
        yield f"the event has {len(event.buf_decay)} buffers, and {asked} are the task's"
    schedule = _schedule(spec)
    try:
        best = blt_optimum.optimum(schedule, buffers=asked)
        column = matrix_sensitivity.coefficients(event.buf_decay, event.output_scale, spec.rounds)
    except ValueError as error:
        yield f"the event has no strategy that can be held to the task: {error}"
        return
    squared, error = blt_optimum.loss(column, schedule)
    least, _ = blt_optimum.loss(matrix_sensitivity.coefficients(best.buf_decay, best.output_scale, spec.rounds), schedule)
    if squared < LEAST_SENSITIVITY * least:
        yield f"the strategy has a squared sensitivity of {squared:.4f}, and that of the task's schedule has {least:.4f}"
    if math.sqrt(squared * error) > MOST_LOSS * best.loss:
        yield f"the strategy has a loss of {math.sqrt(squared * error):.4f}, and that of the task's schedule has {best.loss:.4f}"
    if length is not None:
        yield from _numerical(spec, event, length)


def _schedule(spec: TaskSpec) -> blt_optimum.Schedule:
    times = tree_sensitivity.most_participations(
        leaves=spec.rounds,
        minimum_separation=spec.cohort.minimum_separation,
        max_participations=spec.cohort.max_participations,
    )
    return blt_optimum.Schedule(rounds=spec.rounds, minimum_separation=spec.cohort.minimum_separation, participations=times)


def _numerical(spec: TaskSpec, event: BltEvent, length: int) -> Iterator[str]:
    """What rounding in the buffers adds to the sensitivity, as `CentralPlan` counts it."""
    try:
        bound = grid.plan(dimension=length, clip_norm=spec.privacy.clip_norm or 0.0).norm_bound_squared
    except ValueError as error:
        yield f"the task has no grid for its updates: {error}"
        return
    strategy = strategies.buffered(buf_decay=event.buf_decay, output_scale=event.output_scale)
    needed = strategy.numerical_error(spec.rounds) * math.sqrt(length * spec.rounds) / math.sqrt(bound)
    if event.numerical_inflation * _LEEWAY < needed:
        yield f"numerical_inflation is {event.numerical_inflation}, and {needed} for a model of {length} parameters"
