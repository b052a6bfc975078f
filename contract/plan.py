"""The plan a device receives: what to train, how to make it private, and what may leave the device.

Canonical JSON, so that its digest can be bound into signatures and entries. A device refuses a plan that it does not
understand, and one with an output that is not aggregated (the egress rule).
"""

import hashlib
import json
from dataclasses import dataclass
from typing import Any, cast

from contract import canonical
from contract.canonical import Json


@dataclass(frozen=True, slots=True, kw_only=True)
class Output:
    """A vector that leaves the device: its name, its length, and whether it leaves only inside an aggregate."""

    name: str
    length: int
    aggregated: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """`encoding` holds the parameters of the public grid (central) or of the distributed encoder, as the mechanism wrote them."""

    task: dict[str, Any]
    run: str
    round_index: int
    leaf: int
    model_digest: str
    encoding: dict[str, Json]
    outputs: tuple[Output, ...]


def rotation_seed(plan: Plan) -> bytes:
    """32 public bytes that all devices of a round, and the server, derive alike: the seed of the round's rotation.

    They depend on the run and the round alone, so they are drawn independently of every update.

    >>> plan = Plan(task={}, run="r", round_index=1, leaf=0, model_digest="", encoding={}, outputs=())
    >>> len(rotation_seed(plan))
    32
    """
    return rotation_seed_of(plan.run, plan.round_index)


def rotation_seed_of(run: str, round_index: int) -> bytes:
    """`rotation_seed` of any plan of this round."""
    facts: dict[str, Json] = {"purpose": "tutti rotation", "run": run, "round_index": round_index}
    return hashlib.sha256(canonical.encode(facts)).digest()


def encode(plan: Plan) -> bytes:
    """The canonical bytes of `plan`."""
    return canonical.encode(canonical.plain(plan))


def decode(text: bytes) -> Plan:
    """The plan in `text`.

    Raises:
      ValueError: if it is no plan.
    """
    try:
        body = cast(dict[str, Any], json.loads(text))
        outputs = tuple(Output(**output) for output in body.pop("outputs"))
        decoded = Plan(outputs=outputs, **body)
    except (TypeError, KeyError, AttributeError, RecursionError, json.JSONDecodeError) as error:
        raise ValueError(f"no plan: {error}") from None
    _check_types(decoded, {"task": dict, "run": str, "round_index": int, "leaf": int, "model_digest": str, "encoding": dict})
    for output in decoded.outputs:
        _check_types(output, {"name": str, "length": int, "aggregated": bool})
    return decoded


def _check_types(value: Plan | Output, types: dict[str, type]) -> None:
    """Raises ValueError: who wrote the bytes is not trusted to have written what the fields say; a truth value is no number."""
    for name, wanted in types.items():
        if type(getattr(value, name)) is not wanted:
            raise ValueError(f"no plan: {name} is no {wanted.__name__}")
