"""Everything about a task that can be refused before a run starts, and what a run needs made from it.

`contract.task` checks the form; `problems` checks what needs knowledge of models, mechanisms and numbers. `tutti task check` prints
the same list that `prepare` refuses by.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from contract import task
from contract.errors import Problem
from contract.task import CENTRAL_MECHANISMS, DISTRIBUTED_MECHANISMS, TaskFormError, TaskSpec
from privacy import accounting, central, events
from privacy.distributed import NarrowNoiseError
from secagg import Infeasible
from server import task_rules
from server.distributed_mechanism import DistributedMechanism, distributed_mechanism
from server.mechanisms import CentralMechanism
from server.tuned_parameters import norm_tracking
from trainer import Model, ServerOptimizer, server_optimizer
from trainer.models import registry
from trainer.vocabulary import Vocabulary

SELECTION_ENTITIES = ("none", "address", "phone", "email", "url", "phone_several", "several")
EXPANDED_ENTITIES = ("none", "address", "phone")
"""For which precision is reported: suggestions of more than the tapped token; e-mail addresses and links are one token."""
SELECTION_METRICS = (
    "examples",
    "targets",
    "exact/targets",
    *(f"count_{entity}" for entity in SELECTION_ENTITIES),
    *(f"exact_{entity}/count_{entity}" for entity in SELECTION_ENTITIES),
    "expanded",
    "precision/expanded",
    *(f"expanded_{entity}" for entity in EXPANDED_ENTITIES),
    *(f"precision_{entity}/expanded_{entity}" for entity in EXPANDED_ENTITIES),
)
"""Number of examples, selection accuracy, that of several words, and recall and precision for each kind of entity."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PreparedTask:
    """A task that can run. `spec` has its noise calibrated: `noise_multiplier` is a number wherever a mechanism is private."""

    spec: TaskSpec
    model: Model = field(repr=False)
    mechanism: CentralMechanism | DistributedMechanism
    optimizer: ServerOptimizer = field(repr=False)


def prepare(spec: TaskSpec, vocabulary: Vocabulary | None = None) -> PreparedTask:
    """What a run of `spec` needs.

    Args:
      vocabulary: for `model.vocabulary: data`, the words that were counted in the data.

    Raises:
      TaskFormError: with every problem that `problems` finds.
    """
    refuse(spec)
    model = _model(spec, vocabulary)
    spec = calibrated(spec, dimension=model.num_parameters)
    return PreparedTask(
        spec=spec,
        model=model,
        mechanism=_mechanism(spec, model.num_parameters),
        optimizer=server_optimizer(spec.server.optimizer, spec.server.learning_rate, spec.server.momentum),
    )


def _mechanism(spec: TaskSpec, dimension: int) -> CentralMechanism | DistributedMechanism:
    try:
        if spec.aggregation.secure:
            return distributed_mechanism(spec, dimension=dimension, metric_names=metric_names(spec))
        return CentralMechanism(
            plan=_central_plan(spec, dimension), report_goal=spec.cohort.report_goal, tracking=norm_tracking(spec)
        )
    except Infeasible as error:
        size = error.nearest.get("roster_size")
        groups = f"Set aggregation.group_size to {size} or less: groups are summed one by one." if size else ""
        raise TaskFormError((Problem("aggregation", str(error), groups or "Use the nearest values that are named."),)) from None
    except ValueError as error:
        raise TaskFormError((Problem("privacy", str(error), "Correct the value that is named."),)) from error


def metric_names(spec: TaskSpec) -> tuple[str, ...]:
    """The counts that devices of a task report inside the secure sum; `x/y` is the part of count y for which x holds."""
    if spec.model.name.startswith("next_word"):
        return ("examples", "targets", "top1/targets")
    if spec.model.name == "text_selection":
        return SELECTION_METRICS
    return ("examples", "targets", "accuracy/targets")


