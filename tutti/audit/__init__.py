"""Audits: canaries in simulated devices, a control and treatments, and what leaked beside what was proven."""

from tutti.audit.audits import Watchers, run, score_model
from tutti.audit.specification import AuditSpec, of_task, parse_mapping, read

__all__ = ["AuditSpec", "Watchers", "of_task", "parse_mapping", "read", "run", "score_model"]
