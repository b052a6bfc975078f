"""Finds a model by its name in a task file."""

import dataclasses
import functools
import importlib
from collections.abc import Callable
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from trainer import weights
from trainer.model import Model
from trainer.models import mlp, next_word, text_selection
from trainer.vocabulary import PUBLIC_ENGLISH, Vocabulary

_FACTORIES: dict[str, Callable[..., Model]] = {
    "mlp": mlp.build,
    "next_word": next_word.build,
    "next_word_small": next_word.build_small,
    "text_selection": text_selection.build,
}
_WITH_VOCABULARY = ("next_word", "next_word_small")


def names() -> tuple[str, ...]:
    """The registered names, sorted.

    >>> "mlp" in names()
    True
    """
    return tuple(sorted(_FACTORIES))


def get(name: str, **options: Any) -> Model:
    """The model called `name`, or what the factory `package.module:factory` makes; `options` go to its factory.

    Equal hashable arguments give the same object, so that what was compiled for it is found again.

    Raises:
      ValueError: for an unknown name, a factory that cannot be imported, or one that gives no `Model`.

    >>> get("mlp").num_parameters
    54270
    >>> get("nothing")
    Traceback (most recent call last):
    ValueError: no model is called 'nothing'; known are mlp, ... and package.module:factory
    """
    try:
        return _cached(name, tuple(sorted(options.items())))
    except TypeError:  # unhashable options
        return _build(name, options)


@functools.lru_cache(maxsize=16)
def for_task(
    name: str, *, vocabulary: Vocabulary | str = PUBLIC_ENGLISH, init_from: str | None = None, trainable: str = "all"
) -> Model:
    """The model of a task file's `model` section; options go where they mean something.

    Args:
      name: a registered name, or `package.module:factory`, which is called without arguments.
      vocabulary: for the next-word models: `public-en`, or a `Vocabulary` counted from texts.
      init_from: a file of public weights to start from, under the model's own parameter names.
      trainable: `head` for text_selection alone.

    Raises:
      ValueError: for an unknown name, weights that do not fit, or an option that the model does not have.

    >>> for_task("next_word_small").num_parameters
    89424
    """
    if name == "text_selection":
        return get(name, init_from=init_from, trainable=trainable)
    if trainable != "all":
        raise ValueError(f"trainable must be 'all' for {name}, not {trainable!r}")
    model = get(name, vocabulary=vocabulary) if name in _WITH_VOCABULARY else get(name)
    if init_from is None:
        return model
    public = weights.named(init_from, model.shapes)

    def initial(_: np.random.Generator) -> dict[str, NDArray[np.float32]]:
        return public

    return dataclasses.replace(model, initial=initial)


@functools.lru_cache(maxsize=64)
def _cached(name: str, options: tuple[tuple[str, Any], ...]) -> Model:
    return _build(name, dict(options))


def _build(name: str, options: dict[str, Any]) -> Model:
    factory = _imported(name) if ":" in name else _FACTORIES.get(name)
    if factory is None:
        raise ValueError(f"no model is called {name!r}; known are {', '.join(names())} and package.module:factory")
    model = factory(**options)
    if not isinstance(cast(object, model), Model):
        raise ValueError(f"{name!r} must give a trainer.Model, not {type(model).__name__}")
    return model


def _imported(path: str) -> Callable[..., Model]:
    module_name, _, attribute = path.partition(":")
    try:
        factory: object = getattr(importlib.import_module(module_name), attribute)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"model factory {path!r} cannot be imported: {error}") from error
    if not callable(factory):
        raise ValueError(f"model factory {path!r} cannot be called")
    return cast(Callable[..., Model], factory)
