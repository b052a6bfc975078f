"""The models by name."""

from trainer.models.registry import get, names

__all__ = ["get", "names"]
