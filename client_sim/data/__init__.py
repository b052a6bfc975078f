"""Where devices' examples come from: a synthetic population, a file keyed by user, or one's own `Loader`."""

from client_sim.data.jsonlines import JsonLinesLoader, check_file
from client_sim.data.loader import Example, Loader, example_counts
from client_sim.data.sources import open_loader
from client_sim.data.synthetic_features import SyntheticFeatures
from client_sim.data.synthetic_selection import SyntheticSelection
from client_sim.data.synthetic_text import SyntheticText

__all__ = [
    "Example",
    "JsonLinesLoader",
    "Loader",
    "SyntheticFeatures",
    "SyntheticSelection",
    "SyntheticText",
    "check_file",
    "example_counts",
    "open_loader",
]
