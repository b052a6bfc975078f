"""`tutti account`: the price of a mechanism, without any server."""

from tutti.account.commands import register

__all__ = ["register"]
