"""Audits: canaries in simulated devices, a control and treatments, and what leaked beside what was proven."""

from tutti.audit.audits import Plan, Watchers, plan, run, score_model
from tutti.audit.specification import AuditSpec, of_task, parse_mapping, read

__all__ = ["AuditSpec", "Plan", "Watchers", "of_task", "parse_mapping", "plan", "read", "run", "score_model"]
