"""Whether a report follows from the entries that it names: it is made again, and every value is compared."""

from collections.abc import Iterator, Sequence
from typing import Any, cast

from privacy.report import report as reports


def check(given: dict[str, Any], bodies: Sequence[bytes]) -> list[str]:
    """Where a report differs from what its entries give, as paths with both values; empty if it follows.

    Args:
      given: a report, as JSON.
      bodies: the entries of its run (or population), in order. Later ones than the report knew are passed over.

    Raises:
      ValueError: if the report is of no kind that is known, or the entries are not of its subject.
    """
    count = int(given["entries"]["count"])
    known = bodies[:count]
    match given["subject"]["kind"]:
        case "run":
            made = reports.run_report(known)
        case "model":
            digest = given["subject"]["model_digest"]
            made = reports.model_report(reports.model_bodies(bodies, digest)[:count], digest)
        case "plan":
            made = reports.planned_report(known[0])
        case "population":
            made = reports.population_report(known, given["subject"]["population"], delta=given["joint"]["delta"])
        case other:
            raise ValueError(f"a report of a {other!r}, which nobody makes")
    made["entries"]["checkpoint"] = given["entries"].get("checkpoint")
    made["accounting"]["version"] = given["accounting"].get("version")
    return list(_differences(given, made, ""))


def _differences(given: object, made: object, path: str) -> Iterator[str]:
    if isinstance(given, dict) and isinstance(made, dict):
        left, right = cast(dict[str, Any], given), cast(dict[str, Any], made)
        for key in sorted({*left, *right}):
            if key not in left or key not in right:
                yield f"{path}.{key} is {'missing' if key not in left else 'not in what the entries give'}".lstrip(".")
            else:
                yield from _differences(left[key], right[key], f"{path}.{key}".lstrip("."))
    elif isinstance(given, list) and isinstance(made, list) and len(cast(list[Any], given)) == len(cast(list[Any], made)):
        for place, (one, other) in enumerate(zip(cast(list[Any], given), cast(list[Any], made), strict=True)):
            yield from _differences(one, other, f"{path}[{place}]")
    elif given != made:
        yield f"{path} is {given!r}, and the entries give {made!r}"
