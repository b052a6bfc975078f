"""The context that the server's side of a secure round is bound to: what it says, derived from the plan that it sends."""

import hashlib
from typing import Any, cast

from contract import plan as plans
from secagg import Context
from secagg.parameter_json import context_of, group_round_id


def secure_context(plan: bytes, group: int = 0) -> Context:
    """The context of a group of the round whose devices get this plan; each of them derives it from the same bytes.

    Raises:
      ValueError: for a plan without secure aggregation.
    """
    decoded = plans.decode(plan)
    facts = decoded.encoding.get("secagg")
    if not isinstance(facts, dict):
        raise ValueError("this plan has no secure aggregation")
    told = cast(dict[str, Any], facts)
    return context_of(
        told,
        round_id=group_round_id(decoded.run, decoded.round_index, group=group, groups=int(told.get("groups", 1))),
        model_digest=decoded.model_digest,
        config_digest=hashlib.sha256(plan).hexdigest(),
    )
