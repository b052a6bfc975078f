"""The audit file as a frozen value: which task, which canaries, which control and treatments.

A plain task file is an audit too: the task itself is the treatment, the same task without noise the control.
"""

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, ClassVar, cast

import yaml
from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from client_sim.canaries import GRID_COPIES, GRID_DEVICES, PER_DEVICE
from contract import canonical, task
from contract.errors import ErrorCode, Problem, TuttiError
from contract.task import PrivacySpec, TaskFormError, TaskSpec

_STRICT = ConfigDict(extra="forbid")
Count = Annotated[int, Field(ge=1, le=1_000_000)]
ArmName = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,30}$")]
CONTROL = "control"
MOST_REFERENCES = 2_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class CanarySpec:
    """The grid of shared canaries, and the whole-device canaries that are in or out by coins."""

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT
    devices: tuple[Count, ...] = GRID_DEVICES
    copies: tuple[Count, ...] = GRID_COPIES
    per_cell: Count = 3
    """Inserted canaries in each cell, and as many held out."""
    length: Annotated[int, Field(ge=2, le=12)] = 5
    """Words of a next-word canary; tokens of a selection canary's secret span are 3 to 5."""
    prefix: Annotated[int, Field(ge=0, le=11)] = 2
    """Words of it that the attacker knows."""
    per_device: Count = PER_DEVICE
    coins: Annotated[int, Field(ge=0, le=100_000)] = 0
    """Canaries that are in or out by a coin, for epsilon from below by one run."""
    coin_devices: Count = 1
    """Devices that share each of them: the bound is then for a group of so many."""
    coin_copies: Count = PER_DEVICE


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeSpec:
    """Canary devices whose updates are random directions, sent through the same mechanism in a run of their own."""

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT
    canaries: Annotated[int, Field(ge=10, le=100_000)] = 400
    """Directions, each in or out by a coin; as many more that no device ever sends."""
    dimension: Annotated[int, Field(ge=256, le=1 << 20)] = 4096
    rounds: Annotated[int, Field(ge=1, le=100)] = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class ArmSpec:
    """One way to train: sections of the task that are changed, as mappings of their keys."""

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT
    name: ArmName
    change: dict[str, Any] = field(default_factory=dict[str, Any])


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditSpec:
    """An audit.

    Args:
      task: what is audited.
      seed: of the simulation, the canaries, the coins and the references: all arms have the same.
      users: real devices among which the canaries' devices stand: a random sample of the task's, all unless given. Canaries that take
        part once in a large population leave nothing to measure; a smaller one lets them take part more often.
      references: sequences that canaries are ranked among.
      beam: width of the beam search; a secret counts as extracted if it is among its 5 best answers.
      control: as a rule the task without noise; None leaves it out, and with it every comparison of ranks.
    """

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT
    name: task.Name
    task: TaskSpec
    seed: Annotated[int, Field(ge=0, lt=1 << 53)] = 1
    users: Count | None = None
    canaries: CanarySpec = field(default_factory=CanarySpec)
    references: Annotated[int, Field(ge=100, le=MOST_REFERENCES)] = 100_000
    beam: Annotated[int, Field(ge=5, le=1000)] = 20
    control: ArmSpec | None = field(default_factory=lambda: ArmSpec(name=CONTROL))
    treatments: tuple[ArmSpec, ...] = ()
    probes: ProbeSpec | None = None

    @property
    def digest(self) -> str:
        """Hex SHA-256 of the whole specification."""
        return canonical.digest(canonical.plain(to_mapping(self)))

    def arm(self, chosen: ArmSpec) -> TaskSpec:
        """The task of one arm, named after both.

        Raises:
          TaskFormError: if a change does not fit the task's form.
        """
        name = f"{self.task.name[: 62 - len(chosen.name)]}-{chosen.name}"
        changes = dict(chosen.change)
        if chosen == self.control and "privacy" not in changes:
            # The clip stays: the noise alone makes the difference between control and treatment.
            changes["privacy"] = PrivacySpec(mechanism="none", clip_norm=self.task.privacy.clip_norm)
        elif isinstance(privacy := changes.get("privacy"), dict) and "mechanism" in privacy:
            # Another mechanism brings its own keys: what belongs to the old one is not carried over.
            changes["privacy"] = _whole_privacy(cast(dict[str, Any], privacy))
        return task.replace(self.task, name=name, **changes)

    @property
    def arms(self) -> tuple[ArmSpec, ...]:
        """The control, if there is one, and the treatments."""
        return (*((self.control,) if self.control else ()), *self.treatments)


