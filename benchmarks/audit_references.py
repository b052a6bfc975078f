"""What two million references cost: seconds, and the share of them that is the model's own arithmetic.

    python benchmarks/audit_references.py --model next_word_small --references 2000000

Processor seconds are given besides, for a machine that is shared.
The model time is measured on the same blocks with the drawing of references and the transfers left out.
"""

import argparse
import json
import time

import jax

from contract.clock import SystemClock
from trainer.models import registry
from trainer.models.next_word import NextWord
from tutti.audit import word_scores


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--model", default="next_word_small")
    options.add_argument("--references", type=int, default=2_000_000)
    options.add_argument("--sample", type=int, default=0, help="score so many and scale up; 0 scores all")
    chosen = options.parse_args()
    model = registry.get(chosen.model)
    if not isinstance(model, NextWord):
        raise SystemExit(f"{chosen.model} is no next-word model")
    scored = chosen.sample or chosen.references
    clock, parameters = SystemClock(), model.init(0)
    word_scores.log_probabilities(
        model, parameters, word_scores.references(model, 4096, length=5, seed=0), prefix=2
    )  # compiles
    began, cpu = clock.now_s(), time.process_time()
    tokens = word_scores.references(model, scored, length=5, seed=1)
    drawn = clock.now_s()
    word_scores.log_probabilities(model, parameters, tokens, prefix=2)
    ended, cpu = clock.now_s(), time.process_time() - cpu
    alone = _model_alone(model, tokens, scored)
    scale = chosen.references / scored
    print(
        json.dumps(
            {
                "model": chosen.model,
                "backend": jax.default_backend(),
                "references": chosen.references,
                "scored": scored,
                "seconds": round((ended - began) * scale, 2),
                "cpu_seconds": round(cpu * scale, 2),
                "drawing_s": round((drawn - began) * scale, 2),
                "model_share": round(min(1.0, alone / (ended - began)), 3),
            }
        )
    )


def _model_alone(model: NextWord, tokens: word_scores.Words, scored: int) -> float:
    """Seconds of the compiled program on one block that stays on the device, for as many blocks as `scored` needs."""
    rows = max(16, word_scores._LOGITS_AT_ONCE // len(model.vocabulary))  # noqa: SLF001 - the block that is measured
    tree, block = jax.device_put(model.unravel(model.init(0))), jax.device_put(tokens[:rows])
    word_scores._score(tree, block, 2).block_until_ready()  # noqa: SLF001
    clock, blocks = SystemClock(), -(-scored // rows)
    began = clock.now_s()
    for _ in range(blocks):
        found = word_scores._score(tree, block, 2)  # noqa: SLF001
    found.block_until_ready()
    return clock.now_s() - began


if __name__ == "__main__":
    main()
