"""The server's side, one module a phase; `Server` puts them in order."""

from secagg.server.server_round import Phase, Server
from secagg.server.unmasking import Result

__all__ = ["Phase", "Result", "Server"]
