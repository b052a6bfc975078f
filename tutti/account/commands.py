"""The subcommands of `tutti account` for central mechanisms, and what all of them share."""

from pathlib import Path
from typing import Annotated

import typer

from privacy import blt_optimum, curves, tree_sensitivity
from privacy.events import Adjacency, BandedEvent, BltEvent, Event, GaussianEvent, TreeEvent, Unit
from tutti.account import distributed
from tutti.account.answers import Question, answer, named_faults, plot
from tutti.account.options import (
    DeltaOption,
    DevicesPerPersonOption,
    EpsilonOption,
    JsonOption,
    MaxParticipationsOption,
    MinSeparationOption,
    NoiseMultiplierOption,
    PlotOption,
    RoundsOption,
    UnitOption,
    counted,
    write,
)


def register(app: typer.Typer) -> None:
    """Adds `account` and its subcommands."""
    sub = typer.Typer(
        name="account",
        help="Price a mechanism: rho, epsilon at a delta, the conversion used. No server, no data. "
        "Two of --noise-multiplier, --rounds and --epsilon give the third.",
        no_args_is_help=True,
    )
    sub.command("tree")(tree)
    sub.command("gaussian")(gaussian)
    sub.command("banded")(banded)
    sub.command("blt")(blt)
    distributed.register(sub)
    app.add_typer(sub)


def tree(
    delta: DeltaOption,
    noise_multiplier: NoiseMultiplierOption = None,
    rounds: RoundsOption = None,
    epsilon: EpsilonOption = None,
    min_separation: MinSeparationOption = 0,
    max_participations: MaxParticipationsOption = None,
    unit: UnitOption = Unit.DEVICE,
    restart_every: Annotated[int | None, typer.Option(min=1, help="Rounds after which a new tree begins.")] = None,
    devices_per_person: DevicesPerPersonOption = 1,
    plot_file: PlotOption = None,
    json_output: JsonOption = False,
) -> None:
    """DP-FTRL by tree aggregation (Honaker's estimator costs the same).

    Example, the published production run: tutti account tree --noise-multiplier 7 --rounds 2000 --min-separation 313
    --max-participations 6 --delta 1e-10
    """

    def event(multiplier: float, leaves: int) -> Event:
        return TreeEvent(
            noise_multiplier=multiplier,
            leaves=leaves,
            minimum_separation=min_separation,
            max_participations=counted(unit, max_participations),
            unit=unit,
            restart_every=restart_every,
        )

    question = Question(
        mechanism="tree",
        event=event,
        noise_multiplier=noise_multiplier,
        rounds=rounds,
        target=epsilon,
        delta=delta,
        devices_per_person=devices_per_person,
        remarks=lambda _, leaves: cap_remarks(leaves, min_separation, max_participations, unit),
    )
    show(question, json_output=json_output, plot_file=plot_file)


def gaussian(
    delta: DeltaOption,
    noise_multiplier: NoiseMultiplierOption = None,
    rounds: RoundsOption = None,
    epsilon: EpsilonOption = None,
    sampling_rate: Annotated[
        float | None,
        typer.Option(help="Poisson sampling: each unit joins each round by a coin of this probability that nobody sees."),
    ] = None,
    min_separation: MinSeparationOption = 0,
    max_participations: MaxParticipationsOption = None,
    unit: UnitOption = Unit.DEVICE,
    devices_per_person: DevicesPerPersonOption = 1,
    plot_file: PlotOption = None,
    json_output: JsonOption = False,
) -> None:
    """Independent Gaussian noise in every round (DP-FedAvg, DP-SGD), with Poisson sampling or without."""

    def event(multiplier: float, releases: int) -> Event:
        return GaussianEvent(
            noise_multiplier=multiplier,
            releases=releases,
            minimum_separation=min_separation,
            max_participations=counted(unit, max_participations),
            unit=unit,
            sampling_rate=sampling_rate,
            adjacency=Adjacency.ZERO_OUT if sampling_rate is None else Adjacency.ADD_OR_REMOVE,
        )

    def remarks(_: float, releases: int) -> list[str]:
        if sampling_rate is None:
            return cap_remarks(releases, min_separation, max_participations, unit)
        return ["Claims Poisson sampling: shuffled or self-selected cohorts violate it."]

    question = Question(
        mechanism="gaussian",
        event=event,
        noise_multiplier=noise_multiplier,
        rounds=rounds,
        target=epsilon,
        delta=delta,
        devices_per_person=devices_per_person,
        facts={} if sampling_rate is None else {"sampling_rate": sampling_rate},
        remarks=remarks,
    )
    show(question, json_output=json_output, plot_file=plot_file)