def refuse(spec: TaskSpec) -> None:
    """Nothing, for a task that can run.

    Raises:
      TaskFormError: with every problem that `problems` finds.
    """
    found = problems(spec)
    if found:
        raise TaskFormError(tuple(found))


def problems(spec: TaskSpec) -> list[Problem]:
    """Every fault of a task whose form is right, with the key and the cure of each."""
    return [*_model_problems(spec), *_cohort_problems(spec), *_privacy_problems(spec), *_aggregation_problems(spec)]


def calibrated(spec: TaskSpec, *, dimension: int | None = None) -> TaskSpec:
    """`spec` with the noise multiplier that meets its target epsilon, if it names one; `dimension` is the model's unless given."""
    privacy = spec.privacy
    if privacy.epsilon is None or privacy.mechanism == "none":
        return spec
    if spec.aggregation.secure or privacy.mechanism == "blt":  # a BLT's numerical error grows with the dimension
        dimension = _model(spec, None).num_parameters if dimension is None else dimension
    else:
        dimension = 1  # the grid is so fine that its inflation is in the multiplier, whatever the dimension

    def epsilon_of(noise_multiplier: float) -> float:
        tried = task.replace(spec, privacy={"noise_multiplier": noise_multiplier, "epsilon": None})
        try:
            event = events.from_json(_mechanism(tried, dimension).event(spec.rounds))
        except TaskFormError as error:
            if isinstance(error.__cause__, NarrowNoiseError):
                return math.inf  # too little noise for any price; more of it has one
            raise
        return accounting.price(event, privacy.delta or 0.0).epsilon

    multiplier = least_noise(epsilon_of, target=privacy.epsilon)
    return task.replace(spec, privacy={"noise_multiplier": multiplier, "epsilon": None})


def least_noise(epsilon_of: Callable[[float], float], *, target: float, digits: int = 4) -> float:
    """The least noise multiplier, to `digits` decimals and rounded up, whose epsilon is at most `target`; epsilon falls with noise.

    >>> least_noise(lambda z: 2.0 / z, target=4.0)
    0.5
    """
    low, high = 0, 1
    while epsilon_of(high * 10.0**-digits) > target:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if epsilon_of(middle * 10.0**-digits) <= target else (middle, high)
    return high * 10.0**-digits if digits == 0 else round(high * 10.0**-digits, digits)


def _model(spec: TaskSpec, vocabulary: Vocabulary | None) -> Model:
    try:
        return registry.get(spec.model.name, **model_options(spec, vocabulary))
    except ValueError as error:
        raise TaskFormError((Problem("model", str(error), "Correct the model's section."),)) from None


def model_length(spec: TaskSpec) -> int | None:
    """Parameters of a task's model where it is one of ours; code and files that a task names are not touched: it may be anybody's.

    >>> model_length(task.parse_mapping({"population": "p", "model": {"name": "a.b:c"}, "cohort": {"report_goal": 4}, "rounds": 2}))
    """
    if ":" in spec.model.name or spec.model.init_from is not None or spec.model.vocabulary != "public-en":
        return None
    try:
        return _model(spec, None).num_parameters
    except TaskFormError:
        return None


def model_options(spec: TaskSpec, vocabulary: Vocabulary | None) -> dict[str, str | Vocabulary]:
    """What the registry is told about a model besides its name."""
    if spec.model.name.startswith("next_word"):
        return {"vocabulary": vocabulary if vocabulary is not None else spec.model.vocabulary}
    if spec.model.name == "text_selection":
        options: dict[str, str | Vocabulary] = {"trainable": spec.model.trainable}
        return options | ({"init_from": spec.model.init_from} if spec.model.init_from else {})
    return {}


