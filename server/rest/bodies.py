"""What goes out over REST, and the few things that come in, with examples for OpenAPI."""

from typing import Annotated, Any, Generic, TypeVar

from pydantic import BaseModel, ConfigDict, Field, JsonValue

Item = TypeVar("Item")
EXAMPLE_RUN = "5730f8b950d9585788d43e71e1e6b76dbd15ca856e592cef471c6dc7fcf0ac4e"
EXAMPLE_TASK: dict[str, Any] = {
    "name": "demo",
    "population": "demo-mlp",
    "model": {"name": "mlp"},
    "data": {"source": "synthetic", "devices": 400},
    "cohort": {"report_goal": 20, "minimum_separation": 4},
    "privacy": {"mechanism": "tree", "clip_norm": 0.5, "noise_multiplier": 3.0, "delta": 1e-5},
    "rounds": 10,
}
EXAMPLE_AUDIT: dict[str, Any] = {
    "task": {
        "name": "demo-words",
        "population": "demo-audit",
        "model": {"name": "next_word_small"},
        "data": {"source": "synthetic", "devices": 60},
        "cohort": {"report_goal": 20, "over_selection": 1.3},
        "training": {"batch_size": 16, "max_examples": 64, "learning_rate": 0.5},
        "privacy": {"mechanism": "tree", "clip_norm": 0.3, "noise_multiplier": 4.0, "delta": 1e-5},
        "rounds": 2,
    },
    "canaries": {"devices": [1, 4], "copies": [4], "per_cell": 2, "per_device": 32},
    "references": 1000,
    "treatments": [{"name": "z4"}],
}
Reason = Annotated[str, Field(min_length=3, max_length=500, examples=["quarterly review, ticket 1234"])]


class Incoming(BaseModel):
    """A request body: unknown keys are refused."""

    model_config = ConfigDict(extra="forbid")


class Page(BaseModel, Generic[Item]):
    """A page of a list. `next` is the cursor of the following page, null on the last."""

    items: list[Item]
    next: str | None = Field(examples=["MTAw"])


class PrivacyBody(BaseModel):
    """What has been spent, by all outcomes so far. `epsilon` is null when unbounded; it holds at `delta`, by `conversion`.

    `open_round` is charged and has no outcome yet, so that it counts at its worst case; null if there is none.
    """

    mechanism: str
    rho: float | None
    epsilon: float | None
    delta: float | None
    conversion: str | None
    epsilons: dict[str, float | None]
    unit: str
    adjacency: str
    tier: str
    first_lines: list[str]
    open_round: int | None


class JobBody(BaseModel):
    """Where a run's job stands; null for a run that `tutti run` plays."""

    state: str = Field(examples=["queued"])
    attempts: int
    problem: str | None
    detail: str | None


class RunBody(BaseModel):
    """A run. `rounds` are committed, out of `planned`."""

    run: str = Field(examples=[EXAMPLE_RUN])
    task: str
    task_digest: str
    population: str
    state: str = Field(examples=["running"])
    rounds: int
    planned: int
    started: str
    job: JobBody | None


class RunDetail(RunBody):
    """A run with its whole task, its settings, its newest model and what it has spent."""

    spec: dict[str, JsonValue]
    settings: dict[str, JsonValue]
    abandoned: int
    model_digest: str
    metrics: dict[str, float]
    privacy: PrivacyBody


class LaunchBody(Incoming):
    """A task to run on simulated devices. A model or data set is a registered name, never a path or an import."""

    task: dict[str, JsonValue] = Field(examples=[EXAMPLE_TASK], description="As in a task file; see `GET /v1/tasks/schema`.")
    seed: Annotated[int, Field(ge=0, lt=2**53)] | None = Field(None, description="Fixes the simulation; noise stays fresh.")
    seed_noise: Annotated[int, Field(ge=0, lt=2**53)] | None = Field(
        None, description="Fixes the noise: the guarantee is void."
    )
    workers: Annotated[int, Field(ge=0, le=256)] | None = None


class ApprovalBody(Incoming):
    """An approval of a run's start, or of the release of its model after `round` rounds."""

    what: Annotated[str, Field(pattern="^(start|release)$", examples=["start"])]
    round: Annotated[int, Field(ge=1, le=10_000_000)] | None = Field(None, description="Only for a release.")


class RoundBody(BaseModel):
    """One attempt at a round, as it is on the record; `facts` are metrics, and what the fleet was seen to do."""

    round: int
    leaf: int
    state: str
    reason: str | None
    reported: int
    charge_entry: int | None
    outcome_entry: int | None
    model_digest: str | None
    facts: dict[str, JsonValue]


class SessionsBody(BaseModel):
    """How many device sessions had each shape (Bonawitz et al. 2019, Table 1) over all rounds of a run.

    `reasons` says of a shape why so many of its sessions ended, and who ended them, as far as a simulated fleet over gRPC has told;
    `refused` counts what the server itself turned away, by its reason.
    """

    shapes: dict[str, int] = Field(examples=[{"-v[]+^": 1200, "-v[]+#": 40}])
    reasons: dict[str, dict[str, int]] = Field(examples=[{"-v[]+#": {"server: deadline-passed": 40}}])
    refused: dict[str, int] = Field(examples=[{"deadline-passed": 40}])


