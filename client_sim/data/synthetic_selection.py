"""Synthetic corrections: a user taps a word of a message and settles on the whole address, number or link around it."""

import dataclasses
import re
import unicodedata
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Literal, TypeVar

import numpy as np
import numpy.typing as npt

from client_sim.data import heavy_tail
from client_sim.data.loader import Example
from client_sim.data.selection_words import BY_LOCALE, LocaleWords
from contract import canonical
from contract.randomness import stream

ENTITIES = ("none", "address", "phone", "email", "url")
SHARES = (0.45, 0.28, 0.18, 0.06, 0.03)
HOME_SHARE = 0.4
"""How often an address of a device is the one that only this device has."""
_Choice = TypeVar("_Choice")
_SLOT = re.compile(r"\{(\w+)\}|([#@])")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class SyntheticSelection:
    """`num_devices` devices whose example is `{"text", "tap": [s, e], "selection": [s, e], "entity"}`, offsets in code points.

    For `entity` `none` the right answer is the tapped word alone. A device has a home address of its own that it taps often.
    """

    num_devices: int
    seed: int
    locale: Literal["en", "es", "ja"] = "en"
    num_held_out: int = 200

    def __post_init__(self) -> None:
        """Refuses what makes no population."""
        if self.num_devices < 1:
            raise ValueError(f"num_devices must be at least 1, not {self.num_devices}")
        if self.locale not in BY_LOCALE:
            raise ValueError(f"locale must be one of {', '.join(BY_LOCALE)}, not {self.locale!r}")

    @property
    def digest(self) -> str:
        """Hex SHA-256 of the recipe."""
        return canonical.digest({"synthetic": "selection", "version": 1, "of": canonical.plain(self)})

    def num_examples(self, devices: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Corrections of each of `devices`: int64, shape (n,)."""
        return heavy_tail.example_counts(self.seed, devices)

    def examples(self, index: int) -> Sequence[Example]:
        """The corrections of the device at `index`.

        Raises:
          ValueError: if `index` is no device.

        >>> sorted(SyntheticSelection(num_devices=1, seed=0).examples(0)[0])
        ['entity', 'selection', 'tap', 'text']
        """
        if not 0 <= index < self.num_devices:
            raise ValueError(f"device {index} is not in 0..{self.num_devices - 1}")
        return self._generate(index)

    def held_out(self) -> Iterator[Sequence[Example]]:
        """Users beyond the devices, made the same way."""
        return (self._generate(self.num_devices + user) for user in range(self.num_held_out))

    def _generate(self, index: int) -> tuple[Example, ...]:
        count = int(self.num_examples(np.array([index]))[0])
        draw, words = stream(self.seed, "selection", self.locale, index), BY_LOCALE[self.locale]
        home = _entity(words, "address", draw)
        kinds = draw.choice(len(ENTITIES), count, p=SHARES)
        return tuple(_example(words, ENTITIES[int(kind)], home, draw) for kind in kinds)


def _example(words: LocaleWords, kind: str, home: str, draw: np.random.Generator) -> Example:
    if kind == "none":
        return _plain(words, draw)
    entity = home if kind == "address" and draw.random() < HOME_SHARE else _entity(words, kind, draw)
    before, _, after = _one(words.carriers, draw).partition("{e}")
    if kind in words.spaced:
        before, after = f"{before} ", f" {after}"
    start = len(before)
    tap = _one(_taps(entity), draw)
    return {
        "text": before + entity + after,
        "tap": [start + tap[0], start + tap[1]],
        "selection": [start, start + len(entity)],
        "entity": kind,
    }


def _plain(words: LocaleWords, draw: np.random.Generator) -> Example:
    """A tap on a word that is part of nothing; sometimes an address stands in the same message."""
    text = _one(words.plain, draw)
    tap = _one(_taps(text), draw)
    if draw.random() < 0.3:
        text += " " + _one(words.carriers, draw).format(e=_entity(words, "address", draw))
    return {"text": text, "tap": list(tap), "selection": list(tap), "entity": "none"}


def _entity(words: LocaleWords, kind: str, draw: np.random.Generator) -> str:
    def fill(match: re.Match[str]) -> str:
        if match[2] is not None:
            return str(draw.integers(0 if match[2] == "#" else 1, 10))
        return _one(words.slots[match[1]], draw)

    return _SLOT.sub(fill, _one(words.forms[kind], draw))


def _one(choices: Sequence[_Choice], draw: np.random.Generator) -> _Choice:
    return choices[int(draw.integers(len(choices)))]


def _taps(text: str) -> tuple[tuple[int, int], ...]:
    """The words of `text` that a finger can mean: runs of letters or digits of one script."""
    found: list[tuple[int, int]] = []
    before = None
    for at, character in enumerate(text):
        script = _script(character)
        if script is not None and script == before:
            found[-1] = (found[-1][0], at + 1)
        elif script is not None:
            found.append((at, at + 1))
        before = script
    return tuple(found)


@cache
def _script(character: str) -> str | None:
    if not character.isalnum():
        return None
    return "DIGIT" if character.isdecimal() else unicodedata.name(character, "OTHER").split()[0]
