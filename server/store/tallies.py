"""Counts over the tables, for metrics and lists."""

from dataclasses import dataclass

from sqlalchemy import func, select

from server.store.engine import Transactions
from server.store.tables import RoundRow, RunRow, TreeHeadRow


@dataclass(frozen=True, slots=True, kw_only=True)
class Tallies:
    """`runs` by (population, state), `rounds` by (population, state), `reports` by population, and the ledger's size."""

    runs: dict[tuple[str, str], int]
    rounds: dict[tuple[str, str], int]
    reports: dict[str, int]
    entries: int


def tally(transactions: Transactions) -> Tallies:
    """All counts, of one moment."""
    with transactions.read() as session:
        runs = session.execute(select(RunRow.population, RunRow.state, func.count()).group_by(RunRow.population, RunRow.state))
        rounds = session.execute(
            select(RunRow.population, RoundRow.state, func.count(), func.sum(RoundRow.reported))
            .join(RoundRow, RoundRow.run == RunRow.id)
            .group_by(RunRow.population, RoundRow.state)
        ).all()
        head = session.get(TreeHeadRow, 0)
        reports: dict[str, int] = {}
        for population, _, _, reported in rounds:
            reports[population] = reports.get(population, 0) + int(reported)
        return Tallies(
            runs={(population, state): count for population, state, count in runs},
            rounds={(population, state): count for population, state, count, _ in rounds},
            reports=reports,
            entries=0 if head is None else head.size,
        )
