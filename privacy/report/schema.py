"""The JSON Schema (2020-12) of reports. Fields are only ever added."""

from typing import Any

_NUMBER: dict[str, Any] = {"type": ["number", "null"]}
_TEXT: dict[str, Any] = {"type": "string"}
_MAYBE_TEXT: dict[str, Any] = {"type": ["string", "null"]}
_COUNT: dict[str, Any] = {"type": "integer", "minimum": 0}
_OBJECT: dict[str, Any] = {"type": "object"}
_HASH: dict[str, Any] = {"type": "string", "pattern": "^[0-9a-f]{64}$"}
_LINES: dict[str, Any] = {"type": "array", "items": _TEXT}


def json_schema() -> dict[str, Any]:
    """The schema that every report follows: of a run, a model or a plan, or of a population.

    >>> json_schema()["$schema"]
    'https://json-schema.org/draft/2020-12/schema'
    """
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Privacy report",
        "oneOf": [_run(), _population()],
    }


def _run() -> dict[str, Any]:
    return _closed(
        {
            "format": {"const": 1},
            "subject": _closed(
                {
                    "kind": {"enum": ["run", "model", "plan"]}, "run": _TEXT, "task": _MAYBE_TEXT, "population": _TEXT,
                    "model_digest": _MAYBE_TEXT,
                }
            ),
            "first_lines": _LINES,
            "guarantee": _guarantee(),
            "setting": _closed(
                {
                    "model": _TEXT, "trust": _LINES, "noise_added_by": {"enum": ["devices", "server", "nobody"]},
                    "secure_aggregation": {"type": "boolean"}, "population": _TEXT, "simulated": {"type": "boolean"},
                    "devices": {"type": ["integer", "null"]},
                }
            ),
            "accesses": _array(
                _closed({"access": _TEXT, "covered": {"type": "boolean"}, "cost": {"anyOf": [{"type": "null"}, _OBJECT]}})
            ),
            "released": _closed(
                {
                    "what": _TEXT, "rounds": _COUNT, "charged_without_model": {"type": "integer"}, "final_model": _MAYBE_TEXT,
                    "releases": _array(_OBJECT), "approvals": _array(_OBJECT),
                }
            ),
            "definition": _closed({"unit": _TEXT, "unit_means": _TEXT, "adjacency": _TEXT, "adjacency_means": _TEXT}),
            "contributions": _closed({"planned": _OBJECT, "observed": _OBJECT}),
            "mechanism": _closed(
                {
                    "name": _TEXT, "noise_multiplier": _MAYBE_TEXT, "clip_norm": _MAYBE_TEXT,
                    "event": {"type": ["object", "null"]}, "planned_event": _OBJECT,
                }
            ),
            "accounting": _accounting(),
            "assumptions": _array(
                _closed(
                    {
                        "name": _TEXT, "text": _TEXT, "status": {"enum": ["enforced", "checked", "assumed", "violated"]},
                        "evidence": _TEXT,
                    }
                )
            ),
            "audits": _array(_OBJECT),
            "transparency": _closed(
                {
                    "code_digest": _TEXT, "task_digest": _TEXT, "task": _OBJECT, "seeded": _LINES, "start_model": _MAYBE_TEXT,
                    "reproduce": _TEXT,
                }
            ),
            "data_minimisation": _closed(
                {"collected": _LINES, "stays_on_the_device": _LINES, "aggregated": _TEXT, "retained": _OBJECT}
            ),
            "entries": _entries(known_head={"anyOf": [{"type": "null"}, _closed({"size": _COUNT, "root": _HASH})]}),
        }
    )  # fmt: skip


def _population() -> dict[str, Any]:
    budget = _closed({"epsilon": {"type": "number"}, "delta": {"type": "number"}})
    return _closed(
        {
            "format": {"const": 1},
            "subject": _closed({"kind": {"const": "population"}, "population": _TEXT, "runs": _COUNT}),
            "first_lines": _LINES,
            "joint": _closed(
                {"epsilon": _NUMBER, "delta": _NUMBER, "obstacle": _MAYBE_TEXT, "runs_counted": _COUNT, "claim": _TEXT}
            ),
            "budget": _closed({"current": {"anyOf": [{"type": "null"}, budget]}, "changes": _array(_OBJECT)}),
            "runs": _array(_closed({"run": _TEXT, "task": _MAYBE_TEXT, "guarantee": _guarantee(), "first_lines": _LINES})),
            "accounting": _accounting(),
            "entries": _entries(),
        }
    )


def _guarantee() -> dict[str, Any]:
    claim = {
        "rho": _NUMBER,
        "epsilon": _NUMBER,
        "delta": _NUMBER,
        "conversion": _MAYBE_TEXT,
        "epsilons": {"type": "object", "additionalProperties": _NUMBER},
    }
    return _closed(
        {
            **claim,
            "unit": _TEXT,
            "adjacency": _TEXT,
            "tier": _TEXT,
            "statement": _TEXT,
            "colluding": {"anyOf": [{"type": "null"}, _closed(claim)]},
            "group": _closed({"devices": _COUNT, **claim}),
            "remarks": _LINES,
        }
    )


def _accounting() -> dict[str, Any]:
    return _closed({"accountant": _TEXT, "library": _TEXT, "version": _TEXT, "conversions": _OBJECT, "amplification": _TEXT})


def _entries(**more: dict[str, Any]) -> dict[str, Any]:
    return _closed({"count": _COUNT, "digest": _HASH, "checkpoint": _MAYBE_TEXT, **more})


def _array(items: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": items}


def _closed(properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": sorted(properties), "additionalProperties": False}