def banded(
    delta: DeltaOption,
    bands: Annotated[int, typer.Option(min=1, help="Bands of the strategy, at most the separation plus one.")],
    noise_multiplier: NoiseMultiplierOption = None,
    rounds: RoundsOption = None,
    epsilon: EpsilonOption = None,
    min_separation: MinSeparationOption = 0,
    max_participations: MaxParticipationsOption = None,
    unit: UnitOption = Unit.DEVICE,
    column_norm_squared: Annotated[
        float, typer.Option(help="Largest squared norm of a column of the strategy; 1 for normalised columns.")
    ] = 1.0,
    devices_per_person: DevicesPerPersonOption = 1,
    plot_file: PlotOption = None,
    json_output: JsonOption = False,
) -> None:
    """A banded matrix mechanism; columns are normalised unless --column-norm-squared says otherwise."""

    def event(multiplier: float, leaves: int) -> Event:
        return BandedEvent(
            noise_multiplier=multiplier,
            leaves=leaves,
            bands=bands,
            column_norm_squared=column_norm_squared,
            minimum_separation=min_separation,
            max_participations=counted(unit, max_participations),
            unit=unit,
        )

    question = Question(
        mechanism="banded",
        event=event,
        noise_multiplier=noise_multiplier,
        rounds=rounds,
        target=epsilon,
        delta=delta,
        devices_per_person=devices_per_person,
        facts={"bands": bands, "column_norm_squared": column_norm_squared},
        remarks=lambda _, leaves: cap_remarks(leaves, min_separation, max_participations, unit),
    )
    show(question, json_output=json_output, plot_file=plot_file)


def blt(
    delta: DeltaOption,
    noise_multiplier: NoiseMultiplierOption = None,
    rounds: RoundsOption = None,
    epsilon: EpsilonOption = None,
    min_separation: MinSeparationOption = 0,
    max_participations: MaxParticipationsOption = None,
    unit: UnitOption = Unit.DEVICE,
    buf_decay: Annotated[str | None, typer.Option(help="Decays, comma-separated, each in [0, 1].")] = None,
    output_scale: Annotated[str | None, typer.Option(help="Scales, comma-separated, one a decay.")] = None,
    buffers: Annotated[int | None, typer.Option(min=1, max=8, help="Optimise a strategy with so many buffers at most.")] = None,
    devices_per_person: DevicesPerPersonOption = 1,
    plot_file: PlotOption = None,
    json_output: JsonOption = False,
) -> None:
    """A buffered-linear-Toeplitz mechanism, given by --buf-decay and --output-scale or optimised for --buffers."""
    with named_faults():
        decay, scale = _strategy(buf_decay, output_scale, buffers, rounds, min_separation, max_participations)

    def event(multiplier: float, leaves: int) -> Event:
        return BltEvent(
            noise_multiplier=multiplier,
            leaves=leaves,
            buf_decay=decay,
            output_scale=scale,
            minimum_separation=min_separation,
            max_participations=counted(unit, max_participations),
            unit=unit,
        )

    question = Question(
        mechanism="blt",
        event=event,
        noise_multiplier=noise_multiplier,
        rounds=rounds,
        target=epsilon,
        delta=delta,
        devices_per_person=devices_per_person,
        facts={"buf_decay": list(decay), "output_scale": list(scale)},
        remarks=lambda _, leaves: cap_remarks(leaves, min_separation, max_participations, unit),
    )
    show(question, json_output=json_output, plot_file=plot_file)


def _strategy(
    buf_decay: str | None, output_scale: str | None, buffers: int | None, rounds: int | None, separation: int, cap: int | None
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    if buf_decay is not None and output_scale is not None:
        return _numbers(buf_decay, "--buf-decay"), _numbers(output_scale, "--output-scale")
    if buffers is None or rounds is None:
        raise ValueError("give --buf-decay with --output-scale, or --buffers with --rounds")
    times = tree_sensitivity.most_participations(leaves=rounds, minimum_separation=separation, max_participations=cap)
    schedule = blt_optimum.Schedule(rounds=rounds, minimum_separation=separation, participations=times)
    found = blt_optimum.optimum(schedule, buffers=buffers)
    return found.buf_decay, found.output_scale


def _numbers(text: str, option: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in text.strip("[]() ").replace(",", " ").split())
    except ValueError:
        raise ValueError(f"{option} must be numbers separated by commas, not {text!r}") from None


def cap_remarks(rounds: int, separation: int, cap: int | None, unit: Unit) -> list[str]:
    """Says when the cap, not the separation, limits how often a device takes part: a report must then say why it holds."""
    if unit is Unit.DEVICE_DAY:
        return ["Protects what a device gives on one day, not the device: it takes part once a day at most."]
    feasible = tree_sensitivity.most_participations(leaves=rounds, minimum_separation=separation)
    if cap is None or cap >= feasible:
        return []
    return [
        f"Rests on a cap: {feasible} participations fit the separation, {cap} are allowed; say why no device exceeds {cap}."
    ]


def show(question: Question, *, json_output: bool, plot_file: Path | None) -> None:
    """Answers on stdout, as one JSON object or as a table."""
    with named_faults():
        found = answer(question)
        rounds, multiplier = int(found["rounds"]), float(found["noise_multiplier"])
        event = question.event(multiplier, rounds)
        found = {"sensitivity_squared": _sensitivity(event), **found}
        if plot_file is not None:
            plot(question, plot_file)
            found["plot"] = str(plot_file)
    write(found, json_output=json_output)


def _sensitivity(event: Event) -> int | float | None:
    """Of the whole mechanism; None where sampling makes the curve no line."""
    if not isinstance(event, TreeEvent | GaussianEvent | BandedEvent | BltEvent):
        return None
    if isinstance(event, GaussianEvent) and event.sampling_rate is not None:
        return None
    value = curves.sensitivity_squared(event)
    return int(value) if value == int(value) else value
