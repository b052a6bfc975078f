"""The models by name."""

from trainer.models.registry import for_task, get, names

__all__ = ["for_task", "get", "names"]
