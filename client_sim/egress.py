"""The egress gate: what a device asks of a plan before it works for it, and of a message before it leaves.

A plan is refused, never mended: a device that does not understand what it is told stays at home.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, get_args

from client_sim.encoding import Encoder, encoder_of
from contract import plan
from contract.messages import Request, TaskAssignment


class Refusal(Enum):
    """Why a device does not work for a plan."""

    NOT_UNDERSTOOD = "not-understood"
    NOT_AGGREGATED = "not-aggregated"
    UNKNOWN_OUTPUT = "unknown-output"
    WRONG_LENGTH = "wrong-length"
    WRONG_MODEL = "wrong-model"
    WRONG_RUN = "wrong-run"
    BELOW_OWN_FLOOR = "below-own-floor"


@dataclass(frozen=True, slots=True, kw_only=True)
class DevicePolicy:
    """The device's own floors: it takes weaker parameters from nobody.

    Args:
      minimum_separation: fewest releases between two participations that it agrees to.
      trustworthiness_s: youngest record that it trusts.
      largest_clip_norm: largest influence on a sum that it agrees to.
      most_bytes: largest model it fetches.
    """

    minimum_separation: int = 0
    trustworthiness_s: float = 0.0
    largest_clip_norm: float = float("inf")
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
        encoder = encoder_of(decoded.encoding)
    except (ValueError, OverflowError, RecursionError):
        return Refusal.NOT_UNDERSTOOD
    refusal = (
        _outputs_fault(decoded, encoder)
        or _model_fault(assignment, decoded, encoder, policy)
        or (Refusal.WRONG_RUN if (decoded.run, decoded.leaf) != (run, leaf) else None)
        or (Refusal.BELOW_OWN_FLOOR if _clip_norm(decoded.encoding) > policy.largest_clip_norm else None)
    )
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
    if [output.name for output in decoded.outputs] != ["delta"]:
        return Refusal.UNKNOWN_OUTPUT
    return None if decoded.outputs[0].length == encoder.dimension else Refusal.WRONG_LENGTH


def _model_fault(assignment: TaskAssignment, decoded: plan.Plan, encoder: Encoder, policy: DevicePolicy) -> Refusal | None:
    model = assignment.model
    if model.num_bytes != 4 * encoder.dimension:
        return Refusal.WRONG_LENGTH
    if model.num_bytes > policy.most_bytes:
        return Refusal.BELOW_OWN_FLOOR
    return None if model.sha256 == decoded.model_digest else Refusal.WRONG_MODEL


def _clip_norm(encoding: Mapping[str, Any]) -> float:
    return float(encoding["clip_norm"])
