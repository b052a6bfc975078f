"""The compared rounds as data of the product: devices whose texts and points are the peers' work, read by `tutti run`'s own workers.

`nwp`: devices with 16 to 32 sentences of 20 words; 32 a round, batches of 16. `mlp`: devices with 20 points of 784 features; 100 a
round, batches of 10. One epoch of SGD. As with the peers there are 128 different devices' data, over and over in a population that is
large enough for a fleet to be selected from; sizes are those of the peers' common definition, so a round has as many operations.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from client_sim.data.loader import Example, Loader, example_counts
from contract import canonical, task
from contract.task import TaskSpec
from trainer.vocabulary import public_english

POOL, DEVICES, TOKENS = 128, 4_000, 20
WORDS, WIDTH, UNITS = 10_000, 96, 670
COHORTS = {"nwp": 32, "mlp": 100}


@cache
def sizes(work: str) -> NDArray[np.int64]:
    """How many examples each of the 128 devices has, shape (128,)."""
    return np.random.default_rng(7).integers(16, 33, POOL) if work == "nwp" else np.full(POOL, 20)


def gflop(work: str, examples: float) -> float:
    """Operations of the matrix products for so many examples, forward and twice that backward."""
    products = TOKENS * (2 * WIDTH * 3 * UNITS + UNITS * WIDTH + WIDTH * WORDS) if work == "nwp" else 784 * 64 + 64 * 62
    return 6 * examples * products / 1e9


@dataclass(frozen=True, slots=True)
class RoundWork:
    """A loader of one of the compared works; nobody is held out."""

    work: str
    num_devices: int = DEVICES

    @property
    def digest(self) -> str:
        """Names the recipe."""
        return canonical.digest({"benchmark": self.work, "devices": self.num_devices})

    def num_examples(self, devices: NDArray[np.int64]) -> NDArray[np.int64]:
        """Shape (n,)."""
        return sizes(self.work)[devices % POOL]

    def examples(self, index: int) -> Sequence[dict[str, Any]]:
        """The examples of one device."""
        return _examples(self.work, index % POOL, int(sizes(self.work)[index % POOL]))

    def held_out(self) -> Iterator[Sequence[dict[str, Any]]]:
        """Nobody."""
        return iter(())


@dataclass(frozen=True, slots=True)
class TrainingOnly:
    """Another loader without its held-out users, whose evaluation is no part of a round."""

    loader: Loader

    @property
    def num_devices(self) -> int:
        """As there."""
        return self.loader.num_devices

    @property
    def digest(self) -> str:
        """As there."""
        return self.loader.digest

    def num_examples(self, devices: NDArray[np.int64]) -> NDArray[np.int64]:
        """Shape (n,)."""
        return example_counts(self.loader, devices)

    def examples(self, index: int) -> Sequence[Example]:
        """As there."""
        return self.loader.examples(index)

    def held_out(self) -> Iterator[Sequence[Example]]:
        """Nobody."""
        return iter(())


@cache
def _examples(work: str, index: int, count: int) -> tuple[dict[str, Any], ...]:
    """Made once: the peers, too, have their data in memory."""
    generator = np.random.default_rng(1000 + index)
    if work == "nwp":
        words = public_english().words
        return tuple({"text": " ".join(words[i] for i in row)} for row in generator.integers(0, len(words), (count, TOKENS)))
    points, labels = generator.random((count, 784), np.float32), generator.integers(0, 62, count)
    return tuple({"x": points[i], "y": int(labels[i])} for i in range(count))


def spec(work: str, rounds: int, *, cohort: int | None = None, devices: int = DEVICES) -> TaskSpec:
    """The product's task for the compared work: DP-FTRL, ledger and all."""
    goal = cohort or COHORTS[work]
    training = {"batch_size": 16, "learning_rate": 0.5} if work == "nwp" else {"batch_size": 10, "learning_rate": 0.1}
    return task.parse_mapping(
        {
            "population": f"benchmark-{work}",
            "model": {"name": "next_word" if work == "nwp" else "mlp"},
            "data": {"source": "synthetic", "devices": devices},
            "cohort": {"report_goal": goal, "over_selection": 1.3, "minimum_reports": goal // 2},
            "deadlines": {"selection_s": 86_400},
            "training": {"epochs": 1, "max_examples": 256, **training},
            "server": {"optimizer": "sgd", "learning_rate": 1.0, "momentum": 0.9},
            "privacy": {"mechanism": "tree", "clip_norm": 1.0, "noise_multiplier": 1.0, "delta": 1e-5},
            "rounds": rounds,
        }
    )
