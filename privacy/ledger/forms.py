"""The form of every released entry: which fields a body must have. Reading is strict, so that a verifier overlooks nothing."""

import json
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, cast

from contract import canonical
from privacy.ledger.entries import FORMAT, EntryKind

_TEXT, _WHOLE, _OBJECT, _LIST, _FLAG = str, int, dict, list, bool
_NOTHING = type(None)

_SHARED: Mapping[str, tuple[type, ...]] = MappingProxyType({"population": (_TEXT,), "run": (_TEXT,)})
_FIELDS: Mapping[EntryKind, Mapping[str, tuple[type, ...]]] = MappingProxyType(
    {
        EntryKind.RUN_REGISTERED: {
            "task": (_OBJECT,), "task_digest": (_TEXT,), "code_digest": (_TEXT,), "planned": (_OBJECT,), "seeded": (_LIST,),
            "facts": (_OBJECT,),
        },
        EntryKind.ROUND_CHARGED: {"round": (_WHOLE,), "leaf": (_WHOLE,), "event": (_OBJECT,), "floor": (_WHOLE,)},
        EntryKind.ROUND_OUTCOME: {"round": (_WHOLE,), "leaf": (_WHOLE,), "result": (_TEXT,)},
        EntryKind.MODEL_RELEASED: {"round": (_WHOLE,), "model_digest": (_TEXT,), "to": (_TEXT,)},
        EntryKind.PARAMETER_TUNED: {
            "run": (_TEXT, _NOTHING), "parameter": (_TEXT,), "value": (_TEXT,), "statistic": (_TEXT,), "event": (_OBJECT, _NOTHING),
            "reason": (_TEXT,),
        },
        EntryKind.AUDIT_RECORDED: {
            "model_digest": (_TEXT,), "method": (_TEXT,), "measured": (_OBJECT,), "bound": (_OBJECT,), "passed": (_FLAG,),
            "evidence": (_TEXT,),
        },
        EntryKind.BUDGET_SET: {"run": (_NOTHING,), "budget": (_OBJECT, _NOTHING), "reason": (_TEXT,), "by": (_TEXT,)},
        EntryKind.KEY_ROTATED: {
            "population": (_NOTHING,), "run": (_NOTHING,), "retired": (_TEXT,), "current": (_TEXT,), "endorsement": (_TEXT,),
            "reason": (_TEXT,),
        },
        EntryKind.APPROVAL_REQUIRED: {"run": (_NOTHING,), "required": (_FLAG,), "reason": (_TEXT,), "by": (_TEXT,)},
        EntryKind.APPROVAL: {
            "run": (_TEXT, _NOTHING), "what": (_TEXT,), "model_digest": (_TEXT, _NOTHING), "by": (_TEXT,), "decision": (_TEXT,),
        },
        EntryKind.SECAGG_TRANSCRIPT: {"round": (_WHOLE,), "group": (_WHOLE,), "transcript": (_TEXT,), "facts": (_OBJECT,)},
        EntryKind.ASSUMPTION_CHECKED: {
            "assumption": (_TEXT,), "status": (_TEXT,), "measured": (_OBJECT,), "evidence": (_TEXT,),
        },
    }
)  # fmt: skip
_RESULTS: Mapping[str, Mapping[str, tuple[type, ...]]] = MappingProxyType(
    {
        "committed": {"event": (_OBJECT,), "reported": (_WHOLE,), "model_digest": (_TEXT,)},
        "abandoned": {"reason": (_TEXT,), "leaf_used": (_FLAG,)},
    }
)


def read(body: bytes) -> dict[str, Any]:
    """The fields of an entry.

    Raises:
      ValueError: unless the bytes are canonical JSON of a released format with every field of its kind.

    >>> read(b'{"format":1,"kind":"budget-set","budget":null,"by":"x","population":"p","reason":"r"}')
    Traceback (most recent call last):
    ValueError: not canonical JSON
    """
    try:
        value = json.loads(body, parse_float=_refuse, parse_constant=_refuse)
    except ValueError as error:
        raise ValueError(f"no JSON as entries have it: {error}") from None
    if not isinstance(value, dict) or not _is_canonical(cast(canonical.Json, value), body):
        raise ValueError("not canonical JSON")
    facts = cast(dict[str, Any], value)
    if facts.get("format") != FORMAT:
        raise ValueError(f"an entry of format {facts.get('format')!r}, which this version does not know")
    try:
        kind = EntryKind(facts.get("kind"))
    except ValueError:
        raise ValueError(f"an entry of kind {facts.get('kind')!r}, which this version does not know") from None
    _check(facts, {**_SHARED, **_FIELDS[kind]}, kind)
    if kind is EntryKind.PARAMETER_TUNED and "covered_by" in facts:
        _check(facts, {"run": (_TEXT,), "covered_by": (_WHOLE,), "event": (_NOTHING,)}, kind)
    if kind is EntryKind.ROUND_OUTCOME:
        if facts["result"] not in _RESULTS:
            raise ValueError(f"an outcome is committed or abandoned, not {facts['result']!r}")
        _check(facts, _RESULTS[facts["result"]], kind)
    return facts


def _check(facts: Mapping[str, Any], fields: Mapping[str, tuple[type, ...]], kind: EntryKind) -> None:
    for name, types in fields.items():
        value = facts.get(name)
        fits = type(value) in types and (name in facts or name == "run")
        if not fits:
            raise ValueError(f"{name} of a {kind.value} entry is {'missing' if name not in facts else type(value).__name__}")


def _is_canonical(value: canonical.Json, body: bytes) -> bool:
    # What the standard library writes in ASCII is RFC 8785 where there are no floats, and it is fast.
    if body.isascii() and json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode() == body:
        return True
    try:
        return canonical.encode(value) == body
    except ValueError:
        return False


def _refuse(number: str) -> float:
    raise ValueError(f"the number {number} is no integer")
