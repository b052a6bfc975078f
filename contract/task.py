"""The task file as a frozen value, and its form.

`parse` checks the form (types, ranges, unknown keys) and names the key of every fault; what needs knowledge of
mechanisms, budgets or models is checked by `server.tasks`. Durations are in seconds, `minimum_separation` counts the rounds
strictly between two participations of a device, norms are L2.
"""

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, cast

import yaml
from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from contract import canonical
from contract.errors import ErrorCode, Problem, TuttiError

_STRICT = ConfigDict(extra="forbid")
Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,62}$")]
Count = Annotated[int, Field(ge=1, le=10_000_000)]
Fraction = Annotated[float, Field(ge=0, lt=1)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Nonnegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Days = Annotated[float, Field(ge=1e-4, le=36_500)]
Mechanism = Literal["none", "tree", "banded", "blt", "gaussian", "ddg", "skellam"]
CENTRAL_MECHANISMS = ("tree", "banded", "blt", "gaussian")
DISTRIBUTED_MECHANISMS = ("ddg", "skellam")


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSpec:
    """A registered model, or `package.module:factory` (local runs only)."""

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT
    name: Annotated[str, Field(pattern=r"^[A-Za-z_][\w.]*(:[A-Za-z_]\w*)?$")]
    vocabulary: str = "public-en"
    """`public-en`, or `data` (simulation only; reported as not covered)."""
    init_from: str | None = None
    """Path of public weights to start from."""
    trainable: Literal["all", "head"] = "all"


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheSpec:
    """What a device keeps to learn from: its newest examples, so many at most, and each for so many days at most."""

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT
    most_examples: Count = 10_000
    longest_days: Days = 30.0
    arrival_days: Days | None = None
    """A device's examples come in over so many days, one after another, and then again; without it all of them are new in every round."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DataSpec:
    """Where the devices' examples come from."""

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT
    source: str = "synthetic"
    """`synthetic`, a path of gzipped JSON lines, or `package.module:factory` of a Loader (local runs only)."""
    devices: Count | None = None
    """Size of the synthetic population; ignored for files."""
    locale: Literal["en", "es", "ja"] = "en"
    seed: int = 0
    """Seed of the synthetic population's content, and of when examples arrive: a property of the data, not of the run."""
    cache: CacheSpec = field(default_factory=CacheSpec, metadata=canonical.SILENT_DEFAULT)


@dataclass(frozen=True, slots=True, kw_only=True)
class CohortSpec:
    """How many devices a round wants and how often one device may take part."""

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT
    report_goal: Count
    over_selection: Annotated[float, Field(ge=1, le=4)] = 1.3
    minimum_reports: Count | None = None
    """Fewest reports with which a round completes; four fifths of the goal unless given."""
    minimum_separation: Annotated[int, Field(ge=0)] = 0
    max_participations: Count | None = None

    @property
    def fewest_reports(self) -> int:
        """`minimum_reports` or its default, at least 1."""
        return self.minimum_reports if self.minimum_reports is not None else max(1, -(-4 * self.report_goal // 5))


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadlineSpec:
    """How long the server waits for check-ins and for reports."""

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT
    selection_s: Positive = 600.0
    reporting_s: Positive = 600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingSpec:
    """Local training on a device: plain SGD."""

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT
    batch_size: Count = 16
    epochs: Annotated[int, Field(ge=1, le=100)] = 1
    max_examples: Count = 256
    learning_rate: Positive = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerSpec:
    """The server's optimiser, applied to the mean update."""

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT
    optimizer: Literal["sgd", "adam", "yogi", "adagrad"] = "sgd"
    learning_rate: Positive = 1.0
    momentum: Fraction = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class AdaptiveClipSpec:
    """Adaptive quantile clipping (arXiv:1905.03871v5): the clip follows a quantile of the norms, by noised bits."""

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT
    target_quantile: Annotated[float, Field(gt=0, lt=1)] = 0.5
    learning_rate: Positive = 0.2
    bit_noise_multiplier: Positive | None = None
    """Standard deviation of the noise on the sum of bits, over one device's 1; report_goal / 20 unless given."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AdaptiveZeroingSpec:
    """An update whose norm exceeds `factor` times a high quantile of the norms counts as zero; the quantile is followed by noised bits."""

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT
    target_quantile: Annotated[float, Field(gt=0, lt=1)] = 0.98
    learning_rate: Positive = 1.0
    factor: Annotated[float, Field(ge=1, allow_inf_nan=False)] = 2.0
    start: Positive | None = None
    """First estimate of the quantile; ten clip norms unless given."""
    bit_noise_multiplier: Positive | None = None
    """As in `adaptive_clip`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FederatedMetricsSpec:
    """Distributed only: counts that devices report inside the same secure sum, as one clipped and noised vector of their own."""

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT
    clip_norm: Positive = 64.0
    """Largest L2 norm of a device's counts."""
    noise_multiplier: Nonnegative | None = None
    """Four times the update's unless given, so that the metrics take a seventeenth of the rho."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PrivacySpec:
    """The mechanism and its noise, either as a multiplier or as a target epsilon from which it is calibrated."""

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT
    mechanism: Mechanism = "none"
    clip_norm: Positive | None = None
    noise_multiplier: Nonnegative | None = None
    epsilon: Positive | None = None
    delta: Annotated[float, Field(gt=0, lt=0.1)] | None = None
    honaker: bool = True
    """Tree only: use Honaker's estimator (same privacy, less noise)."""
    restart_every: Count | None = None
    """Tree only: rounds after which a new tree begins."""
    bands: Count | None = None
    """Banded only."""
    buffers: Annotated[int, Field(ge=1, le=8)] | None = None
    """BLT only."""
    sampling: Literal["none", "poisson"] = "none"
    """Gaussian only: Poisson amplification, where the simulator really samples so."""
    sampling_rate: Annotated[float, Field(gt=0, le=1)] | None = None
    """Poisson only: the probability with which a device is in a round; `cohort.report_goal` is the fixed denominator."""
    adaptive_clip: AdaptiveClipSpec | None = None
    """Gaussian, ddg, skellam, and tree with restarts, at which it moves: `clip_norm` is where the clip starts."""
    adaptive_zeroing: AdaptiveZeroingSpec | None = None
    """For the mechanisms of `adaptive_clip`."""
    devices_per_person: Count = 1
    """For the group-privacy line of the report."""
    beta: Annotated[float, Field(ge=0, lt=1)] | None = None
    """Distributed only: probability with which stochastic rounding is redrawn, e^-0.5 unless given."""
    metrics: FederatedMetricsSpec | None = None
    """Distributed only: report federated metrics inside the sum."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AggregationSpec:
    """In the clear under central DP (integers, added whole), or under SecAgg."""

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT
    secure: bool = False
    ideal: bool = False
    """In-process only: replace the cryptography by its ideal sum; the report says so."""
    bits: Annotated[int, Field(ge=8, le=32)] | None = None
    """Lane width; chosen automatically unless given."""
    scale: Literal["fixed", "auto"] = "fixed"
    """`auto`: where `bits` are given, the scale follows the length of the sums that were released so far."""
    corrupt_fraction: Fraction = 0.05
    drop_fraction: Fraction = 0.1
    minimum_survivors: Count | None = None
    """Fewest masked inputs with which a sum is unmasked; of each group where there are groups."""
    group_size: Count | None = None
    """Largest SecAgg group; a larger cohort is split into equal ones, each with its own sum and so with noise of its own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskSpec:
    """A named task, as the task file says it, with its defaults filled in.

    >>> spec = parse_mapping({"population": "p", "model": {"name": "mlp"}, "cohort": {"report_goal": 4}, "rounds": 2})
    >>> spec.cohort.fewest_reports, spec.privacy.mechanism
    (4, 'none')
    """

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT
    name: Name = "task"
    population: Name
    model: ModelSpec
    cohort: CohortSpec
    rounds: Count
    data: DataSpec = field(default_factory=DataSpec)
    deadlines: DeadlineSpec = field(default_factory=DeadlineSpec)
    training: TrainingSpec = field(default_factory=TrainingSpec)
    server: ServerSpec = field(default_factory=ServerSpec)
    privacy: PrivacySpec = field(default_factory=PrivacySpec)
    aggregation: AggregationSpec = field(default_factory=AggregationSpec)

    @property
    def groups(self) -> int:
        """Secure only: how many groups a cohort is split into.

        >>> cohort = {"report_goal": 200}
        >>> mapping = {"population": "p", "model": {"name": "mlp"}, "cohort": cohort, "rounds": 2}
        >>> split = parse_mapping({**mapping, "aggregation": {"secure": True, "group_size": 100}})
        >>> split.groups, split.group_roster, split.group_minimum_roster, split.minimum_survivors
        (2, 100, 80, 72)
        """
        size = self.aggregation.group_size
        return 1 if size is None or not self.aggregation.secure else -(-self.cohort.report_goal // size)

    @property
    def group_roster(self) -> int:
        """Secure only: devices on the roster of one group, of the cohort where there are no groups."""
        return self.cohort.report_goal // self.groups

    @property
    def group_minimum_roster(self) -> int:
        """Secure only: the fewest devices with which a group goes to work."""
        return self.cohort.fewest_reports // self.groups

    @property
    def minimum_survivors(self) -> int:
        """Secure only: the fewest masked inputs with which a group goes on; nine tenths of its fewest reports unless given."""
        given = self.aggregation.minimum_survivors
        return given if given is not None else max(1, -(-9 * self.group_minimum_roster // 10))

    @property
    def fewest_contributions(self) -> int:
        """In the sum of a completed round; under Poisson sampling their number is nobody's business, and nothing counts on it."""
        if self.privacy.sampling == "poisson":
            return 0
        return self.minimum_survivors if self.aggregation.secure else self.cohort.fewest_reports

    @property
    def digest(self) -> str:
        """Hex SHA-256 of the canonical JSON of the whole specification."""
        return canonical.digest(canonical.plain(self))


_ADAPTER: TypeAdapter[TaskSpec] = TypeAdapter(TaskSpec)


def parse_mapping(mapping: object) -> TaskSpec:
    """A `TaskSpec` from what a YAML or JSON document holds.

    Raises:
      TaskFormError: with one `Problem` for each fault of form.
    """
    try:
        return _ADAPTER.validate_python(mapping)
    except ValidationError as error:
        raise TaskFormError(tuple(_problem(fault) for fault in error.errors(include_url=False))) from None


def read(path: Path) -> TaskSpec:
    """The task in the YAML file at `path`; its name is the file's stem unless it says one.

    Raises:
      TaskFormError: for a fault of form, or a file that cannot be read.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        problem = Problem(str(path), f"cannot be read: {error.strerror}", "Give the path of a task file.")
        raise TaskFormError((problem,)) from None
    except UnicodeDecodeError as error:
        problem = Problem(str(path), f"is not UTF-8: byte {error.start}", "Give a YAML file.")
        raise TaskFormError((problem,)) from None
    try:
        mapping: object = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise TaskFormError((Problem(str(path), f"is no YAML: {error}", "Mend the line that is named."),)) from None
    if isinstance(mapping, dict):
        mapping = {"name": path.stem.replace("_", "-").lower(), **cast(dict[str, Any], mapping)}
    return parse_mapping(mapping)


def to_mapping(spec: TaskSpec) -> dict[str, Any]:
    """The specification as plain JSON values, as `parse_mapping` takes them."""
    return cast(dict[str, Any], _ADAPTER.dump_python(spec, mode="json"))


def json_schema() -> dict[str, Any]:
    """The JSON Schema of a task file."""
    return _ADAPTER.json_schema()


def replace(spec: TaskSpec, **changes: Any) -> TaskSpec:
    """`dataclasses.replace`, checked again: `replace(spec, rounds=3, privacy={"noise_multiplier": 1.0})`."""
    mapping = to_mapping(spec)
    for key, value in changes.items():
        mapping[key] = {**mapping[key], **value} if isinstance(value, dict) and isinstance(mapping.get(key), dict) else value
    return parse_mapping(
        {
            key: dataclasses.asdict(v) if dataclasses.is_dataclass(v) and not isinstance(v, type) else v
            for key, v in mapping.items()
        }
    )


class TaskFormError(TuttiError):
    """A task file whose form is wrong, with every fault."""

    def __init__(self, problems: tuple[Problem, ...]) -> None:
        super().__init__(ErrorCode.TASK_INVALID, "; ".join(f"{p.path}: {p.message}" for p in problems))
        self.problems = problems


_CURES = {
    "unexpected_keyword_argument": "Remove this key, or correct its spelling; `tutti task schema` prints all keys.",
    "missing": "Add this key.",
    "dataclass_type": "Write `key: value` lines; `tutti init DIR` gives an example.",
}
_MESSAGES = {
    "unexpected_keyword_argument": "there is no such key",
    "missing": "this key is missing",
    "dataclass_type": "is no mapping of keys to values",
}


def _problem(fault: Any) -> Problem:
    path = ".".join(str(part) for part in fault["loc"]) or "$"
    message = _MESSAGES.get(fault["type"]) or f"{fault['msg']} (got {fault['input']!r})"
    return Problem(path, message[:400], _CURES.get(fault["type"], "Give a value that the message allows."))
