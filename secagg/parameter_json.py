"""Parameters as JSON, as a plan carries them to devices, and the context that server and device derive from the same plan."""

from collections.abc import Mapping
from typing import Any

from contract import canonical
from contract.canonical import Json
from secagg.context import Context
from secagg.parameters import MaskCipher, Parameters, Vector, VectorKind


def to_json(parameters: Parameters) -> Json:
    """Canonical-ready JSON; fractions are decimal strings.

    >>> update = Vector(name="update", length=5, lane_bits=8, largest=4)
    >>> chosen = Parameters(roster_size=5, minimum_roster=5, minimum_survivors=4, degree=4, threshold=4, corrupt_fraction=0.0,
    ...                     drop_fraction=0.1, vectors=(update,))
    >>> from_json(to_json(chosen)) == chosen
    True
    """
    return canonical.plain(parameters)


def from_json(body: Any) -> Parameters:
    """The parameters that `to_json` wrote.

    Raises:
      ValueError: for anything else.
    """
    try:
        vectors = tuple(
            Vector(
                name=vector["name"],
                length=_whole(vector["length"]),
                lane_bits=_whole(vector["lane_bits"]),
                kind=VectorKind(vector["kind"]),
                largest=_whole(vector["largest"]),
            )
            for vector in body["vectors"]
        )
        return Parameters(
            roster_size=_whole(body["roster_size"]),
            minimum_roster=_whole(body["minimum_roster"]),
            minimum_survivors=_whole(body["minimum_survivors"]),
            degree=_whole(body["degree"]),
            threshold=_whole(body["threshold"]),
            corrupt_fraction=float(body["corrupt_fraction"]),
            drop_fraction=float(body["drop_fraction"]),
            vectors=vectors,
            cipher=MaskCipher(body["cipher"]),
        )
    except (KeyError, TypeError, AttributeError, OverflowError) as error:
        raise ValueError(f"no parameters of secure aggregation: {error}") from None


def group_round_id(run: str, round_index: int, *, group: int, groups: int) -> str:
    """What a group's context calls its round: no two groups have the same, so that the masks of one mean nothing in another.

    Raises:
      ValueError: for a group that there is not.

    >>> group_round_id("r", 3, group=0, groups=1), group_round_id("r", 3, group=1, groups=2)
    ('r/3', 'r/3/1')
    """
    if not 0 <= group < groups:
        raise ValueError(f"group must lie in [0, {groups}), not {group}")
    return f"{run}/{round_index}" + (f"/{group}" if groups > 1 else "")


def context_of(facts: Mapping[str, Any], *, round_id: str, model_digest: str, config_digest: str) -> Context:
    """The context of a round from its plan.

    Args:
      facts: `parameters` as `to_json` wrote them, `ledger_checkpoint` and `epoch`.
      config_digest: of the whole plan, so that a device signs all that decides what it computes.

    Raises:
      ValueError: for facts that make no context.
    """
    try:
        checkpoint, epoch = str(facts["ledger_checkpoint"]), _whole(facts["epoch"])
        parameters = from_json(facts["parameters"])
    except (KeyError, TypeError) as error:
        raise ValueError(f"no context of secure aggregation: {error}") from None
    return Context(
        round_id=round_id,
        model_digest=model_digest,
        config_digest=config_digest,
        ledger_checkpoint=checkpoint,
        epoch=epoch,
        parameters=parameters,
    )


def _whole(value: Any) -> int:
    """Integers only: 4.5 would pass every comparison that a threshold has to pass."""
    if type(value) is not int:
        raise ValueError(f"an integer is expected, not {value!r}")
    return value
