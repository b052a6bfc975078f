"""`--engine tff`: a task's rounds as a TensorFlow Federated learning process.

Cohorts, records, charges, entries and report are ours. The examples of a cohort go to the engine's process after the round's charge is
committed; what comes back is the next model. Everything between (training, clipping, noise, sums, the server's step) is TFF's.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from client_sim import filters
from client_sim.data.loader import Example, Loader
from client_sim.device_caches import DeviceCaches
from client_sim.executor import Job, Updates
from client_sim.local_work import order_seed
from contract import plan as plans
from contract.canonical import Json
from contract.errors import ErrorCode, TuttiError
from contract.task import TaskSpec
from server.mechanisms import LeafNoise, Mechanism
from server.tuned_parameters import Tuned
from trainer import DeviceExamples, Model
from trainer.batches import batches
from trainer.models.text_selection import TextSelection
from trainer.optimizers import BETA_1, BETA_2
from trainer.selection_text import padding_pieces
from tutti.engines.process import EngineProcess
from tutti.engines.tff_plans import TffPlan

ARRAYS: Mapping[str, tuple[str, ...]] = {
    "mlp": ("x", "y"),
    "next_word": ("tokens", "counted"),
    "next_word_small": ("tokens", "counted"),
    "text_selection": ("exists", "upper", "right", "pieces", "embedded"),
}
"""The arrays of a device that each model's network reads."""
MEASURED = "client_work/train/"


class TffRounds:
    """The rounds of one run in an engine's process, which must outlive it.

    It stands in four places of ours at once, since TFF does in one step what they do one after another: the executor is given a cohort
    and remembers it; `decode`, which is called once the charge is committed, plays the round; the optimiser hands on what came of it.

    Args:
      base: the same task's mechanism in our own engine; it says what devices are told.

    Raises:
      TuttiError: INTERNAL if TFF refuses the task, as it does where a secure one would add anything in the clear.
    """

    def __init__(
        self, engine: EngineProcess, *, spec: TaskSpec, model: Model, plan: TffPlan, loader: Loader, base: Mechanism
    ) -> None:
        self._engine, self._spec, self._model, self._plan, self._loader = engine, spec, model, plan, loader
        self._caches = DeviceCaches(loader=loader, spec=spec.data.cache, seed=spec.data.seed)
        self._rules = filters.rules_for(spec.model.name, locale=spec.data.locale)
        self._parameters = model.init(0)
        self._job: Job | None = None
        self.mechanism = TffMechanism(plan=plan, base=base, play=self._play)
        self.optimizer = TffOptimizer(following=lambda: self._parameters)
        self.checked = self._build()

    def run(self, job: Job) -> Updates:
        """Remembers the cohort; nothing is computed before the charge."""
        self._job, count = job, len(job.devices)
        return Updates(
            total=np.zeros(self.mechanism.sum_length, np.int64),
            count=count,
            metrics={},
            norms_squared=np.zeros(count, np.int64),
        )

    def close(self) -> None:
        """Nothing of its own; the process is closed by who started it."""

    def _build(self) -> Mapping[str, Any]:
        spec, model = self._spec, self._model
        sample = self._prepared(self._loader.examples(0))
        facts: dict[str, Any] = {
            "model": {
                "name": spec.model.name,
                "shapes": {name: list(shape) for name, shape in model.shapes.items()},
                "specs": {name: [array.dtype.str, list(array.shape[1:])] for name, array in self._read(sample).items()},
            },
            "learning_rate": spec.training.learning_rate,
            "server": {
                "optimizer": spec.server.optimizer,
                "learning_rate": spec.server.learning_rate,
                "momentum": spec.server.momentum,
                "beta_1": BETA_1,
                "beta_2": BETA_2,
                "epsilon": 1e-8,
            },
            "aggregation": dict(self._plan.asked),
        }
        return self._engine.call("build", facts, {"parameters": self._parameters, **constants(model)})[0]["aggregations"]

    def _play(self) -> tuple[NDArray[np.float64], dict[str, float]]:
        """What the round changed in the model, float64 of shape (d,), and what TFF measured while training."""
        job, self._job = self._job, None
        if job is None or not np.array_equal(job.parameters, self._parameters):
            raise TuttiError(ErrorCode.INTERNAL, "the engine stands at another model than the run")
        training, decoded = self._spec.training, plans.decode(job.plan)
        parts: list[dict[str, NDArray[Any]]] = []
        rows: list[int] = []
        for device in job.devices.tolist():
            examples = self._prepared(self._caches.examples(device, job.at_s))
            seed = order_seed(job.order_seed, decoded.round_index, device)
            order = batches(
                examples.num_examples,
                batch_size=training.batch_size,
                epochs=training.epochs,
                max_examples=training.max_examples,
                order_seed=seed,
            )
            kept = min(examples.num_examples, training.max_examples)
            indices = order.indices.reshape(training.epochs, -1)[:, :kept].reshape(-1)
            parts.append({name: array[indices] for name, array in self._read(examples).items()})
            rows.append(kept)
        arrays = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        asked = {"rows": rows, "epochs": training.epochs, "batch_size": training.batch_size}
        facts, results = self._engine.call("round", asked, arrays)
        self._require_as_accounted(facts["measured"])
        before, self._parameters = self._parameters, results["parameters"]
        learned = {name.removeprefix(MEASURED): value for name, value in facts["measured"].items() if name.startswith(MEASURED)}
        return self._parameters.astype(np.float64) - before, learned

    def _require_as_accounted(self, measured: Mapping[str, float]) -> None:
        for name, value in self._plan.expected().items():
            found = next((measured[path] for path in measured if path.endswith(name)), None)
            if found is None or abs(found - value) > 1e-5 * value:
                raise TuttiError(ErrorCode.INTERNAL, f"TensorFlow Federated ran with {name} {found}, but {value} is accounted")

    def _prepared(self, examples: Sequence[Example]) -> DeviceExamples:
        if self._rules is not None:
            examples, _ = filters.prepare(examples, self._rules)
        return self._model.featurize(examples)

    def _read(self, examples: DeviceExamples) -> dict[str, NDArray[Any]]:
        return {name: examples.arrays[name] for name in ARRAYS[self._spec.model.name] if name in examples.arrays}


