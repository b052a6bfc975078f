"""From a task's `data.source` to a `Loader`."""

import importlib
import re
from pathlib import Path

from client_sim.data.jsonlines import JsonLinesLoader, Kind
from client_sim.data.loader import Loader
from client_sim.data.synthetic_features import SyntheticFeatures
from client_sim.data.synthetic_selection import SyntheticSelection
from client_sim.data.synthetic_text import SyntheticText
from contract.errors import ErrorCode, TuttiError
from contract.task import DataSpec

_FACTORY = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")
SYNTHETIC_DEVICES = 20_000


def open_loader(data: DataSpec, *, model: str) -> Loader:
    """The loader that `data` names for the model called `model`.

    Args:
      data: `source` is `synthetic`, the path of a file of JSON lines, or `package.module:factory`, called without arguments.
      model: decides what a synthetic population holds and which lines a file must have.

    Raises:
      TuttiError: DATA_INVALID if the file, or the factory, cannot be used.

    >>> open_loader(DataSpec(devices=5), model="mlp").num_devices
    5
    """
    if data.source == "synthetic":
        return _synthetic(data, model)
    path = Path(data.source).expanduser()
    if path.is_file():
        return JsonLinesLoader(path, kind=lines_of(model))
    if _FACTORY.fullmatch(data.source):
        return _from_factory(data.source)
    raise TuttiError(ErrorCode.DATA_INVALID, f"{data.source}: there is no such file, and it is no package.module:factory")


def lines_of(model: str) -> Kind:
    """Which lines a file must have for this model.

    >>> lines_of("next_word"), lines_of("text_selection"), lines_of("mlp")
    ('text', 'selection', 'features')
    """
    if model == "mlp":
        return "features"
    return "selection" if model == "text_selection" else "text"


def _synthetic(data: DataSpec, model: str) -> Loader:
    num_devices = data.devices or SYNTHETIC_DEVICES
    if model == "mlp":
        return SyntheticFeatures(num_devices=num_devices, seed=data.seed)
    if model == "text_selection":
        return SyntheticSelection(num_devices=num_devices, seed=data.seed, locale=data.locale)
    if model.startswith("next_word") or ":" in model:
        return SyntheticText(num_devices=num_devices, seed=data.seed)
    raise TuttiError(ErrorCode.DATA_INVALID, f"there is no synthetic population for the model {model!r}: give a file")


def _from_factory(source: str) -> Loader:
    module_name, _, name = source.partition(":")
    try:
        factory: object = getattr(importlib.import_module(module_name), name)
    except (ImportError, AttributeError) as error:
        raise TuttiError(ErrorCode.DATA_INVALID, f"{source}: {error}") from None
    if not callable(factory):
        raise TuttiError(ErrorCode.DATA_INVALID, f"{source} is no function that makes a Loader")
    made: object = factory()
    if not isinstance(made, Loader):
        raise TuttiError(
            ErrorCode.DATA_INVALID, f"{source} made a {type(made).__name__} without num_devices, digest, examples, held_out"
        )
    return made
