"""What the simulator saw of each attempt at a round (session shapes, phases, metrics), kept for the pages; no guarantee rests on it."""

import json
from collections.abc import Mapping
from typing import Any

from sqlalchemy import select

from server.store.engine import Transactions
from server.store.service_tables import RoundTraceRow


class Traces:
    """The traces of one store. Ids grow with time and serve as cursors."""

    def __init__(self, transactions: Transactions) -> None:
        self._transactions = transactions

    def record(self, run: str, facts: Mapping[str, Any]) -> None:
        """Adds the facts of one more attempt; `facts["round"]` is its index."""
        with self._transactions.begin() as session:
            session.add(RoundTraceRow(run=run, round=int(facts["round"]), facts=json.dumps(dict(facts), default=float)))

    def after(self, run: str, cursor: int = 0, limit: int = 500) -> list[tuple[int, dict[str, Any]]]:
        """At most `limit` traces after `cursor`, with their ids, the oldest first."""
        query = (
            select(RoundTraceRow)
            .where(RoundTraceRow.run == run, RoundTraceRow.id > cursor)
            .order_by(RoundTraceRow.id)
            .limit(limit)
        )
        with self._transactions.read() as session:
            return [(row.id, json.loads(row.facts)) for row in session.scalars(query)]

    def of_rounds(self, run: str, first: int, last: int) -> dict[int, dict[str, Any]]:
        """The newest trace of each round from `first` to `last`."""
        query = (
            select(RoundTraceRow)
            .where(RoundTraceRow.run == run, RoundTraceRow.round >= first, RoundTraceRow.round <= last)
            .order_by(RoundTraceRow.id)
        )
        with self._transactions.read() as session:
            return {row.round: json.loads(row.facts) for row in session.scalars(query)}

    def shapes(self, run: str) -> dict[str, int]:
        """How many sessions of a run had each shape, such as `-v[]+^`, the most frequent first."""
        totals: dict[str, int] = {}
        with self._transactions.read() as session:
            for text in session.scalars(select(RoundTraceRow.facts).where(RoundTraceRow.run == run)):
                for shape, count in json.loads(text).get("shapes", {}).items():
                    totals[shape] = totals.get(shape, 0) + count
        return dict(sorted(totals.items(), key=lambda pair: (-pair[1], pair[0])))
