"""What a run, a model or a population has cost, recomputed from ledger entries and said in the words of the checklist."""

from privacy.report.check import check
from privacy.report.claims import shown_up
from privacy.report.markdown import to_markdown
from privacy.report.report import model_report, planned_report, population_report, run_report
from privacy.report.schema import json_schema
from privacy.report.standing import Standing
from privacy.report.summary import PrivacySummary, price_of, spent, summarize

__all__ = [
    "PrivacySummary", "Standing", "check", "json_schema", "model_report", "planned_report", "population_report", "price_of", "run_report",
    "shown_up", "spent", "summarize", "to_markdown",
]  # fmt: skip
