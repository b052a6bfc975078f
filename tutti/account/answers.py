"""From a question (mechanism, noise or target, rounds or budget) to the one object that `tutti account` prints."""

import math
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from contract.errors import ErrorCode, TuttiError
from privacy import accounting, calibration, group
from privacy.accounting import Price
from privacy.events import Event
from privacy.report.summary import tier

MOST_ROUNDS = 100_000
PLOT_POINTS = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What is asked: two of noise, rounds and target epsilon give the third."""

    mechanism: str
    event: Callable[[float, int], Event]
    """The event at a noise multiplier after a number of rounds."""
    noise_multiplier: float | None
    rounds: int | None
    target: float | None
    delta: float
    remarks: Callable[[float, int], list[str]]
    """Lines that come first, for a noise multiplier and rounds."""
    devices_per_person: int = 1
    facts: Mapping[str, Any] = field(default_factory=dict[str, Any])


@contextmanager
def named_faults() -> Generator[None]:
    """Turns a wrong value into the catalogue's error."""
    try:
        yield
    except ValueError as error:
        raise TuttiError(ErrorCode.ARGUMENT_INVALID, str(error)) from None


def settle(question: Question) -> tuple[float, int]:
    """The noise multiplier and the rounds, one of them found if a target was given instead.

    Raises:
      ValueError: for fewer than two of the three, or a target that cannot be met.
    """
    multiplier, rounds, target = question.noise_multiplier, question.rounds, question.target
    if multiplier is not None and rounds is not None:
        return multiplier, rounds
    if target is None or (multiplier is None and rounds is None):
        raise ValueError("two of --noise-multiplier, --rounds and --epsilon are needed; the third is found")
    if rounds is not None:
        found = calibration.noise_multiplier(lambda z: question.event(z, rounds), epsilon=target, delta=question.delta)
        return found, rounds
    assert multiplier is not None
    noise = multiplier
    most = calibration.rounds(lambda n: question.event(noise, n), epsilon=target, delta=question.delta, most=MOST_ROUNDS)
    if most == 0:
        raise ValueError(f"not even one round costs at most epsilon {target} with noise multiplier {noise}")
    return noise, most


def answer(question: Question) -> dict[str, Any]:
    """The price as one flat object of JSON numbers."""
    multiplier, rounds = settle(question)
    event = question.event(multiplier, rounds)
    price = accounting.price(event, question.delta, pld=True)
    found: dict[str, Any] = {
        "mechanism": question.mechanism,
        "noise_multiplier": multiplier,
        "rounds": rounds,
        **question.facts,
        **accounting.to_json(price),
        "tier": tier(price.epsilon if price.bounded else None),
        "first_lines": first_lines(question, price, multiplier, rounds),
    }
    if question.devices_per_person > 1:
        person = group.price(event, question.delta, size=question.devices_per_person)
        found["person"] = {"devices": question.devices_per_person, **accounting.to_json(person)}
    return found


def first_lines(question: Question, price: Price, multiplier: float, rounds: int) -> list[str]:
    """What a reader must know before the numbers."""
    lines = [] if price.bounded else ["NO GUARANTEE: without noise nothing is promised."]
    return lines + question.remarks(multiplier, rounds)


def plot(question: Question, path: Path) -> None:
    """Epsilon after each round as a picture at `path` (its suffix says which kind).

    Raises:
      ValueError: for a kind of picture that cannot be written.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

    multiplier, rounds = settle(question)
    step = max(1, -(-rounds // PLOT_POINTS))
    at = sorted({*range(step, rounds + 1, step), 1, rounds})
    prices = [accounting.price(question.event(multiplier, count), question.delta) for count in at]
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    for name in (accounting.GENERIC, accounting.EXACT):
        values = [price.epsilons[name] for price in prices]
        if all(value is not None and math.isfinite(value) for value in values):
            axes.plot(at, [value or 0.0 for value in values], label=f"{name} conversion")
    axes.set(
        xlabel="rounds",
        ylabel=f"epsilon at delta = {question.delta:g}",
        title=f"{question.mechanism}, noise multiplier {multiplier:g}",
    )
    axes.set_xlim(left=0)
    axes.set_ylim(bottom=0)
    axes.grid(visible=True, alpha=0.3)
    axes.legend(frameon=False)
    with mpl.rc_context({"svg.hashsalt": "tutti", "svg.fonttype": "none"}):
        figure.savefig(path)
