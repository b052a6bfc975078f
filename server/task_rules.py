"""What may go together in a task: sampling, norms that follow quantiles, scales that follow sums, caches whose examples arrive."""

from contract.errors import Problem
from contract.task import DISTRIBUTED_MECHANISMS, CacheSpec, TaskSpec

NOISE_MULTIPLIERS = (1e-6, 1e6)
TRACKING_MECHANISMS = ("gaussian", *DISTRIBUTED_MECHANISMS, "tree")


def problems(spec: TaskSpec) -> list[Problem]:
    """Every fault of these."""
    return [
        *noise_problems(spec),
        *sampling_problems(spec),
        *tracking_problems(spec),
        *scale_problems(spec),
        *cache_problems(spec),
    ]


def noise_problems(spec: TaskSpec) -> list[Problem]:
    """Beyond these bounds noise is none or everything, and arithmetic on it overflows."""
    noise, (least, most) = spec.privacy.noise_multiplier, NOISE_MULTIPLIERS
    if noise is None or noise == 0 or least <= noise <= most:
        return []
    fault = f"{noise:g} is no noise multiplier of any use"
    return [Problem("privacy.noise_multiplier", fault, f"Give one from {least:g} to {most:g}.")]


def sampling_problems(spec: TaskSpec) -> list[Problem]:
    """Poisson sampling is priced for independent Gaussian noise, and by nothing but the rate."""
    privacy, cohort, found = spec.privacy, spec.cohort, list[Problem]()
    if privacy.sampling == "none":
        if privacy.sampling_rate is not None:
            found.append(
                Problem(
                    "privacy.sampling_rate", "cohorts are made of the devices that come", "Add sampling: poisson, or remove it."
                )
            )
        return found
    if privacy.mechanism != "gaussian":
        found.append(
            Problem("privacy.sampling", f"no amplification by sampling is known for {privacy.mechanism} here", "Use gaussian.")
        )
    if privacy.sampling_rate is None:
        found.append(
            Problem("privacy.sampling_rate", "Poisson sampling needs its probability", "Add it, such as report_goal / devices.")
        )
    unread = {
        "minimum_reports": cohort.minimum_reports is not None,
        "minimum_separation": cohort.minimum_separation > 0,
        "max_participations": cohort.max_participations is not None,
    }
    for key in [name for name, given in unread.items() if given]:
        found.append(
            Problem(
                f"cohort.{key}", "a Poisson cohort is made by coins alone, and its price depends on their rate", "Remove it."
            )
        )
    return found


def tracking_problems(spec: TaskSpec) -> list[Problem]:
    """Norms that follow quantiles need noise that begins anew: every round, or with every tree."""
    privacy, found = spec.privacy, list[Problem]()
    asked = {"adaptive_clip": privacy.adaptive_clip, "adaptive_zeroing": privacy.adaptive_zeroing}
    for name in [key for key, value in asked.items() if value is not None]:
        if privacy.mechanism not in TRACKING_MECHANISMS:
            fault = f"{privacy.mechanism} noise is correlated over rounds and cancels only between sums of one scale"
            if privacy.mechanism == "none":
                fault = "without noise the bits of single devices would be released"
            found.append(Problem(f"privacy.{name}", fault, f"Remove it, or use one of {', '.join(TRACKING_MECHANISMS)}."))
        elif privacy.mechanism == "tree" and privacy.restart_every is None:
            fault = "under a tree norms can move only where a new tree begins"
            found.append(Problem(f"privacy.{name}", fault, "Add privacy.restart_every, or remove it."))
    return found


def scale_problems(spec: TaskSpec) -> list[Problem]:
    """A scale that follows sums needs a lane to fill."""
    aggregation, found = spec.aggregation, list[Problem]()
    if aggregation.scale == "fixed":
        return found
    if spec.privacy.mechanism not in DISTRIBUTED_MECHANISMS or not aggregation.secure:
        found.append(Problem("aggregation.scale", "only distributed noise has a scale", "Remove it, or use ddg or skellam."))
    if aggregation.bits is None:
        found.append(
            Problem(
                "aggregation.scale", "a lane that is chosen automatically fits its scale already", "Add bits, or remove it."
            )
        )
    if spec.groups > 1:
        found.append(
            Problem(
                "aggregation.scale", "what is released is the sum of all groups, a scale is of one", "Remove one of the two."
            )
        )
    return found


def cache_problems(spec: TaskSpec) -> list[Problem]:
    """Examples grow old only where they arrive."""
    cache = spec.data.cache
    if cache.arrival_days is not None or cache.longest_days == CacheSpec().longest_days:
        return []
    fault = "without arrival_days all examples are new in every round, and none would ever expire"
    return [Problem("data.cache.longest_days", fault, "Add data.cache.arrival_days, such as 90, or remove it.")]
