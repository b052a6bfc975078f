"""Canaries: random sequences that simulated devices share, to see later whether a model has memorised them.

`CanaryLoader` puts devices behind those of another loader. A sharing device has a real device's examples, some of them replaced by
copies of its canary; a coin device holds one canary alone, and only if its coin says so. The audited system trains on them as on any
device and cannot tell.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from client_sim.data.loader import Example, Loader, example_counts
from contract import canonical, randomness
from contract.errors import ErrorCode, TuttiError

GRID_DEVICES = (1, 4, 16)
GRID_COPIES = (1, 14, 200)
"""Devices that share a canary and copies on each (arXiv:2009.10031v1, section 3)."""
PER_DEVICE = 200
"""Examples of a sharing device, copies included."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Canary:
    """One random sequence.

    Args:
      name: unique in its audit.
      text: the whole sequence.
      prefix: how many of its tokens are given to the attacker; the secret is the rest.
      devices, copies: its cell in the grid, also for a held-out one, which no device has.
      inserted: whether devices share it.
      tap, selection: for selection canaries, [start, end) in code points of `text`.
    """

    name: str
    text: str
    prefix: int = 0
    devices: int
    copies: int
    inserted: bool
    tap: tuple[int, int] | None = None
    selection: tuple[int, int] | None = None

    @property
    def example(self) -> Example:
        """As the model's `featurize` reads it."""
        if self.tap is None or self.selection is None:
            return {"text": self.text}
        return {"text": self.text, "tap": list(self.tap), "selection": list(self.selection), "entity": "canary"}


@dataclass(frozen=True, slots=True, kw_only=True)
class CoinCanary:
    """Whole devices as a canary: they train on `copies` of its text if `included`, and on nothing (a zero update) otherwise."""

    canary: Canary
    included: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Canaries:
    """All that an audit inserts or keeps out."""

    grid: tuple[Canary, ...] = ()
    coins: tuple[CoinCanary, ...] = ()

    @property
    def num_devices(self) -> int:
        """Devices that they add to a population."""
        return sum(canary.devices for canary in self.grid if canary.inserted) + sum(coin.canary.devices for coin in self.coins)

    @property
    def digest(self) -> str:
        """Hex SHA-256 of the canaries."""
        return canonical.digest(canonical.plain(to_json(self)))


def word_canaries(
    words: Sequence[str],
    *,
    seed: int,
    devices: Sequence[int] = GRID_DEVICES,
    copies: Sequence[int] = GRID_COPIES,
    per_cell: int = 3,
    length: int = 5,
    prefix: int = 2,
) -> tuple[Canary, ...]:
    """`per_cell` inserted canaries in each cell of the grid and as many held-out ones, all drawn alike: `length` independent words.

    Args:
      words: the vocabulary; only purely alphabetical words are drawn, which survive any tokenizer.

    Raises:
      ValueError: if the words, the length or the prefix make no canary.

    Source: arXiv:2009.10031v1 (Ramaswamy et al.), section 3.1.

    >>> found = word_canaries(["red", "green", "blue"], seed=0, devices=[1], copies=[1, 14], per_cell=2)
    >>> len(found), sum(canary.inserted for canary in found)
    (8, 4)
    """
    usable = alphabetical(words)
    if not 0 <= prefix < length:
        raise ValueError(f"the prefix must be shorter than the canary, not {prefix} of {length}")
    made: list[Canary] = []
    for inserted in (True, False):
        for m in devices:
            for n in copies:
                for number in range(per_cell):
                    name = f"{m}x{n}-{number}" + ("" if inserted else "-held-out")
                    drawn = _draw(usable, length, seed, name)
                    made.append(Canary(name=name, text=drawn, prefix=prefix, devices=m, copies=n, inserted=inserted))
    return tuple(made)


def coin_canaries(
    words: Sequence[str],
    included: npt.NDArray[np.bool_],
    *,
    seed: int,
    devices: int = 1,
    copies: int = PER_DEVICE,
    length: int = 5,
    prefix: int = 2,
) -> tuple[CoinCanary, ...]:
    """A canary for each coin, on `devices` devices that hold nothing else.

    >>> len(coin_canaries(["red", "green"], np.array([True, False]), seed=0))
    2
    """
    usable = alphabetical(words)
    return tuple(
        CoinCanary(
            canary=Canary(
                name=f"coin-{number}",
                text=_draw(usable, length, seed, "coin", number),
                prefix=prefix,
                devices=devices,
                copies=copies,
                inserted=bool(coin),
            ),
            included=bool(coin),
        )
        for number, coin in enumerate(included)
    )


