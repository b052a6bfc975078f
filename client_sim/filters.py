"""Which examples a device learns from, and in what form: filters and masks, each with its own count.

The counts leave a device only inside an aggregate, like everything else.
"""

import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import cast

from client_sim.data.loader import Example
from client_sim.masking import Found, mask

ENDLESS = 1 << 30
LOCALE_SCRIPTS = {"en": ("LATIN",), "es": ("LATIN",), "ja": ("CJK", "HIRAGANA", "KATAKANA", "LATIN")}
MASK_KINDS = ("card", "national_id", "secret")


@dataclass(frozen=True, slots=True, kw_only=True)
class FilterRules:
    """What is kept.

    Args:
      least_characters, most_characters: of the text, in code points.
      locale: most letters must be of one of its scripts; None asks nothing.
      longest_selection: a correction of more code points is absurd.
      drop_duplicates: keep the first of equal examples.
    """

    least_characters: int = 1
    most_characters: int = 2000
    locale: str | None = None
    longest_selection: int = 200
    drop_duplicates: bool = True

    def __post_init__(self) -> None:
        """Refuses a locale that it does not know."""
        if self.locale is not None and self.locale not in LOCALE_SCRIPTS:
            raise ValueError(f"locale must be one of {', '.join(LOCALE_SCRIPTS)}, not {self.locale!r}")


MASKS_ONLY = FilterRules(least_characters=0, most_characters=ENDLESS, longest_selection=ENDLESS, drop_duplicates=False)
"""Leaves every example in its place, and masks what must not be seen."""


def rules_for(model: str, *, locale: str) -> FilterRules | None:
    """The rules that a device follows for a model: corrections are filtered, other text is masked, the rest is taken as it is.

    >>> rules_for("next_word", locale="en") is MASKS_ONLY, rules_for("mlp", locale="en")
    (True, None)
    """
    if model == "text_selection":
        return FilterRules(locale=locale)
    return MASKS_ONLY if model.startswith("next_word") else None


def prepare(examples: Sequence[Example], rules: FilterRules) -> tuple[tuple[Example, ...], dict[str, int]]:
    """The examples to learn from, masked, and how many each filter dropped and each mask touched.

    Args:
      examples: with a `text`, and for corrections a `tap` and a `selection` in code points.

    Returns:
      The examples that are left, in their order, and a count for each of `count_names()`.

    >>> kept, counts = prepare([{"text": "hi there"}, {"text": "hi there"}, {"text": ""}], FilterRules())
    >>> len(kept), counts["dropped_duplicate"], counts["dropped_length"]
    (1, 1, 1)
    """
    kept: list[Example] = []
    counts = dict.fromkeys(count_names(), 0)
    seen: set[tuple[object, ...]] = set()
    for example in examples:
        masked, found = _masked(example)
        for kind in {item.kind for item in found}:
            counts[f"masked_{kind}"] += 1
        reason = _why_dropped(masked, found, rules)
        if reason is None and rules.drop_duplicates:
            identity = _identity(masked)
            reason = "duplicate" if identity in seen else None
            seen.add(identity)
        if reason is None:
            kept.append(masked)
        else:
            counts[f"dropped_{reason}"] += 1
    counts["kept"] = len(kept)
    return tuple(kept), counts


def count_names() -> tuple[str, ...]:
    """The names of all counts, in a fixed order: they become one named vector of the round.

    >>> count_names()[:2]
    ('kept', 'dropped_length')
    """
    dropped = ("length", "language", "correction", "masked_selection", "duplicate")
    return ("kept", *(f"dropped_{reason}" for reason in dropped), *(f"masked_{kind}" for kind in MASK_KINDS))


def _masked(example: Example) -> tuple[Mapping[str, object], tuple[Found, ...]]:
    text, found = mask(str(example["text"]))
    return ({**example, "text": text} if found else example), found


def _why_dropped(example: Example, found: Sequence[Found], rules: FilterRules) -> str | None:
    text = str(example["text"])
    if not rules.least_characters <= len(text.strip()) or len(text) > rules.most_characters:
        return "length"
    if rules.locale is not None and not _of_locale(text, rules.locale):
        return "language"
    if "selection" not in example:
        return None
    if _absurd(example, text, rules):
        return "correction"
    start, end = cast(Sequence[int], example["selection"])
    return "masked_selection" if any(item.start < end and start < item.end for item in found) else None


def _absurd(example: Example, text: str, rules: FilterRules) -> bool:
    """Whether a correction cannot be meant: empty, blank, too long, or not around the tap."""
    (start, end), (tap_start, tap_end) = cast(Sequence[int], example["selection"]), cast(Sequence[int], example["tap"])
    inside = 0 <= start <= tap_start < tap_end <= end <= len(text)
    return not inside or end - start > rules.longest_selection or not text[start:end].strip()


def _of_locale(text: str, locale: str) -> bool:
    letters = [character for character in text[:200] if character.isalpha()]
    scripts = LOCALE_SCRIPTS[locale]
    ours = sum(unicodedata.name(letter, "").startswith(scripts) for letter in letters)
    return 2 * ours >= len(letters)


def _identity(example: Example) -> tuple[object, ...]:
    return (example["text"], str(example.get("tap")), str(example.get("selection")))
