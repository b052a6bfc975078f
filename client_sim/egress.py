"""The egress gate: what a device asks of a plan before it works for it, and of a message before it leaves.

A plan is refused, never mended: a device that does not understand what it is told stays at home.
"""

import math
from dataclasses import dataclass
from enum import Enum
from typing import get_args

from client_sim.encoding import DistributedEncoder, Encoder, GridEncoder, encoder_of
from contract import plan
from contract.messages import Request, TaskAssignment
from privacy.distributed import DistributedPlan


class Refusal(Enum):
    """Why a device does not work for a plan."""

    NOT_UNDERSTOOD = "not-understood"
    NOT_AGGREGATED = "not-aggregated"
    UNKNOWN_OUTPUT = "unknown-output"
    WRONG_LENGTH = "wrong-length"
    WRONG_MODEL = "wrong-model"
    WRONG_RUN = "wrong-run"
    BELOW_OWN_FLOOR = "below-own-floor"
    TOO_LITTLE_NOISE = "too-little-noise"


@dataclass(frozen=True, slots=True, kw_only=True)
class DevicePolicy:
    """The device's own floors: it takes weaker parameters from nobody.

    Args:
      minimum_separation: fewest releases between two participations that it agrees to.
      trustworthiness_s: youngest record that it trusts.
      most_participations: its own cap in one population; a server may say fewer. None takes the server's word, which may be no cap at all.
      largest_clip_norm: largest influence on a sum that it agrees to.
      least_noise_multiplier: under secure aggregation, the least noise of the fewest honest survivors' sum, in units of the norm that
        an update can have after rounding (its true sensitivity, which is above the clip norm), as the accountant prices it.
      most_bytes: largest model it fetches.
    """

    minimum_separation: int = 0
    trustworthiness_s: float = 0.0
    most_participations: int | None = None
    largest_clip_norm: float = float("inf")
    least_noise_multiplier: float = 0.0
    most_bytes: int = 1 << 30


@dataclass(frozen=True, slots=True, eq=False)
class CheckedPlan:
    """A plan that the device works for."""

    plan: plan.Plan
    encoder: Encoder


def check_plan(assignment: TaskAssignment, *, run: str, leaf: int, policy: DevicePolicy) -> CheckedPlan | Refusal:
    """The plan of `assignment`, or why the device refuses it.

    Guarantee: in a checked plan everything that leaves the device leaves only inside an aggregate, is an encoded update within the
    plan's norm, and belongs to the run and release that the device's record was asked about.
    """
    try:
        decoded = plan.decode(assignment.plan)
        encoder = encoder_of(decoded)
        refusal = (
            _outputs_fault(decoded, encoder)
            or _model_fault(assignment, decoded, encoder, policy)
            or (Refusal.WRONG_RUN if (decoded.run, decoded.leaf) != (run, leaf) else None)
            or _floor_fault(encoder, policy)
            or _unprotected(assignment, decoded, encoder)
        )
    except (ValueError, TypeError, LookupError, ArithmeticError, AttributeError, RecursionError):
        return Refusal.NOT_UNDERSTOOD  # whatever a server wrote costs the other devices of the process nothing
    return refusal or CheckedPlan(decoded, encoder)


def may_leave(message: object) -> bool:
    """Whether `message` is one of the protocol's own.

    >>> may_leave({"text": "anything else"})
    False
    """
    return type(message) in get_args(Request)


def _outputs_fault(decoded: plan.Plan, encoder: Encoder) -> Refusal | None:
    if any(output.aggregated is not True for output in decoded.outputs):
        return Refusal.NOT_AGGREGATED
    lengths = encoder.outputs
    if [output.name for output in decoded.outputs] != list(lengths):
        return Refusal.UNKNOWN_OUTPUT
    return None if all(lengths[output.name] == output.length for output in decoded.outputs) else Refusal.WRONG_LENGTH


def _unprotected(assignment: TaskAssignment, decoded: plan.Plan, encoder: Encoder) -> Refusal | None:
    """Noise for a sum protects nobody whose own vector can be read: such a plan must have secure aggregation."""
    secure = isinstance(decoded.encoding.get("secagg"), dict)
    return Refusal.NOT_AGGREGATED if isinstance(encoder, DistributedEncoder) and not (secure and assignment.secure) else None


def _model_fault(assignment: TaskAssignment, decoded: plan.Plan, encoder: Encoder, policy: DevicePolicy) -> Refusal | None:
    model = assignment.model
    if model.num_bytes != 4 * encoder.dimension:
        return Refusal.WRONG_LENGTH
    if max(model.num_bytes, 4 * encoder.encoded_dimension) > policy.most_bytes:
        return Refusal.BELOW_OWN_FLOOR
    return None if model.sha256 == decoded.model_digest else Refusal.WRONG_MODEL


def _floor_fault(encoder: Encoder, policy: DevicePolicy) -> Refusal | None:
    # What one update can do to the model is bounded by the round's clip as well as by the encoder's.
    if encoder.norms is not None and not encoder.norms.clip_norm <= policy.largest_clip_norm:
        return Refusal.BELOW_OWN_FLOOR
    match encoder:
        case GridEncoder(grid=grid):
            return Refusal.BELOW_OWN_FLOOR if not grid.clip_norm <= policy.largest_clip_norm else None
        case DistributedEncoder():
            if not encoder.plan.clip_norm <= policy.largest_clip_norm:
                return Refusal.BELOW_OWN_FLOOR
            if any(true_noise_multiplier(chosen) < policy.least_noise_multiplier for _, chosen in encoder.vectors):
                return Refusal.BELOW_OWN_FLOOR
            return None if all(noise_suffices(chosen) for _, chosen in encoder.vectors) else Refusal.TOO_LITTLE_NOISE
        case _:
            return Refusal.NOT_UNDERSTOOD


def true_noise_multiplier(distributed: DistributedPlan) -> float:
    """The noise of the fewest honest survivors' sum as our own accountant prices it; 0 where nobody honest is left or no price is proved.

    In units of the norm that an update can have after rounding. Never from the plan's stated deviation alone: below about one unit the
    discrete Gaussian is much narrower than it says, and at 0.15 nearly always 0.

    >>> from privacy import ddg
    >>> coarse = ddg.plan(dimension=4096, clip_norm=1.0, noise_multiplier=1.0, devices=100, bits=9, minimum_survivors=80)
    >>> 0.5 < true_noise_multiplier(coarse) < 0.8
    True
    """
    return distributed.guaranteed_multiplier


def noise_suffices(distributed: DistributedPlan) -> bool:
    """Whether one device's noise is what the fewest honest survivors need: sigma_loc >= s z c / sqrt(u_min - k), at a price.

    The device computes it again: a server that states less than it promises is refused. Source: NUMBERS.md section 3.

    >>> from privacy import ddg
    >>> noise_suffices(ddg.plan(dimension=8, clip_norm=1.0, noise_multiplier=1.0, devices=10, bits=16, minimum_survivors=8))
    True
    """
    if distributed.honest < 1:
        return False
    if distributed.noise_multiplier == 0:
        return True
    needed = distributed.scale * distributed.noise_multiplier * distributed.clip_norm / math.sqrt(distributed.honest)
    return distributed.local_sigma >= needed * (1 - 1e-9) and true_noise_multiplier(distributed) > 0
