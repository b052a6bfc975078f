"""Unigram and bigram floors of a text file under a vocabulary: what a model of words has to beat.

    python benchmarks/ngram_floors.py FILE.jsonl.gz [--vocabulary public-en|data]

Counts come from the training users, accuracy from the held-out ones; targets that are padding, end or unknown are left out and
predictions range over real words, as in trainer.models.next_word.
"""

import argparse
import json
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np

from client_sim.data import JsonLinesLoader
from trainer.models import registry
from trainer.vocabulary import UNKNOWN, count_words


def main() -> None:
    """Prints one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path)
    parser.add_argument("--vocabulary", choices=["public-en", "data"], default="public-en")
    options = parser.parse_args()
    loader = JsonLinesLoader(options.file, kind="text")
    texts = (str(example["text"]) for device in range(loader.num_devices) for example in loader.examples(device))
    vocabulary = count_words(texts) if options.vocabulary == "data" else options.vocabulary
    model = registry.get("next_word", vocabulary=vocabulary)
    follows: dict[int, Counter[int]] = defaultdict(Counter)
    words: Counter[int] = Counter()
    for device in range(loader.num_devices):
        for before, after in pairs(model.featurize(loader.examples(device))):
            follows[before][after] += 1
            words[after] += 1
    common = [word for word, _ in words.most_common(3)]
    best = {before: [word for word, _ in counts.most_common(3)] for before, counts in follows.items()}
    counted, hits = 0, Counter[str]()
    for examples in loader.held_out():
        for before, after in pairs(model.featurize(examples)):
            counted += 1
            guesses = (best.get(before, []) + common)[:3]
            hits["unigram_top1"] += after == common[0]
            hits["bigram_top1"] += after == guesses[0]
            hits["bigram_top3"] += after in guesses
    print(
        json.dumps({"vocabulary": options.vocabulary, "targets": counted} | {k: round(v / counted, 4) for k, v in hits.items()})
    )


def pairs(examples) -> list[tuple[int, int]]:
    """(word before, counted target) over all examples of a device."""
    tokens, counted = examples.arrays["tokens"], examples.arrays["counted"].astype(bool)
    before, after = tokens[:, :-1][counted], tokens[:, 1:][counted]
    known = np.asarray(after) != UNKNOWN
    return list(zip(before[known].tolist(), after[known].tolist(), strict=True))


if __name__ == "__main__":
    main()
