"""Hyperparameter search whose privacy is accounted: a random number of trial runs, of which only the best settings are told.

Trials run in stores that are deleted: their models, their scores and how many there were are never shown, since the price
(`privacy.selection`) is that of looking at the best alone. The ledger of the real store gets one entry, before the settings are told.
"""

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import yaml

from contract import task
from contract.canonical import decimal_up
from contract.entropy import Entropy
from contract.errors import ErrorCode, TuttiError
from contract.task import TaskSpec
from privacy import accounting, events, selection
from privacy.events import BandedEvent, BltEvent, DistributedEvent, GaussianEvent, SelectionEvent, TreeEvent
from privacy.ledger import entries
from server import tasks
from server.budgets import BudgetGuard
from tutti import runs, stores

HELD_OUT = "held_out_"
SHAPE = 1.0
"""The number of trials is geometric."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """What is searched: values by dotted key (`training.learning_rate`), trials expected, and which metric decides."""

    choices: Mapping[str, Sequence[Any]]
    expected_trials: float
    metric: str
    lowest: bool = False

    def __post_init__(self) -> None:
        if not self.choices or any(not values for values in self.choices.values()):
            raise ValueError("a search needs at least one value for each of its keys")
        if not self.expected_trials >= 1:
            raise ValueError(f"expected_trials must be at least 1, not {self.expected_trials}")
        if not self.metric.startswith(HELD_OUT):
            raise ValueError(
                f"the metric must be one of held-out users ({HELD_OUT}...), not {self.metric}: it would tell of training data"
            )


def parse_choices(texts: Sequence[str]) -> dict[str, list[Any]]:
    """`key=value,value` texts as values by key.

    Raises:
      ValueError: for a text without a key or a value.

    >>> parse_choices(["training.learning_rate=0.1,0.5", "server.optimizer=sgd"])
    {'training.learning_rate': [0.1, 0.5], 'server.optimizer': ['sgd']}
    """
    found: dict[str, list[Any]] = {}
    for text in texts:
        key, equals, values = text.partition("=")
        if not equals or not key or not values:
            raise ValueError(f"a choice is written KEY=VALUE,VALUE, not {text!r}")
        found[key] = [yaml.safe_load(value) for value in values.split(",")]
    return found


def with_settings(spec: TaskSpec, settings: Mapping[str, Any]) -> TaskSpec:
    """`spec` with the values of dotted keys changed.

    Raises:
      TuttiError: for a key that a task does not have.

    >>> spec = task.parse_mapping({"population": "p", "model": {"name": "mlp"}, "cohort": {"report_goal": 4}, "rounds": 2})
    >>> with_settings(spec, {"training.learning_rate": 0.25}).training.learning_rate
    0.25
    """
    mapping = task.to_mapping(spec)
    for key, value in settings.items():
        *path, last = key.split(".")
        inner: Any = mapping
        for part in path:
            inner = cast(dict[str, Any], inner).get(part) if isinstance(inner, dict) else None
        if not isinstance(inner, dict) or last not in inner:
            raise TuttiError(ErrorCode.ARGUMENT_INVALID, f"a task has no {key}")
        inner[last] = value
    return task.parse_mapping(mapping)


def price(spec: TaskSpec, search: Search) -> SelectionEvent:
    """What the whole search costs.

    Raises:
      TuttiError: MECHANISM_UNSUPPORTED where a trial has no single private mechanism, or its price depends on what is searched.
    """
    found = {_trial_event(with_settings(spec, {key: value})) for key, values in search.choices.items() for value in values}
    if len(found) != 1:
        raise TuttiError(
            ErrorCode.MECHANISM_UNSUPPORTED, "what is searched changes the price of a trial; fix noise, rounds and schedule"
        )
    (trial,) = found
    return SelectionEvent(
        trial=trial, shape=SHAPE, stop_probability=1 / search.expected_trials, unit=trial.unit, adjacency=trial.adjacency
    )


def tune(
    spec: TaskSpec, search: Search, *, data: str | None, workers: int | None, store: str, entropy: Entropy
) -> dict[str, Any]:
    """Runs the search and returns the best settings with what the search cost.

    Guarantee:
      The settings returned, and nothing else of the trials, satisfy the price: arXiv:2110.03620v2, Theorem 2. It covers the data that
      trains; users whose held-out examples score the trials are not covered, which the entry says.

    Raises:
      TuttiError: for a search that cannot be priced, does not fit the population's budget, or names no metric of the task.
    """
    event = price(spec, search)
    delta = spec.privacy.delta or 0.0
    with stores.opened(store) as (database, _):
        statement = BudgetGuard(database.ledger, population=spec.population).statement(events.to_json(event), delta=delta)
        if not statement.fits:
            raise TuttiError(
                ErrorCode.BUDGET_EXCEEDED, f"the search does not fit the budget of {spec.population}: {statement.obstacle}"
            )
    best = _best(spec, search, data=data, workers=workers, entropy=entropy)
    body = entries.parameter_tuned(
        population=spec.population,
        run=None,
        parameter=", ".join(sorted(search.choices)),
        value=", ".join(f"{key}={_text(best[key])}" for key in sorted(best)),
        statistic=f"{search.metric} of trial runs on held-out users, who are not covered",
        event=events.to_json(event),
        reason=f"random stopping, {_text(search.expected_trials)} trials expected",
    )
    with stores.opened(store) as (database, _):
        entry = database.append_entry(body)
    return {"settings": best, "entry": entry, "privacy": accounting.to_json(accounting.price(event, delta))}


def _best(spec: TaskSpec, search: Search, *, data: str | None, workers: int | None, entropy: Entropy) -> dict[str, Any]:
    best: tuple[float, dict[str, Any]] | None = None
    for _ in range(selection.draw_trials(entropy, stop_probability=1 / search.expected_trials)):
        settings = {key: values[_uniform(entropy, len(values))] for key, values in search.choices.items()}
        with tempfile.TemporaryDirectory(prefix="tutti-trial-") as directory:
            result = runs.run(with_settings(spec, settings), data=data, workers=workers, store=str(Path(directory) / "store"))
        score = result["metrics"].get(search.metric)
        if score is None:
            names = ", ".join(sorted(result["metrics"]))
            raise TuttiError(ErrorCode.ARGUMENT_INVALID, f"the task has no metric {search.metric!r}; it has {names}")
        signed = -score if search.lowest else score
        if best is None or signed > best[0]:
            best = signed, settings
    assert best is not None
    return best[1]


def _trial_event(spec: TaskSpec) -> TreeEvent | GaussianEvent | BandedEvent | BltEvent | DistributedEvent:
    tasks.refuse(spec)
    prepared = tasks.prepare(spec)
    event = events.from_json(prepared.mechanism.event(prepared.spec.rounds))
    if not isinstance(event, TreeEvent | GaussianEvent | BandedEvent | BltEvent | DistributedEvent):
        raise TuttiError(ErrorCode.MECHANISM_UNSUPPORTED, f"a search over {event.kind} releases cannot be priced")
    return event


def _uniform(entropy: Entropy, count: int) -> int:
    """A choice among `count`, uniform to 2^-64."""
    return int.from_bytes(entropy(16), "little") % count


def _text(value: Any) -> str:
    return decimal_up(float(value)) if isinstance(value, int | float) and not isinstance(value, bool) else str(value)