@dataclass(frozen=True, slots=True, kw_only=True)
class TffMechanism:
    """TFF's mechanism as the orchestrator asks of one: it prices, and its `decode` plays the round."""

    plan: TffPlan
    base: Mechanism = field(repr=False)
    play: Any = field(repr=False)

    @property
    def private(self) -> bool:
        """Whether anything is promised."""
        return self.plan.private

    @property
    def sum_length(self) -> int:
        """That of the sums which our own engine would have made; here they are empty."""
        return self.base.sum_length

    @property
    def redrawable(self) -> bool:
        """No: TFF's noise is its own."""
        return False

    @property
    def sampling_rate(self) -> float | None:
        """None: cohorts are made of the devices that come."""
        return None

    @property
    def tuned(self) -> Mapping[str, Tuned]:
        """None of ours; a clip norm that moves does so inside of TFF, by bits that are charged."""
        return {}

    def after(self, noised: NDArray[np.int64], *, count: int, seed: bytes, leaf: int) -> "TffMechanism":
        """The same."""
        del noised, count, seed, leaf
        return self

    def restored(self, values: Mapping[str, float]) -> "TffMechanism":
        """The same."""
        del values
        return self

    def event(self, leaves: int) -> dict[str, Json]:
        """What `leaves` rounds cost at worst."""
        return self.events([self.plan.spec.minimum_survivors] * leaves)["event"]

    def events(self, history: Sequence[int]) -> dict[str, dict[str, Json]]:
        """The claims after these leaves."""
        return self.plan.claims(history)

    def noise(self, secret: bytes, *, released: int) -> LeafNoise:
        """None of ours."""
        del secret
        zero = np.zeros(self.sum_length, np.int64)
        return LeafNoise(lambda: zero, next_leaf=released)

    def decode(self, total: NDArray[np.int64], *, count: int, seed: bytes) -> tuple[NDArray[np.float64], dict[str, float]]:
        """Plays the round; what it changed in the model, and what TFF measured."""
        del total, count, seed
        return self.play()

    def denominator(self, count: int) -> float:
        """1: TFF has divided, and taken the server's step."""
        del count
        return 1.0

    def plan_bytes(
        self, *, spec: TaskSpec, run: str, round_index: int, leaf: int, model_digest: str, ledger_checkpoint: str
    ) -> bytes:
        """What devices of our own engine would be told."""
        return self.base.plan_bytes(
            spec=spec,
            run=run,
            round_index=round_index,
            leaf=leaf,
            model_digest=model_digest,
            ledger_checkpoint=ledger_checkpoint,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class TffOptimizer:
    """Hands on the model that TFF's own server optimiser made."""

    following: Any = field(repr=False)

    def init(self, num_parameters: int) -> dict[str, NDArray[Any]]:
        """No state of ours: TFF keeps its own."""
        del num_parameters
        return {}

    def update(
        self, mean_update: NDArray[np.float32], state: Mapping[str, NDArray[Any]], params: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], Mapping[str, NDArray[Any]]]:
        """The parameters after the round, float32 of shape (d,)."""
        del mean_update, state, params
        return self.following(), {}


def constants(model: Model) -> dict[str, NDArray[Any]]:
    """What a network needs besides parameters: of text selection, what stands where there is no token."""
    if not isinstance(model, TextSelection):
        return {}
    pieces = np.asarray(padding_pieces(), np.int64)
    return {"padding_pieces": pieces} if model.embeddings is None else {"padding": model.embeddings[pieces].mean(axis=0)}
