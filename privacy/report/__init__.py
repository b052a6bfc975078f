"""What a run, a model or a population has cost, recomputed from ledger entries and said in the words of the checklist."""

from privacy.report.summary import PrivacySummary, price_of, summarize

__all__ = ["PrivacySummary", "price_of", "summarize"]
