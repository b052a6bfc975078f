"""REST: runs, models, ledger, budgets, reports over HTTP, and the pages that show them."""

from server.rest.app import create_app
from server.rest.services import Launcher

__all__ = ["create_app", "Launcher"]
