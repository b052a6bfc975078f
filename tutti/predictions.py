"""What a stored model predicts, for people and for `--json`."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from client_sim.data import open_loader
from contract.errors import ErrorCode, TuttiError
from server import releases, tasks
from server.store.store import Store
from server.store.values import Run
from trainer import prediction
from trainer.models.next_word import NextWord
from trainer.models.text_selection import TextSelection, select
from tutti.disclosures import vocabulary


def predict(store: Store, run: Run, text: str, *, top: int, tap: int | None) -> dict[str, Any]:
    """The newest model's answer: `words` with probabilities for a next-word model.

    Raises:
      TuttiError: ARGUMENT_INVALID if this model predicts nothing from text, ENTRY_NOT_COMMITTED if it may not leave yet.
    """
    words = vocabulary(run.spec, open_loader(run.spec.data, model=run.spec.model.name)) if needs_data(run) else None
    model = tasks.prepare(run.spec, words).model
    stored = releases.release(store, run, None, to="predictions")
    if isinstance(model, NextWord):
        if tap is not None:
            raise TuttiError(ErrorCode.ARGUMENT_INVALID, "--tap is for text selection; this model suggests the next word")
        found = prediction.predict(model, stored.parameters, text, top)
        return {"run": run.id, "round": stored.round, "text": text, "words": [{"word": w, "probability": p} for w, p in found]}
    if isinstance(model, TextSelection):
        return {"run": run.id, "round": stored.round, "text": text, **_span(model, stored.parameters, text, tap)}
    raise TuttiError(ErrorCode.ARGUMENT_INVALID, f"the model {run.spec.model.name} predicts nothing from text")


def _span(model: TextSelection, parameters: NDArray[np.float32], text: str, tap: int | None) -> dict[str, Any]:
    if tap is None or not 0 <= tap < len(text):
        raise TuttiError(ErrorCode.ARGUMENT_INVALID, f"--tap must be a code point of the text, 0 to {len(text) - 1}")
    try:
        start, end = select(model, parameters, text, (tap, tap + 1))
    except ValueError as error:
        raise TuttiError(ErrorCode.ARGUMENT_INVALID, f"--tap {tap}: {error}") from None
    return {"tap": tap, "span": [start, end], "selected": text[start:end]}


def needs_data(run: Run) -> bool:
    """Whether the model's vocabulary was counted in the run's data."""
    return run.spec.model.vocabulary == "data"


def lines(answer: Mapping[str, Any]) -> Iterator[str]:
    """The answer as lines for people."""
    if "span" in answer:
        start, end = answer["span"]
        yield f"{answer['text'][:start]}[reverse]{answer['selected']}[/]{answer['text'][end:]}"
    for row in answer.get("words", []):
        yield f"{100 * row['probability']:5.1f}%  {answer['text']} [bold]{row['word']}[/]"