_ADAPTER: TypeAdapter[AuditSpec] = TypeAdapter(AuditSpec)


def parse_mapping(mapping: object) -> AuditSpec:
    """An `AuditSpec` from what a YAML or JSON document holds.

    Raises:
      TaskFormError: with one `Problem` for each fault of form.
    """
    try:
        spec = _ADAPTER.validate_python(mapping)
    except ValidationError as error:
        raise TaskFormError(
            tuple(
                Problem(".".join(str(part) for part in fault["loc"]) or "$", fault["msg"], "Correct this key.")
                for fault in error.errors(include_url=False)
            )
        ) from None
    names = [arm.name for arm in spec.arms]
    if len(set(names)) != len(names):
        raise TaskFormError((Problem("treatments", f"names must differ: {names}", "Give each arm a name of its own."),))
    for arm in spec.arms:
        _refuse_keys(arm)
        spec.arm(arm)
    return spec


def _refuse_keys(arm: ArmSpec) -> None:
    sections = {one.name for one in dataclasses.fields(TaskSpec)} - {"name"}
    faults = tuple(
        Problem(f"{arm.name}.change.{key}", "is no section of a task that an arm can change", "Remove this key.")
        for key in arm.change
        if key not in sections
    )
    if faults:
        raise TaskFormError(faults)


def read(path: Path) -> AuditSpec:
    """The audit in the YAML file at `path`, which holds an audit (with a `task` section) or a plain task.

    `task` may be the name of a task file beside it. Of a plain task, the treatment is the task itself.

    Raises:
      TaskFormError: for a fault of form; TuttiError: for a file that cannot be read.
    """
    try:
        mapping: object = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise TuttiError(ErrorCode.TASK_INVALID, f"{path}: cannot be read: {error}") from None
    name = path.stem.replace("_", "-").lower()
    if not isinstance(mapping, dict) or "task" not in mapping:
        return of_task(task.read(path))
    row = {"name": name, **cast(dict[str, Any], mapping)}
    if isinstance(row["task"], str):
        row["task"] = task.to_mapping(task.read(path.parent / row["task"]))
    elif isinstance(row["task"], dict):
        row["task"] = {"name": name, **cast(dict[str, Any], row["task"])}
    return parse_mapping(row)


def of_task(spec: TaskSpec) -> AuditSpec:
    """The audit of a plain task: itself against itself without noise; a task without a mechanism has itself alone.

    >>> base = {"population": "p", "model": {"name": "next_word_small"}, "cohort": {"report_goal": 4}, "rounds": 2}
    >>> [arm.name for arm in of_task(task.parse_mapping(base)).arms]
    ['task']
    """
    private = spec.privacy.mechanism != "none"
    treatments = (ArmSpec(name="task"),)
    return AuditSpec(name=spec.name, task=spec, treatments=treatments, control=ArmSpec(name=CONTROL) if private else None)


def with_noise(spec: AuditSpec, multipliers: list[float]) -> AuditSpec:
    """The same audit with a treatment for each noise multiplier instead of its own treatments."""
    arms = tuple(
        ArmSpec(name=f"z{multiplier:g}", change={"privacy": {"noise_multiplier": multiplier, "epsilon": None}})
        for multiplier in multipliers
    )
    return dataclasses.replace(spec, treatments=arms)


def to_mapping(spec: AuditSpec) -> dict[str, Any]:
    """The specification as plain JSON values, as `parse_mapping` takes them."""
    return cast(dict[str, Any], _ADAPTER.dump_python(spec, mode="json"))


def _whole_privacy(privacy: dict[str, Any]) -> PrivacySpec:
    try:
        return TypeAdapter(PrivacySpec).validate_python(privacy)
    except ValidationError as error:
        raise TaskFormError(
            tuple(Problem(f"change.privacy.{fault['loc']}", fault["msg"], "Correct this key.") for fault in error.errors())
        ) from None
