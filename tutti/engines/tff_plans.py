"""What TensorFlow Federated is asked to do for a task, what that costs, and what it cannot do.

The cost is computed from the numbers that TFF runs with, by our accountant: TFF records no event for trees and for distributed noise.
Notation follows arXiv:2102.06387v4: clip norm c, scale s, n devices, z the noise multiplier.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from contract.canonical import Json
from contract.collusion import colluding_devices
from contract.errors import Problem
from contract.task import TaskSpec
from privacy import adaptive_clip, distributed_plans, events, tree_sensitivity
from privacy.distributed import DistributedPlan
from privacy.events import DistributedEvent, Event, GaussianEvent, Law, TreeEvent, UnboundedEvent

MODELS = ("mlp", "next_word", "next_word_small", "text_selection")
MECHANISMS = ("none", "tree", "gaussian", "ddg", "skellam")
OPTIMIZERS = ("sgd", "adam", "yogi")
MOST_BITS, DEFAULT_BITS = 22, 20
NORM_LEEWAY = 1e-5
"""What TFF adds to the norm after rounding before it checks it, in units of the update."""
LARGEST_SCALE = 1e6
UNCLIPPED_NORM = 64.0
"""What a secure sum without a mechanism is bounded by."""


def problems(spec: TaskSpec, *, weighted: bool) -> list[Problem]:
    """What of `spec` TensorFlow Federated cannot do, or what would be promised in vain."""
    privacy, found = spec.privacy, list[Problem]()

    def refuse(path: str, message: str, cure: str) -> None:
        found.append(Problem(path, f"the engine tff {message}", cure))

    if spec.model.name not in MODELS:
        refuse("model.name", f"has no model {spec.model.name!r}", f"Use one of {', '.join(MODELS)}, or our own engine.")
    if privacy.mechanism not in MECHANISMS:
        refuse("privacy.mechanism", f"has no {privacy.mechanism}", f"Use one of {', '.join(MECHANISMS)}, or our own engine.")
    if privacy.sampling != "none":
        refuse("privacy.sampling", "is given its cohorts and samples nobody", "Remove it, or use our own engine.")
    if privacy.metrics is not None:
        refuse("privacy.metrics", "carries no metrics inside the noised sum", "Remove it, or use our own engine.")
    if privacy.adaptive_zeroing is not None:
        refuse("privacy.adaptive_zeroing", "zeroes no update", "Remove it, or use our own engine.")
    if spec.aggregation.scale != "fixed":
        refuse("aggregation.scale", "keeps one scale", "Remove it, or use our own engine.")
    if weighted and privacy.mechanism != "none":
        refuse(
            "privacy.mechanism", "weighs by examples only where no noise is calibrated to equal weights", "Use --engine tff."
        )
    if spec.server.optimizer not in OPTIMIZERS:
        refuse("server.optimizer", f"runs no {spec.server.optimizer} as ours does", f"Use one of {', '.join(OPTIMIZERS)}.")
    if spec.aggregation.bits is not None and spec.aggregation.bits > MOST_BITS:
        refuse("aggregation.bits", f"adds in at most {MOST_BITS} bits", f"Use at most {MOST_BITS}.")
    if spec.aggregation.group_size is not None:
        refuse("aggregation.group_size", "splits no cohort", "Remove it, or use our own engine.")
    adaptive = privacy.adaptive_clip
    if adaptive is not None and privacy.mechanism not in ("tree", "gaussian"):
        refuse("privacy.adaptive_clip", "moves the clip norm of tree and gaussian only", "Remove it.")
    if adaptive is not None and privacy.mechanism == "tree" and (privacy.restart_every is None or not privacy.honaker):
        refuse(
            "privacy.restart_every", "moves the clip norm of a tree at its restarts only, with Honaker's estimator", "Add it."
        )
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class TffPlan:
    """An aggregation as TFF is asked for it, and its price.

    Args:
      asked: for the engine's process (`tff_engine.aggregators`).
      distributed: of a task with noise on the devices: the encoder whose numbers TFF runs with.
    """

    spec: TaskSpec
    asked: Mapping[str, Any] = field(repr=False)
    distributed: DistributedPlan | None = None

    @property
    def private(self) -> bool:
        """Whether anything is promised."""
        return not isinstance(self.event([self.spec.minimum_survivors] * self.spec.rounds), UnboundedEvent)

    def event(self, history: Sequence[int], *, corrupt: int = 0) -> Event:
        """What the leaves of `history` released, one number of contributions each, of whom `corrupt` show their noise."""
        privacy, cohort = self.spec.privacy, self.spec.cohort
        if privacy.mechanism == "none" or not privacy.noise_multiplier:
            return UnboundedEvent(reason="no noise was added")
        if self.distributed is not None:
            return _distributed_event(self.distributed, history, corrupt)
        release: TreeEvent | GaussianEvent
        if privacy.mechanism == "tree":
            release = TreeEvent(
                noise_multiplier=privacy.noise_multiplier,
                leaves=len(history),
                minimum_separation=cohort.minimum_separation,
                max_participations=cohort.max_participations,
                restart_every=privacy.restart_every,
                law=Law.FLOATING_POINT,
            )
        else:
            release = GaussianEvent(
                noise_multiplier=privacy.noise_multiplier,
                releases=len(history),
                minimum_separation=cohort.minimum_separation,
                max_participations=cohort.max_participations,
                law=Law.FLOATING_POINT,
            )
        if privacy.adaptive_clip is None:
            return release
        vectors, bits = _adaptive_noise(self.spec)
        return adaptive_clip.combined(release, vector_multiplier=vectors, bit_noises=[bits])

    def claims(self, history: Sequence[int]) -> dict[str, dict[str, Json]]:
        """`event`, and `colluding` where some devices may show their noise, as they stand in entries."""
        corrupt = 0 if self.distributed is None else self.distributed.corrupt
        colluding = {"colluding": events.to_json(self.event(history, corrupt=corrupt))} if corrupt else {}
        return {"event": events.to_json(self.event(history)), **colluding}

    def expected(self) -> dict[str, float]:
        """What TFF must measure of itself if it runs with the numbers that are accounted."""
        if self.distributed is None:
            return {}
        found = self.distributed
        return {
            "scale_factor": found.scale,
            "scaled_inflated_l2": math.sqrt(squared_norm(found)),
            "scaled_local_stddev": found.local_sigma,
            "padded_dim": float(found.padded_dimension),
        }


def plan(spec: TaskSpec, *, dimension: int, weighted: bool, noise_seed: int) -> TffPlan:
    """What TFF is asked to do for a task that `problems` finds nothing wrong with.

    Args:
      noise_seed: 63 secret bits, of which the noise of a tree is expanded.

    Raises:
      ValueError: for lanes that no sum fits.
    """
    privacy, clients = spec.privacy, spec.cohort.report_goal
    common: dict[str, Any] = {"clip_norm": privacy.clip_norm, "noise_multiplier": privacy.noise_multiplier, "clients": clients}
    if spec.aggregation.secure and privacy.mechanism == "none":
        return TffPlan(spec=spec, asked={"kind": "secure", "clip_norm": privacy.clip_norm or UNCLIPPED_NORM})
    if spec.aggregation.secure:
        return _distributed(spec, dimension, common)
    if privacy.mechanism == "none":
        return TffPlan(spec=spec, asked={"kind": "weighted" if weighted else "none", "clip_norm": privacy.clip_norm})
    tree = {"honaker": privacy.honaker, "restart_every": privacy.restart_every, "noise_seed": noise_seed}
    asked = {"kind": privacy.mechanism, **common, **(tree if privacy.mechanism == "tree" else {})}
    if privacy.adaptive_clip is not None:
        vectors, bits = _adaptive_noise(spec)
        asked |= {
            "kind": f"{privacy.mechanism}_adaptive",
            "value_noise_multiplier": vectors,
            "bit_noise": bits,
            "target_quantile": privacy.adaptive_clip.target_quantile,
            "quantile_learning_rate": privacy.adaptive_clip.learning_rate,
        }
    return TffPlan(spec=spec, asked=asked)


def _adaptive_noise(spec: TaskSpec) -> tuple[float, float]:
    """The vectors' multiplier and the deviation of the noise on the sum of bits."""
    adaptive, privacy = spec.privacy.adaptive_clip, spec.privacy
    given = None if adaptive is None else adaptive.bit_noise_multiplier
    bits = spec.cohort.report_goal / adaptive_clip.DEFAULT_BIT_SHARE if given is None else given
    return adaptive_clip.vector_noise_multiplier(privacy.noise_multiplier or 0.0, [bits]), bits


