"""The text side of text selection: tokens, their pieces, and the boundary punctuation that is no part of a selection.

Source: AOSP libtextclassifier (Apache-2.0), token-feature-extractor and feature-processor, as configured in the model shipped
in 2019.
"""

import functools
import unicodedata
from dataclasses import dataclass

from trainer.fingerprint import fingerprint64

BUCKETS = 20_000
ORDERS = (1, 2, 3, 4, 5)
LONGEST_WORD = 20
_KEPT_PUNCTUATION = frozenset("()\u00a7\u00b6")


@dataclass(frozen=True, slots=True)
class Token:
    """A piece of text and where it stands: code points [start, end)."""

    text: str
    start: int
    end: int


def split(text: str) -> list[Token]:
    """The tokens of `text`: runs without white space, split where the script changes.

    >>> [token.text for token in split("call 555-0100, \u6771\u4eacTower!")]
    ['call', '555-0100,', '\u6771\u4eac', 'Tower!']
    """
    tokens: list[Token] = []
    start, script = 0, ""
    for place, character in enumerate(text):
        if character.isspace():
            if place > start:
                tokens.append(Token(text[start:place], start, place))
            start, script = place + 1, ""
            continue
        here = _script(character)
        if here and script and here != script:
            tokens.append(Token(text[start:place], start, place))
            start = place
        script = here or script
    if len(text) > start:
        tokens.append(Token(text[start:], start, len(text)))
    return tokens


@functools.cache
def pieces(word: str) -> tuple[int, ...]:
    """The embedding rows of a token: hashed runs of one to five characters of `^word$`, in lower case, every digit a 0.

    A word over 20 characters keeps its first and last ten around \\x01. Runs of one leave out the two marks.

    >>> len(pieces("ab"))
    8
    """
    plain = "".join("0" if character.isdigit() else character.lower() for character in word)
    if len(plain) > LONGEST_WORD:
        half = LONGEST_WORD // 2
        plain = plain[:half] + "\x01" + plain[-half:]
    marked = f"^{plain}$"
    runs = [*plain, *(marked[i : i + order] for order in ORDERS[1:] for i in range(len(marked) - order + 1))]
    return tuple(_bucket(run) for run in runs)


@functools.cache
def padding_pieces() -> tuple[int, ...]:
    """The embedding rows of a place where no token is."""
    return (_bucket("<PAD>"),)


def stripped(text: str, span: tuple[int, int], tap: tuple[int, int]) -> tuple[int, int]:
    """`span` of `text` without punctuation and unpaired brackets at its boundaries, but never smaller than `tap` inside it.

    Parentheses stay where they are pairs, since telephone numbers begin with them.

    Raises:
      ValueError: if `tap` is empty or not inside `span`.

    >>> text = "at (617) 555-0100.)"
    >>> stripped(text, (3, 19), (4, 7)), stripped(text, (3, 8), (4, 7))
    ((3, 17), (3, 8))
    """
    (first, last), before = span, (-1, -1)
    if not first <= tap[0] < tap[1] <= last:
        raise ValueError(f"tap {tap} must be a part of span {span}")
    while (first, last) != before:
        before = (first, last)
        while first < tap[0] and _is_boundary(text[first]):
            first += 1
        while last > tap[1] and _is_boundary(text[last - 1]):
            last -= 1
        inside = text[first:last]
        first += first < tap[0] and _is_unpaired(inside, inside[0], opens=True)
        last -= last > tap[1] and _is_unpaired(inside, inside[-1], opens=False)
    return first, last


def _is_unpaired(inside: str, bracket: str, *, opens: bool) -> bool:
    """Whether the bracket at a boundary of `inside` faces outwards, or there are more of its kind than of its counterpart."""
    facing, counterparts = ("([{", ")]}") if opens else (")]}", "([{")
    if bracket in counterparts:
        return True
    return bracket in facing and inside.count(bracket) > inside.count(counterparts[facing.index(bracket)])


@functools.lru_cache(maxsize=1 << 20)
def _bucket(run: str) -> int:
    return fingerprint64(run.encode(errors="replace")) % BUCKETS


@functools.lru_cache(maxsize=1 << 16)
def _is_boundary(character: str) -> bool:
    return unicodedata.category(character).startswith("P") and character not in _KEPT_PUNCTUATION


@functools.lru_cache(maxsize=1 << 16)
def _script(character: str) -> str:
    """A letter's script by the first word of its name; empty for what several scripts share, such as the long-vowel mark."""
    if ord(character) < 0x80 and not character.isalpha():
        return ""
    if unicodedata.category(character) not in ("Ll", "Lu", "Lt", "Lo", "Lm"):
        return ""
    name = unicodedata.name(character, "").split(" ", 1)[0]
    return {"FEMININE": "LATIN", "MASCULINE": "LATIN", "MICRO": "LATIN", "KATAKANA-HIRAGANA": "", "MODIFIER": ""}.get(
        name, name
    )
