"""Tutti: train on many devices without seeing any device's data, prove how private the result is, check the proof by attack."""

from tutti.runs import run

__all__ = ["run"]
