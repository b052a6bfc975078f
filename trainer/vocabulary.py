"""Vocabularies: the public list that is the default, and lists counted from texts, which a report must call not covered."""

import collections
import functools
import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from importlib import resources

import numpy as np
from numpy.typing import NDArray

from trainer.tokens import tokenize

PAD, UNKNOWN, START, END = range(4)
SPECIALS = ("<pad>", "<unk>", "<s>", "</s>")
PUBLIC_ENGLISH = "public-en"


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """Tokens by id; ids 0 to 3 are padding, unknown, start and end, the others are the real words.

    Args:
      words: the real words, each once. No special token may be among them.
      origin: where they are from: `public-en`, `data`, or a name of one's own.

    Raises:
      ValueError: if there is no word or one stands twice.
    """

    words: tuple[str, ...] = field(repr=False)
    origin: str
    _ids: dict[str, int] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        ids = {word: number for number, word in enumerate((*SPECIALS, *self.words))}
        if not self.words or len(ids) != len(SPECIALS) + len(self.words):
            raise ValueError(f"a vocabulary needs words, each once and none of {SPECIALS}")
        object.__setattr__(self, "_ids", ids)

    def __len__(self) -> int:
        return len(SPECIALS) + len(self.words)

    def id(self, token: str) -> int:
        """The id of a token, that of `<unk>` if it is none of the words."""
        return self._ids.get(token, UNKNOWN)

    def ids(self, tokens: Sequence[str]) -> NDArray[np.int32]:
        """The ids of `tokens`, int32, shape (len(tokens),)."""
        return np.asarray([self._ids.get(token, UNKNOWN) for token in tokens], np.int32)

    def token(self, number: int) -> str:
        """The token with this id.

        >>> public_english(100).token(START)
        '<s>'
        """
        return SPECIALS[number] if number < len(SPECIALS) else self.words[number - len(SPECIALS)]

    @property
    def digest(self) -> str:
        """Hex SHA-256 of the words, one a line."""
        return hashlib.sha256("\n".join(self.words).encode()).hexdigest()


@functools.cache
def public_english(size: int = 10_000) -> Vocabulary:
    """The `size` most frequent tokens of the public list, specials included; trainer/public_en.txt says where it is from.

    Raises:
      ValueError: if `size` is below 5 or above 10,000.

    >>> len(public_english()), public_english(2_000).id("hello") < 2_000
    (10000, True)
    """
    text = resources.files("trainer").joinpath("public_en.txt").read_text(encoding="utf-8")
    words = [line for line in text.splitlines() if not line.startswith("# ")]
    if not len(SPECIALS) < size <= len(SPECIALS) + len(words):
        raise ValueError(f"the size of {PUBLIC_ENGLISH} must lie in 5..{len(SPECIALS) + len(words)}, not {size}")
    return Vocabulary(tuple(words[: size - len(SPECIALS)]), PUBLIC_ENGLISH)


def count_words(texts: Iterable[str], size: int = 10_000) -> Vocabulary:
    """The `size` most frequent tokens of `texts`, specials included; fewer if the texts have fewer. Ties go by spelling.

    A vocabulary counted from devices' texts reveals what they say, and no mechanism here covers it.

    >>> count_words(["to be or not to be", "to do"], size=6).words
    ('to', 'be')
    """
    counts = collections.Counter(token for text in texts for token in tokenize(text))
    ranked = sorted(counts, key=lambda word: (-counts[word], word))
    return Vocabulary(tuple(ranked[: max(size - len(SPECIALS), 0)]), "data")
