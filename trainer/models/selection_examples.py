"""Turns taps into arrays: the tokens around the tap, the spans that could be selected, and which of them are right.

Positions are relative to a window of 39 tokens with the tapped one in the middle: 14 on either side may be selected, and 5 more
are seen as context.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainer.model import DeviceExamples, Example
from trainer.selection_text import Token, pieces, split, stripped

LONGEST_SPAN = 15
REACH = LONGEST_SPAN - 1
CONTEXT, INSIDE = 5, 3
WINDOW = 2 * (REACH + CONTEXT) + 1
TAP = WINDOW // 2
LONGEST_TOKEN = 105
"""Pieces of a token of 20 characters, the most there can be: 21 + 22 + 21 + 20 + 19 + ... is cut by the rule for long words."""
ENTITIES = ("none", "address", "phone", "email", "url", "other")
NO_PIECE = 20_000


def spans(*, with_tap: bool) -> NDArray[np.int64]:
    """All spans [s, e) of at most 15 selectable tokens, shape (count, 2), shorter ones first; or only those with the tap.

    >>> len(spans(with_tap=False)), len(spans(with_tap=True))
    (330, 120)
    """
    first, last = CONTEXT, WINDOW - CONTEXT
    every = [(s, s + n) for n in range(1, LONGEST_SPAN + 1) for s in range(first, last - n + 1)]
    return np.asarray([(s, e) for s, e in every if not with_tap or s <= TAP < e])


TAP_SPANS = spans(with_tap=True)


def featurize(examples: Sequence[Example], *, embeddings: NDArray[np.float32] | None) -> DeviceExamples:
    """Arrays of n taps `{"text", "tap": [s, e], "selection": [s, e], "entity"}`, offsets in code points.

    Returns:
      `exists`, bool (n, 39): whether there is a token; `upper`, int8 (n, 39): 1 or -1; `right`, bool (n, 120): which of
      `TAP_SPANS` give the selection; `entity`, int32 (n,): into `ENTITIES`; `several`, bool (n,): whether the selection has
      several words; and either `pieces`, uint16 (n, 39, 105), filled up with 20,000, or, where embeddings are given,
      `embedded`, float32 (n, 39, 12).

    Raises:
      ValueError: for an example whose offsets are wrong or whose tap is on no token.
    """
    n = len(examples)
    arrays: dict[str, NDArray[Any]] = {
        "exists": np.zeros((n, WINDOW), bool),
        "upper": np.full((n, WINDOW), -1, np.int8),
        "right": np.zeros((n, len(TAP_SPANS)), bool),
        "entity": np.zeros(n, np.int32),
        "several": np.zeros(n, bool),
    }
    if embeddings is None:
        arrays["pieces"] = np.full((n, WINDOW, LONGEST_TOKEN), NO_PIECE, np.uint16)
    else:
        arrays["embedded"] = np.zeros((n, WINDOW, embeddings.shape[1]), np.float32)
    for row, example in enumerate(examples):
        try:
            _fill({name: array[row : row + 1] for name, array in arrays.items()}, example, embeddings)
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"example {row}: {error}") from error
    return DeviceExamples(arrays)


def line_tokens(text: str, tap: tuple[int, int]) -> tuple[list[Token], int]:
    """The tokens of the line with the tap, and which of them is tapped.

    Raises:
      ValueError: if no token is under the start of the tap.
    """
    start = text.rfind("\n", 0, tap[0]) + 1
    stop = text.find("\n", tap[0])
    tokens = [Token(t.text, t.start + start, t.end + start) for t in split(text[start : stop if stop >= 0 else len(text)])]
    for number, token in enumerate(tokens):
        if token.start <= tap[0] < token.end:
            return tokens, number
    raise ValueError(f"the tap {tap} is on no token")


def _fill(row: Mapping[str, NDArray[Any]], example: Example, embeddings: NDArray[np.float32] | None) -> None:
    text = str(example["text"])
    tap, selection = _offsets(example["tap"], len(text)), _offsets(example["selection"], len(text))
    tokens, tapped = line_tokens(text, tap)
    for place in range(WINDOW):
        number = tapped + place - TAP
        if 0 <= number < len(tokens):
            word = tokens[number].text
            row["exists"][0, place], row["upper"][0, place] = True, 1 if word[0].isupper() else -1
            rows = pieces(word)
            if embeddings is None:
                row["pieces"][0, place, : len(rows)] = rows
            else:
                np.mean(embeddings[list(rows)], axis=0, out=row["embedded"][0, place])
    for column, (s, e) in enumerate(TAP_SPANS - TAP + tapped):
        if s >= 0 and e <= len(tokens) and tokens[s].start <= selection[0] and tokens[e - 1].end >= selection[1]:
            row["right"][0, column] = chosen_text(text, tokens, (int(s), int(e)), tap) == selection
    entity = str(example.get("entity", "other"))
    row["entity"][0] = ENTITIES.index(entity if entity in ENTITIES else "other")
    row["several"][0] = len(text[slice(*selection)].split()) > 1


def chosen_text(text: str, tokens: Sequence[Token], span: tuple[int, int], tap: tuple[int, int]) -> tuple[int, int]:
    """What is selected when tokens [s, e) are chosen: code points [start, end)."""
    start, end = tokens[span[0]].start, tokens[span[1] - 1].end
    return stripped(text, (min(start, tap[0]), max(end, tap[1])), tap)


def _offsets(value: Any, length: int) -> tuple[int, int]:
    start, end = (int(offset) for offset in value)
    if not 0 <= start < end <= length:
        raise ValueError(f"offsets must satisfy 0 <= start < end <= {length}, not {start}, {end}")
    return start, end