class TaskBody(BaseModel):
    """A task that has been run."""

    digest: str
    name: str
    population: str
    runs: int
    newest_run: str
    spec: dict[str, JsonValue]


class CheckBody(BaseModel):
    """What would be refused in a task."""

    ok: bool
    problems: list[dict[str, str]]


class TaskOnly(Incoming):
    """A task to look at."""

    task: dict[str, JsonValue] = Field(examples=[EXAMPLE_TASK])


class CostQuestion(Incoming):
    """A task, or a run that might go on; `rounds` instead of the task's own, or more for the run."""

    task: dict[str, JsonValue] | None = Field(None, examples=[EXAMPLE_TASK])
    run: Annotated[str, Field(min_length=1, max_length=64)] | None = None
    rounds: Annotated[int, Field(ge=1, le=100_000)] | None = None


class CostAnswer(BaseModel):
    """What all rounds cost together, before anything is run.

    `colluding_epsilon` is the claim against a server that corrupt devices give their noise to, where there is one;
    `population_epsilon` what the population would have spent, all accesses together, and `fits` whether its budget allows that.
    """

    rounds: int
    mechanism: str
    noise_multiplier: float | None
    rho: float | None
    epsilon: float | None
    delta: float | None
    conversion: str | None
    epsilons: dict[str, float | None]
    colluding_epsilon: float | None
    population_epsilon: float | None
    fits: bool
    unit: str
    adjacency: str


class EntryBody(BaseModel):
    """A ledger entry. `body` is the canonical JSON whose bytes are hashed (as text), `entry` the same parsed."""

    index: int
    kind: str
    leaf_hash: str = Field(description="Hex SHA-256(0x00 || body), RFC 9162.")
    body: str
    entry: dict[str, JsonValue]


class CheckpointBody(BaseModel):
    """A signed checkpoint (C2SP tlog-checkpoint) as a note, and the verifier key that checks it."""

    size: int
    root_hash: str
    note: str
    verifier_key: str


class InclusionBody(BaseModel):
    """RFC 9162 section 2.1.3: the leaf is at `index` of the tree of `size`. Hashes are hex, the one next to the leaf first."""

    index: int
    size: int
    leaf_hash: str
    root_hash: str
    path: list[str]


class ConsistencyBody(BaseModel):
    """RFC 9162 section 2.1.4: the tree of `first` leaves is a prefix of that of `second`."""

    first: int
    second: int
    first_root_hash: str
    second_root_hash: str
    path: list[str]


class PopulationBody(BaseModel):
    """A population and its runs."""

    population: str
    runs: int
    running: int
    approval_required: bool


class BudgetBody(BaseModel):
    """What a population may spend and has spent; null where none is set or nothing is bounded."""

    population: str
    budget_epsilon: float | None
    delta: float | None
    spent_epsilon: float | None
    remaining_epsilon: float | None
    obstacle: str | None = Field(description="Why spending and budget cannot be compared; null if they can.")
    runs: int
    approval_required: bool


class BudgetChange(Incoming):
    """A new budget, with the reason that goes on the record."""

    epsilon: Annotated[float, Field(gt=0, le=1000)]
    delta: Annotated[float, Field(gt=0, lt=0.1)]
    reason: Reason


class PolicyChange(Incoming):
    """Whether runs start, and models leave, only after another person's approval."""

    required: bool
    reason: Reason | None = None


class AuditBody(BaseModel):
    """What an audit put on the record about one model."""

    index: int
    run: str | None
    entry: dict[str, JsonValue]


class AuditProgress(BaseModel):
    """How far an audit is: `done` of `total` rounds or references of the stage that it is in."""

    stage: str = Field(examples=["training"])
    arm: str = Field(examples=["small-control"])
    done: int
    total: int


class AuditJobBody(BaseModel):
    """An audit that was asked for. `verdict` is null until it ended; `passed`, `warned` or `failed` then."""

    audit: str
    name: str
    task: str
    population: str
    state: str = Field(examples=["queued"])
    attempts: int
    problem: str | None
    detail: str | None
    progress: AuditProgress | None
    verdict: str | None
    started: str


class AuditDetail(Page[AuditBody]):
    """An audit: its entries, and its job and result if it was asked for here."""

    job: AuditJobBody | None
    result: dict[str, JsonValue] | None


class AuditLaunchBody(Incoming):
    """An audit to run on simulated devices: an audit file as JSON, its `task` spelled out."""

    audit: dict[str, JsonValue] = Field(examples=[EXAMPLE_AUDIT])
    workers: Annotated[int, Field(ge=0, le=256)] | None = None


class Health(BaseModel):
    """The process answers, and its store does."""

    status: str = Field(examples=["ok"])
    entries: int