def _central_plan(spec: TaskSpec, dimension: int) -> central.CentralPlan:
    privacy, cohort, multiplier = spec.privacy, spec.cohort, spec.privacy.noise_multiplier or 0.0
    tracking = norm_tracking(spec)
    if tracking is not None:
        multiplier = tracking.vector_noise_multiplier(multiplier)
    return central.plan(
        mechanism=privacy.mechanism,
        dimension=dimension,
        clip_norm=privacy.clip_norm,
        noise_multiplier=multiplier,
        rounds=spec.rounds,
        minimum_separation=cohort.minimum_separation,
        max_participations=cohort.max_participations,
        restart_every=privacy.restart_every,
        honaker=privacy.honaker,
        sampling_rate=privacy.sampling_rate if privacy.sampling == "poisson" else None,
        bands=privacy.bands,
        buffers=privacy.buffers,
    )


def _model_problems(spec: TaskSpec) -> list[Problem]:
    found: list[Problem] = []
    if ":" not in spec.model.name and spec.model.name not in registry.names():
        known = ", ".join(registry.names())
        found.append(
            Problem("model.name", f"no model is called {spec.model.name!r}", f"Use one of {known}, or package.module:factory.")
        )
    if spec.model.init_from is not None and not Path(spec.model.init_from).is_file():
        found.append(Problem("model.init_from", f"there is no file {spec.model.init_from}", "Give the path of a weights file."))
    if spec.model.vocabulary not in ("public-en", "data"):
        found.append(
            Problem(
                "model.vocabulary",
                f"no vocabulary is called {spec.model.vocabulary!r}",
                "Use public-en, or data (simulation only).",
            )
        )
    if spec.server.momentum and spec.server.optimizer != "sgd":
        found.append(Problem("server.momentum", f"{spec.server.optimizer} has moments of its own", "Remove it, or use sgd."))
    return found


def _cohort_problems(spec: TaskSpec) -> list[Problem]:
    cohort, found = spec.cohort, list[Problem]()
    if cohort.fewest_reports > cohort.report_goal:
        found.append(
            Problem(
                "cohort.minimum_reports",
                f"{cohort.fewest_reports} reports can never be reached with a goal of {cohort.report_goal}",
                "Lower it to the report goal or below.",
            )
        )
    if spec.data.devices is not None and spec.data.devices < cohort.report_goal:
        found.append(
            Problem(
                "data.devices",
                f"{spec.data.devices} devices cannot fill {cohort.report_goal} reports",
                "Simulate more devices.",
            )
        )
    elif spec.data.devices is not None and spec.data.devices < fewest_devices(spec):
        found.append(
            Problem(
                "data.devices",
                f"{spec.data.devices} devices cannot play {spec.rounds} rounds within their own limits",
                f"Simulate at least {fewest_devices(spec)} devices and some to spare, or lower cohort.minimum_reports, "
                "minimum_separation or rounds.",
            )
        )
    return found


