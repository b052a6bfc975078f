"""Splits a message into the tokens that the next-word models speak of."""

import re

_TOKEN = re.compile(r"[^\W\d_]+(?:'[^\W\d_]+)?|\d+|(?:[^\w\s]|_)+")


def tokenize(text: str, limit: int | None = None) -> list[str]:
    """The first `limit` tokens of `text` in lower case: words, with an apostrophe inside at most once, numbers, and runs of
    punctuation. In ASCII text these are `[a-z]+('[a-z]+)?`, `[0-9]+` and everything else that is not white space.

    >>> tokenize("Don't stop... it's 7:30 :-)")
    ["don't", 'stop', '...', "it's", '7', ':', '30', ':-)']
    >>> tokenize("a b c", limit=2)
    ['a', 'b']
    """
    tokens = _TOKEN.findall(text.lower())
    return tokens if limit is None else tokens[:limit]
