"""A synthetic language spoken by many devices: topics, Zipfian words, and words that only one device uses."""

import dataclasses
import re
from collections.abc import Iterator, Sequence
from functools import cache

import numpy as np
import numpy.typing as npt

from client_sim.data import heavy_tail
from client_sim.data.loader import Example
from client_sim.data.words import FRAMES, PEOPLE, PRIVATE_FRAME, SYLLABLES, TIMES, TOPICS
from contract import canonical
from contract.randomness import stream

PRIVATE_SHARE = 0.05
"""Share of a device's sentences that carry its private sequence."""
NICKNAME_SHARE = 0.3
"""How often a person is called by a name that only this device knows."""
_SLOT = re.compile(r"\{([nvatp])\}")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class SyntheticText:
    """`num_devices` devices whose example is `{"text": str}`.

    A device speaks of few topics (a Dirichlet law over all of them), picks words by rank with probability about 1/rank, and
    has three words of its own that it repeats in one order, and two invented names. Devices are made on demand, each from its
    own stream, so a population of millions costs nothing until it is used.
    """

    num_devices: int
    seed: int
    num_held_out: int = 200
    topic_skew: float = 0.3

    def __post_init__(self) -> None:
        """Refuses sizes that make no population."""
        if self.num_devices < 1:
            raise ValueError(f"num_devices must be at least 1, not {self.num_devices}")
        if self.topic_skew <= 0:
            raise ValueError(f"topic_skew must be above 0, not {self.topic_skew}")

    @property
    def digest(self) -> str:
        """Hex SHA-256 of the recipe."""
        return canonical.digest({"synthetic": "text", "version": 1, "of": canonical.plain(self)})

    def num_examples(self, devices: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Sentences of each of `devices`: int64, shape (n,)."""
        return heavy_tail.example_counts(self.seed, devices)

    def examples(self, index: int) -> Sequence[Example]:
        """The sentences of the device at `index`.

        Raises:
          ValueError: if `index` is no device.

        >>> sorted(SyntheticText(num_devices=2, seed=0).examples(1)[0])
        ['text']
        """
        if not 0 <= index < self.num_devices:
            raise ValueError(f"device {index} is not in 0..{self.num_devices - 1}")
        return self._generate(index)

    def private_words(self, index: int) -> tuple[str, ...]:
        """The three words that the device at `index` repeats in this order."""
        draw = stream(self.seed, "private", index)
        words = _all_words()
        return tuple(words[int(rank)] for rank in draw.choice(len(words), 3, replace=False))

    def held_out(self) -> Iterator[Sequence[Example]]:
        """Users beyond the devices, made the same way."""
        return (self._generate(self.num_devices + user) for user in range(self.num_held_out))

    def _generate(self, index: int) -> tuple[Example, ...]:
        count = int(self.num_examples(np.array([index]))[0])
        draw = stream(self.seed, "text", index)
        topics = draw.choice(len(TOPICS), count, p=draw.dirichlet(np.full(len(TOPICS), self.topic_skew)))
        frames: list[int] = draw.choice(len(FRAMES), count, p=_zipf(len(FRAMES))).tolist()
        private = draw.random(count) < PRIVATE_SHARE
        names = tuple("".join(draw.choice(SYLLABLES, 3).tolist()) for _ in range(2))
        secret = PRIVATE_FRAME.format(w=" ".join(self.private_words(index)))
        slots = iter(draw.random((count * 8, 2)).tolist())
        return tuple(
            {"text": secret if own else _fill(FRAMES[frame], topic, names, slots)}
            for topic, frame, own in zip(topics.tolist(), frames, private.tolist(), strict=True)
        )


def _fill(frame: str, topic: int, names: tuple[str, ...], slots: Iterator[list[float]]) -> str:
    def word(match: re.Match[str]) -> str:
        rank, other = next(slots)
        match match[1]:
            case "t":
                return _ranked(TIMES, rank)
            case "p":
                return names[int(rank * len(names))] if other < NICKNAME_SHARE else _ranked(PEOPLE, rank)
            case kind:
                return _ranked(_topic_words(topic, kind), rank)

    return _SLOT.sub(word, frame)


def _ranked(words: tuple[str, ...], uniform: float) -> str:
    return words[int(np.searchsorted(_cumulative(len(words)), uniform, side="right"))]


@cache
def _zipf(size: int) -> npt.NDArray[np.float64]:
    weights = 1.0 / np.arange(1, size + 1)
    return weights / weights.sum()


@cache
def _cumulative(size: int) -> npt.NDArray[np.float64]:
    return np.cumsum(_zipf(size))[:-1]


@cache
def _topic_words(topic: int, kind: str) -> tuple[str, ...]:
    return tuple(TOPICS.values())[topic][kind]


@cache
def _all_words() -> tuple[str, ...]:
    return tuple(sorted({word for topic in TOPICS.values() for words in topic.values() for word in words}))