def fewest_devices(spec: TaskSpec) -> int:
    """With fewer devices than this no run can end, even if nobody is ever lost: separation or cap would keep too many away.

    >>> cohort = {"report_goal": 20, "minimum_reports": 16, "minimum_separation": 4}
    >>> fewest_devices(task.parse_mapping({"population": "p", "model": {"name": "mlp"}, "cohort": cohort, "rounds": 10}))
    80
    """
    if spec.privacy.sampling == "poisson":
        return 1  # a round takes whom it draws, and be it nobody
    cohort, fewest = spec.cohort, spec.minimum_survivors if spec.aggregation.secure else spec.cohort.fewest_reports
    apart = fewest * min(spec.rounds, cohort.minimum_separation + 1)
    if cohort.max_participations is None:
        return apart
    return max(apart, -(-fewest * spec.rounds // cohort.max_participations))


def _privacy_problems(spec: TaskSpec) -> list[Problem]:
    privacy, found = spec.privacy, list[Problem]()
    if privacy.mechanism == "none":
        if privacy.epsilon is not None or privacy.noise_multiplier:
            found.append(Problem("privacy.mechanism", "none adds no noise, so it can meet no target", "Name a mechanism."))
        return found + task_rules.problems(spec)
    if privacy.clip_norm is None:
        found.append(
            Problem("privacy.clip_norm", "without a clip there is no sensitivity", "Add the largest L2 norm of an update.")
        )
    if privacy.delta is None:
        found.append(Problem("privacy.delta", "an epsilon means nothing without its delta", "Add delta, such as 1e-6."))
    if (privacy.epsilon is None) == (privacy.noise_multiplier is None):
        found.append(
            Problem(
                "privacy.noise_multiplier",
                "give either noise_multiplier or epsilon (from which the noise is calibrated), and not both",
                "Keep one of the two.",
            )
        )
    if privacy.restart_every is not None and privacy.mechanism != "tree":
        found.append(Problem("privacy.restart_every", f"{privacy.mechanism} does not restart", "Remove it, or use tree."))
    return found + _passed_over(spec)


def _passed_over(spec: TaskSpec) -> list[Problem]:
    """What the form allows and no run would do: a promise must not rest on a key that nobody reads."""
    privacy, separation = spec.privacy, spec.cohort.minimum_separation
    found = task_rules.problems(spec)
    if privacy.bands is not None and privacy.mechanism != "banded":
        found.append(Problem("privacy.bands", f"{privacy.mechanism} has no bands", "Remove it, or use banded."))
    elif privacy.bands is not None and privacy.bands > separation + 1:
        fault = f"{privacy.bands} bands overlap where {separation} rounds lie between two participations"
        found.append(Problem("privacy.bands", fault, f"Use at most {separation + 1}, or raise cohort.minimum_separation."))
    if privacy.buffers is not None and privacy.mechanism != "blt":
        found.append(Problem("privacy.buffers", f"{privacy.mechanism} has no buffers", "Remove it, or use blt."))
    return found


def _aggregation_problems(spec: TaskSpec) -> list[Problem]:
    found: list[Problem] = []
    if spec.privacy.mechanism in DISTRIBUTED_MECHANISMS and not spec.aggregation.secure:
        found.append(
            Problem(
                "aggregation.secure",
                f"{spec.privacy.mechanism} adds noise on the devices, which protects the sum only if nothing but the sum is seen",
                "Set aggregation: {secure: true}, or use a central mechanism.",
            )
        )
    if spec.aggregation.secure and spec.privacy.mechanism in CENTRAL_MECHANISMS:
        found.append(
            Problem(
                "privacy.mechanism",
                f"{spec.privacy.mechanism} is noised by the server, not on the devices of a secure round",
                "Use ddg, skellam or none with secure aggregation.",
            )
        )
    if spec.privacy.metrics is not None and not spec.aggregation.secure:
        found.append(
            Problem(
                "privacy.metrics",
                "federated metrics leave a device only inside a secure sum",
                "Set aggregation: {secure: true}, or remove it.",
            )
        )
    if spec.aggregation.group_size is not None and not spec.aggregation.secure:
        found.append(
            Problem("aggregation.group_size", "only secure aggregation goes in groups", "Set secure: true, or remove it.")
        )
    if spec.cohort.report_goal % spec.groups:
        found.append(
            Problem(
                "aggregation.group_size",
                f"a cohort of {spec.cohort.report_goal} does not split into {spec.groups} equal groups",
                f"Use a goal of {spec.groups * spec.group_roster}, or another size.",
            )
        )
    if spec.aggregation.secure and spec.minimum_survivors > spec.group_minimum_roster:
        found.append(
            Problem(
                "aggregation.minimum_survivors",
                f"{spec.minimum_survivors} survivors cannot come out of a roster of {spec.group_minimum_roster}",
                "Lower it, or raise cohort.minimum_reports.",
            )
        )
    if spec.aggregation.ideal and not spec.aggregation.secure:
        found.append(Problem("aggregation.ideal", "there is no cryptography to idealise", "Set secure: true, or remove it."))
    return found
