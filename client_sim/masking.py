"""What a model must never see is masked on the device: payment cards, national ids, secrets. Offsets stay as they were."""

import re
from collections.abc import Callable
from dataclasses import dataclass

MASK = "#"
"""Stands for each masked code point, so that spans into the text keep their place."""
_CARD = re.compile(r"(?<!\d)\d(?:[ -]?\d){12,18}(?!\d)")
_SOCIAL_SECURITY = re.compile(r"(?<![\d-])(?!000|666|9\d\d)\d{3}-(?!00)\d{2}-(?!0000)\d{4}(?![\d-])")
_DNI = re.compile(r"(?<!\w)(?:\d{8}|[XYZ]\d{7})-?[A-HJ-NP-TV-Z](?!\w)", re.IGNORECASE)
_MY_NUMBER = re.compile(r"(?<!\d)(?<!\d[ -])\d{4}[ -]?\d{4}[ -]?\d{4}(?![ -]?\d)")
_SECRET = re.compile(
    r"(?i)(?<!\w)(?:password|passwd|passphrase|contraseña|secret|token|api[_-]?key|パスワード)\s*(?:[:=\uff1a]|\bis\b|\bes\b)\s*(\S{4,})"
)
_KEY = re.compile(
    r"(?<![\w/+-])(?:gh[pousr]_\w{20,}|AKIA[0-9A-Z]{16}|sk-[\w-]{20,}|eyJ[\w-]{10,}\.[\w-]{10,}\.[\w-]{5,})(?![\w/+-])"
)
_DIGIT = re.compile(r"\d")
_HINTS = ("pass", "secret", "token", "api", "_", "akia", "sk-", "eyj")
"""What a match without a digit has in it."""
_DNI_LETTERS = "TRWAGMYFPDXBNJZSQVHLCKE"


@dataclass(frozen=True, slots=True)
class Found:
    """A stretch of text that was masked: `kind` is what is counted, [start, end) are code points."""

    kind: str
    start: int
    end: int


def mask(text: str) -> tuple[str, tuple[Found, ...]]:
    """`text` with what must not be seen replaced, of the same length, and what was found.

    Guarantee: no match of a pattern, taken as long as it goes, whose check digits hold is left in the result. Patterns cannot know
    every secret; what they do not know is protected by clipping and noise alone.

    >>> mask("card 4111 1111 1111 1111 ok")[0]
    'card ################### ok'
    >>> mask("ring 4111 1111 1111 1112")[1]
    ()
    """
    if holds_none(text):
        return text, ()
    found: list[Found] = []
    for kind, pattern, holds in _RULES:
        for match in pattern.finditer(text):
            start, end = match.span(match.lastindex or 0)
            if holds(text[start:end]):
                found.append(Found(kind, start, end))
                text = text[:start] + MASK * (end - start) + text[end:]
    return text, tuple(found)


def holds_none(text: str) -> bool:
    """True only of a text that no pattern matches, told faster than by trying them; other alphabets have digits and cases of their own.

    >>> holds_none("see you tonight"), holds_none("see you at 7")
    (True, False)
    """
    if not text.isascii() or _DIGIT.search(text):
        return False
    lower = text.lower()
    return not any(hint in lower for hint in _HINTS)


def luhn(number: str) -> bool:
    """Whether the digits of `number` satisfy the payment cards' check (ISO/IEC 7812-1).

    >>> luhn("4111 1111 1111 1111"), luhn("4111 1111 1111 1112")
    (True, False)
    """
    digits = [int(digit) for digit in reversed(number) if digit.isdecimal()]
    doubled = sum(sum(divmod(2 * digit, 10)) for digit in digits[1::2])
    return (sum(digits[::2]) + doubled) % 10 == 0


def spanish_id(number: str) -> bool:
    """Whether the letter of a Spanish DNI or NIE is the one that its number demands.

    >>> spanish_id("12345678Z"), spanish_id("12345678A")
    (True, False)
    """
    plain = number.upper().replace("-", "")
    digits = plain[:-1].translate(str.maketrans("XYZ", "012"))
    return _DNI_LETTERS[int(digits) % 23] == plain[-1]


def my_number(number: str) -> bool:
    """Whether the last digit of a Japanese individual number checks the eleven before it.

    >>> my_number("1234 5678 9018"), my_number("1234 5678 9010")
    (True, False)
    """
    digits = [int(digit) for digit in number if digit.isdecimal()]
    weights = (6, 5, 4, 3, 2, 7, 6, 5, 4, 3, 2)
    rest = sum(digit * weight for digit, weight in zip(digits, weights, strict=False)) % 11
    return digits[-1] == (0 if rest <= 1 else 11 - rest)


def _always(_text: str) -> bool:
    return True


_RULES: tuple[tuple[str, re.Pattern[str], Callable[[str], bool]], ...] = (
    ("card", _CARD, luhn),
    ("national_id", _SOCIAL_SECURITY, _always),
    ("national_id", _DNI, spanish_id),
    ("national_id", _MY_NUMBER, my_number),
    ("secret", _KEY, _always),
    ("secret", _SECRET, _always),
)