def selection_canaries(
    *,
    seed: int,
    devices: Sequence[int] = GRID_DEVICES,
    copies: Sequence[int] = GRID_COPIES,
    per_cell: int = 3,
) -> tuple[Canary, ...]:
    """Spans of 3 to 5 tokens that nobody writes, between 5 such tokens on either side; the tap is on one of them, all are to be selected.

    >>> found = selection_canaries(seed=0, devices=[1], copies=[2], per_cell=1)
    >>> found[0].text[slice(*found[0].tap)] in found[0].text[slice(*found[0].selection)].split()
    True
    """
    return tuple(
        _selection_canary(f"{m}x{n}-{number}" + ("" if inserted else "-held-out"), m, n, inserted=inserted, seed=seed)
        for inserted in (True, False)
        for m in devices
        for n in copies
        for number in range(per_cell)
    )


def selection_coin_canaries(
    included: npt.NDArray[np.bool_], *, seed: int, devices: int = 1, copies: int = PER_DEVICE
) -> tuple[CoinCanary, ...]:
    """A selection canary for each coin, on `devices` devices that hold nothing else."""
    return tuple(
        CoinCanary(
            canary=_selection_canary(f"coin-{number}", devices, copies, inserted=bool(coin), seed=seed), included=bool(coin)
        )
        for number, coin in enumerate(included)
    )


def with_fresh_secret(canary: Canary, *labels: int | str, seed: int) -> Canary:
    """The same context and place of the tap, with another secret drawn alike: a reference for the canary's rank.

    Raises:
      ValueError: for a canary without a selection.
    """
    if canary.tap is None or canary.selection is None:
        raise ValueError(f"canary {canary.name} selects nothing")
    start, end = canary.selection
    secret = canary.text[start:end].split()
    tapped = len(canary.text[start : canary.tap[0]].split())
    fresh = [_rare_word(seed, canary.name, "reference", *labels, place) for place in range(len(secret))]
    before, after = canary.text[:start].split(), canary.text[end:].split()
    return _spanned(canary, before, fresh, after, tapped)


def alphabetical(words: Sequence[str]) -> list[str]:
    """The words of ASCII letters alone: they are tokens by themselves, joined by spaces.

    Raises:
      ValueError: if fewer than 2 are left.

    >>> alphabetical(["a", "don't", ":-)", "b"])
    ['a', 'b']
    """
    usable = [word for word in words if word.isascii() and word.isalpha() and word == word.lower()]
    if len(usable) < 2:
        raise ValueError(f"canaries need at least two words of letters; the vocabulary has {len(usable)}")
    return usable


