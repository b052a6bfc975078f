"""`tutti account ddg` and `tutti account skellam`: two claims, against a curious and against a colluding server."""

import math
from typing import Annotated, Any

import typer

from privacy import accounting, distributed_plans, rounding
from privacy.accounting import Price
from privacy.distributed import DistributedPlan
from privacy.report.summary import tier
from tutti.account.answers import named_faults
from tutti.account.options import DeltaOption, JsonOption, write

ONE_BLOCK = 1 << 30
DevicesOption = Annotated[int, typer.Option(min=1, help="Devices of a sum; sizes scale and lanes.")]
SurvivorsOption = Annotated[int | None, typer.Option(min=1, help="Devices whose noise was added; --devices unless given.")]
FloorOption = Annotated[
    int | None, typer.Option(min=1, help="Fewest survivors, for which noise is calibrated; --devices unless given.")
]
CorruptOption = Annotated[float, typer.Option(help="Share of devices that may collude with the server.")]
DimensionOption = Annotated[int, typer.Option(min=1, help="Length of the update; padded to a power of two.")]
BitsOption = Annotated[int | None, typer.Option(min=8, max=32, help="Width of a lane of the sum; chosen unless given.")]
ClipOption = Annotated[float, typer.Option(help="L2 norm to which updates are clipped.")]
NoiseOption = Annotated[float, typer.Option(help="Deviation of the guaranteed honest noise in the sum, over the clip norm.")]
BetaOption = Annotated[float, typer.Option(help="Probability with which rounding is drawn again; 0 never.")]
ReleasesOption = Annotated[int, typer.Option(min=1, help="Sums that hold one device's update.")]


def register(app: typer.Typer) -> None:
    """Adds the two subcommands."""
    app.command("ddg")(ddg)
    app.command("skellam")(skellam)


def ddg(
    delta: DeltaOption,
    devices: DevicesOption,
    dimension: DimensionOption,
    noise_multiplier: NoiseOption,
    clip_norm: ClipOption = 1.0,
    bits: BitsOption = None,
    survivors: SurvivorsOption = None,
    minimum_survivors: FloorOption = None,
    corrupt_fraction: CorruptOption = 0.0,
    beta: BetaOption = rounding.DEFAULT_BETA,
    releases: ReleasesOption = 1,
    json_output: JsonOption = False,
) -> None:
    """Distributed discrete Gaussian noise under secure aggregation.

    Example: tutti account ddg --devices 100 --bits 16 --dimension 1048576 --noise-multiplier 1 --delta 1e-5
    """
    with named_faults():
        plan = distributed_plans.plan(
            mechanism="ddg",
            dimension=dimension,
            clip_norm=clip_norm,
            noise_multiplier=noise_multiplier,
            devices=devices,
            minimum_survivors=minimum_survivors,
            corrupt_fraction=corrupt_fraction,
            bits=bits,
            beta=beta,
            largest_block=ONE_BLOCK,
        )
        found = answer(plan, survivors=devices if survivors is None else survivors, releases=releases, delta=delta)
    write(found, json_output=json_output)


def skellam(
    delta: DeltaOption,
    devices: DevicesOption,
    dimension: DimensionOption,
    noise_multiplier: NoiseOption,
    clip_norm: ClipOption = 1.0,
    bits: BitsOption = None,
    survivors: SurvivorsOption = None,
    minimum_survivors: FloorOption = None,
    corrupt_fraction: CorruptOption = 0.0,
    beta: BetaOption = rounding.DEFAULT_BETA,
    releases: ReleasesOption = 1,
    json_output: JsonOption = False,
) -> None:
    """Distributed Skellam noise under secure aggregation (closed under sums, so dropouts cost variance only)."""
    with named_faults():
        plan = distributed_plans.plan(
            mechanism="skellam",
            dimension=dimension,
            clip_norm=clip_norm,
            noise_multiplier=noise_multiplier,
            devices=devices,
            minimum_survivors=minimum_survivors,
            corrupt_fraction=corrupt_fraction,
            bits=bits,
            beta=beta,
            largest_block=ONE_BLOCK,
        )
        found = answer(plan, survivors=devices if survivors is None else survivors, releases=releases, delta=delta)
    write(found, json_output=json_output)


def answer(plan: DistributedPlan, *, survivors: int, releases: int, delta: float) -> dict[str, Any]:
    """Encoder and both claims as one flat object of JSON numbers.

    Raises:
      ValueError: for survivors below the floor that the devices keep, or above the devices there are.
    """
    if not plan.minimum_survivors <= survivors <= plan.devices:
        raise ValueError(f"--survivors must lie in [{plan.minimum_survivors}, {plan.devices}], not {survivors}")
    each = (survivors,) * releases
    curious = accounting.price(plan.event(each), delta)
    colluding = accounting.price(plan.event(each, plan.corrupt), delta)
    return {
        "mechanism": plan.mechanism,
        "noise_multiplier": plan.noise_multiplier,
        "releases": releases,
        "devices": plan.devices,
        "survivors": survivors,
        "minimum_survivors": plan.minimum_survivors,
        "corrupt": plan.corrupt,
        "dimension": plan.dimension,
        "padded_dimension": plan.padded_dimension,
        "bits": plan.bits,
        "beta": plan.beta,
        "clip_norm": plan.clip_norm,
        "scale": plan.scale,
        "inflated_norm": plan.inflated_norm,
        "local_sigma": plan.local_sigma,
        "overflow_probability": plan.overflow_probability,
        "expected_overflows": min(1.0, plan.overflow_probability) * plan.padded_dimension,
        "sensitivity_squared": releases,
        **accounting.to_json(curious),
        "tier": tier(curious.epsilon if curious.bounded else None),
        "colluding": {**accounting.to_json(colluding), "contributors": survivors - plan.corrupt},
        "first_lines": _first_lines(plan, curious),
    }


def _first_lines(plan: DistributedPlan, price: Price) -> list[str]:
    lines = [] if price.bounded else ["NO GUARANTEE: without noise nothing is promised."]
    overflows = plan.overflow_probability * plan.padded_dimension
    if overflows > 1:
        lines.append(
            f"Up to {math.ceil(overflows)} coordinates of a sum may leave their lane; wider lanes cost bits, not privacy."
        )
    return lines