def _distributed(spec: TaskSpec, dimension: int, common: Mapping[str, Any]) -> TffPlan:
    """TFF spreads its noise over n expected devices; it is asked for so much that the fewest honest survivors still add up to z c."""
    privacy, n = spec.privacy, spec.cohort.report_goal
    corrupt = colluding_devices(spec.aggregation.corrupt_fraction, n)
    if spec.minimum_survivors <= corrupt:
        raise ValueError(f"minimum_survivors must exceed the {corrupt} corrupt devices, not be {spec.minimum_survivors}")
    raised = (privacy.noise_multiplier or 0.0) * math.sqrt(n / (spec.minimum_survivors - corrupt))
    bits = spec.aggregation.bits or DEFAULT_BITS
    beta = math.exp(-0.5) if privacy.beta is None else privacy.beta
    found = distributed_plans.plan(
        mechanism="ddg",  # the scale that both mechanisms share; ours bounds Skellam's further
        dimension=dimension,
        clip_norm=privacy.clip_norm or 0.0,
        noise_multiplier=raised,
        devices=n,
        bits=bits,
        beta=beta,
        minimum_separation=spec.cohort.minimum_separation,
        max_participations=spec.cohort.max_participations,
        largest_block=1 << 30,
    )
    scale = min(found.scale, LARGEST_SCALE)
    as_run = dataclasses.replace(
        found,
        mechanism=privacy.mechanism,
        scale=scale,
        local_sigma=scale * raised * found.clip_norm / math.sqrt(n),
        minimum_survivors=spec.minimum_survivors,
        corrupt=corrupt,
    )
    asked = {
        **common,
        "kind": "distributed",
        "noise_multiplier": raised,
        "bits": bits,
        "beta": beta,
        "mechanism": privacy.mechanism,
    }
    return TffPlan(spec=spec, asked=asked, distributed=as_run)


def squared_norm(found: DistributedPlan) -> int:
    """The largest squared integer norm that TFF lets pass: the norm after rounding and a leeway of 10^-5."""
    return math.floor((math.sqrt(found.squared_norm) + NORM_LEEWAY * found.scale) ** 2)


def drawn_sigma(found: DistributedPlan) -> float:
    """The deviation of the noise that TFF draws: its discrete Gaussian takes whole deviations only, and rounds up."""
    return float(math.ceil(found.local_sigma)) if found.mechanism == "ddg" else found.local_sigma


def _distributed_event(found: DistributedPlan, history: Sequence[int], corrupt: int) -> DistributedEvent:
    times = tree_sensitivity.most_participations(
        leaves=len(history), minimum_separation=found.minimum_separation, max_participations=found.max_participations
    )
    return DistributedEvent(
        mechanism=found.mechanism,
        dimension=found.padded_dimension,
        squared_norm=squared_norm(found),
        local_sigma=drawn_sigma(found),
        contributors=tuple(sorted(max(0, count - corrupt) for count in history)[:times]),
        participations=times,
    )