@dataclass(frozen=True, slots=True, kw_only=True)
class CanaryLoader:
    """`base` with the canaries' devices behind its own.

    Args:
      per_device: examples of a sharing device: its copies, then a real device's examples up to this number.
      seed: decides which real device each sharing device takes after.
    """

    base: Loader
    canaries: Canaries = field(repr=False)
    per_device: int = PER_DEVICE
    seed: int = 0
    _owners: tuple[Canary, ...] = field(init=False, repr=False)
    _coins: tuple[CoinCanary, ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        owners = [canary for canary in self.canaries.grid if canary.inserted for _ in range(canary.devices)]
        object.__setattr__(self, "_owners", tuple(owners))
        coins = [coin for coin in self.canaries.coins for _ in range(coin.canary.devices)]
        object.__setattr__(self, "_coins", tuple(coins))

    @property
    def num_devices(self) -> int:
        """The base's devices and the canaries'."""
        return self.base.num_devices + self.canaries.num_devices

    @property
    def digest(self) -> str:
        """Names the base's data, the canaries and how they are spread."""
        facts: dict[str, canonical.Json] = {
            "base": self.base.digest,
            "canaries": self.canaries.digest,
            "per_device": self.per_device,
            "seed": self.seed,
        }
        return canonical.digest(facts)

    @property
    def disclosures(self) -> tuple[str, ...]:
        """What a report must say of this data."""
        shared = sum(canary.inserted for canary in self.canaries.grid)
        line = (
            f"{self.canaries.num_devices} of the devices are an audit's: {shared} canaries shared by {len(self._owners)} of them,"
            f" {len(self.canaries.coins)} in or out by coins (canaries {self.canaries.digest[:16]})"
        )
        return (line,)

    def examples(self, index: int) -> Sequence[Example]:
        """The examples of a device, the base's first.

        Raises:
          ValueError: if `index` is no device.
        """
        place = index - self.base.num_devices
        if place < 0:
            return self.base.examples(index)
        if place < len(self._owners):
            return self._shared(place)
        if place < self.canaries.num_devices:
            coin = self._coins[place - len(self._owners)]
            return (coin.canary.example,) * coin.canary.copies if coin.included else ()
        raise ValueError(f"device {index} is not in 0..{self.num_devices - 1}")

    def num_examples(self, devices: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Examples of each of `devices`, int64, shape (n,).

        A coin device counts its copies in either case: how long it takes must not tell its coin, since participation is not hidden.
        """
        counts = np.zeros(len(devices), np.int64)
        place = devices - self.base.num_devices
        counts[place < 0] = example_counts(self.base, devices[place < 0])
        for row in np.flatnonzero(place >= 0):
            at = int(place[row])
            owned = at < len(self._owners)
            counts[row] = len(self._shared(at)) if owned else self._coins[at - len(self._owners)].canary.copies
        return counts

    def held_out(self) -> Iterator[Sequence[Example]]:
        """The base's held-out users."""
        return self.base.held_out()

    def _shared(self, place: int) -> Sequence[Example]:
        canary = self._owners[place]
        donor = int(randomness.stream(self.seed, "canary donor", place).integers(self.base.num_devices))
        real = self.base.examples(donor)[: max(0, self.per_device - canary.copies)]
        return (*(canary.example for _ in range(canary.copies)), *real)


def to_json(canaries: Canaries) -> dict[str, Any]:
    """Plain JSON, as `read` takes it."""
    return {
        "grid": [asdict(canary) for canary in canaries.grid],
        "coins": [{"canary": asdict(coin.canary), "included": coin.included} for coin in canaries.coins],
    }


def from_json(mapping: dict[str, Any]) -> Canaries:
    """The canaries that `to_json` wrote.

    Raises:
      KeyError, TypeError: for an object of another form.
    """
    return Canaries(
        grid=tuple(_canary(row) for row in mapping["grid"]),
        coins=tuple(
            CoinCanary(canary=_canary(row["canary"]), included=bool(row["included"])) for row in mapping.get("coins", [])
        ),
    )


def read(path: Path) -> Canaries:
    """The canaries in a JSON file.

    Raises:
      TuttiError: DATA_INVALID if it holds none.
    """
    try:
        return from_json(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError, KeyError, TypeError) as error:
        raise TuttiError(ErrorCode.DATA_INVALID, f"{path}: holds no canaries: {error}") from None


def _canary(row: dict[str, Any]) -> Canary:
    spans = {key: None if row.get(key) is None else (int(row[key][0]), int(row[key][1])) for key in ("tap", "selection")}
    return Canary(
        name=str(row["name"]),
        text=str(row["text"]),
        prefix=int(row.get("prefix", 0)),
        devices=int(row.get("devices", 1)),
        copies=int(row.get("copies", 1)),
        inserted=bool(row["inserted"]),
        **spans,
    )


def _draw(words: Sequence[str], length: int, seed: int, *labels: int | str) -> str:
    return " ".join(words[int(i)] for i in randomness.stream(seed, "canary", *labels).integers(len(words), size=length))


_LETTERS = "abcdefghijklmnopqrstuvwxyz"


def _rare_word(seed: int, *labels: int | str) -> str:
    """4 to 9 random letters."""
    generator = randomness.stream(seed, "rare word", *labels)
    return "".join(_LETTERS[int(i)] for i in generator.integers(26, size=int(generator.integers(4, 10))))


def _selection_canary(name: str, devices: int, copies: int, *, inserted: bool, seed: int) -> Canary:
    generator = randomness.stream(seed, "selection canary", name)
    length = int(generator.integers(3, 6))
    tapped = int(generator.integers(length))
    words = [_rare_word(seed, name, "canary", place) for place in range(5 + length + 5)]
    empty = Canary(name=name, text="", devices=devices, copies=copies, inserted=inserted)
    return _spanned(empty, words[:5], words[5 : 5 + length], words[5 + length :], tapped)


def _spanned(canary: Canary, before: list[str], secret: list[str], after: list[str], tapped: int) -> Canary:
    start = len(" ".join(before)) + bool(before)
    span = " ".join(secret)
    tap = start + len(" ".join(secret[:tapped])) + bool(tapped)
    return replace(
        canary,
        text=" ".join([*before, *secret, *after]),
        tap=(tap, tap + len(secret[tapped])),
        selection=(start, start + len(span)),
    )
