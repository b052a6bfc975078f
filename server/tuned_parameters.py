"""Parameters of a mechanism that follow released sums from round to round: where they start, and how they stand on the record."""

from dataclasses import dataclass

from contract.task import AdaptiveClipSpec, AdaptiveZeroingSpec, TaskSpec
from privacy.adaptive_clip import DEFAULT_BIT_SHARE, QuantileState
from privacy.norm_tracking import CLIP, ZEROING, NormTracking

ZEROING_START = 10.0
"""Where the high quantile is looked for first, in clip norms, unless the task says where."""


@dataclass(frozen=True, slots=True)
class Tuned:
    """A parameter that follows released sums: its value for the next round, and what it was computed from, in plain words."""

    value: float
    statistic: str


def tracked(tracking: NormTracking | None) -> dict[str, Tuned]:
    """The norms of `tracking` as parameters on the record."""
    if tracking is None:
        return {}
    return {name: Tuned(value, "the noised sums of bits") for name, value in tracking.values.items()}


def norm_tracking(spec: TaskSpec) -> NormTracking | None:
    """What a task asks for with `adaptive_clip` and `adaptive_zeroing`; None for neither."""
    privacy, goal = spec.privacy, spec.cohort.report_goal
    clip, zeroing, fixed = privacy.adaptive_clip, privacy.adaptive_zeroing, privacy.clip_norm
    if fixed is None or (clip is None and zeroing is None):
        return None
    starts = {} if clip is None else {CLIP: fixed}
    if zeroing is not None:
        starts[ZEROING] = zeroing.start or ZEROING_START * fixed
    asked = [one for one in (clip, zeroing) if one is not None]
    return NormTracking(
        fixed_norm=fixed,
        clip=None if clip is None else _quantile(clip, starts[CLIP]),
        zeroing=None if zeroing is None else _quantile(zeroing, starts[ZEROING]),
        factor=2.0 if zeroing is None else zeroing.factor,
        bit_noises=tuple(one.bit_noise_multiplier or goal / DEFAULT_BIT_SHARE for one in asked),
        starts=tuple(starts.values()),
        every=(privacy.restart_every or 1) if privacy.mechanism == "tree" else 1,
    )


def _quantile(asked: AdaptiveClipSpec | AdaptiveZeroingSpec, start: float) -> QuantileState:
    return QuantileState(estimate=start, target_quantile=asked.target_quantile, learning_rate=asked.learning_rate)
