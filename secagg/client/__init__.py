"""The device's side, one module a phase; `Client` puts them in order."""

from secagg.client.device_round import Client

__all__ = ["Client"]
