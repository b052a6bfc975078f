"""What a population asks for before a run starts or a model leaves: another person's approval. Rule and approvals are on the record."""

import json

from sqlalchemy import select

from contract.errors import ErrorCode, TuttiError
from privacy.ledger import entries
from server.store.engine import Transactions
from server.store.ledger import Ledger
from server.store.service_tables import PopulationPolicyRow
from server.store.values import Run

_RULE, _APPROVAL = entries.EntryKind.APPROVAL_REQUIRED.value, entries.EntryKind.APPROVAL.value


class Policies:
    """The policies of one store: the last entry decides, and for a rule from before there were such entries its row."""

    def __init__(self, transactions: Transactions, ledger: Ledger) -> None:
        self._transactions, self._ledger = transactions, ledger

    def approval_required(self, population: str) -> bool:
        """Whether runs of this population need an approval."""
        rules = list(self._ledger.entries(population=population, kind=_RULE))
        if rules:
            return bool(json.loads(rules[-1].body)["required"])
        with self._transactions.read() as session:
            row = session.get(PopulationPolicyRow, population)
            return row is not None and row.approval_required

    def populations(self) -> set[str]:
        """Every population with a policy."""
        ruled = {str(json.loads(entry.body)["population"]) for entry in self._ledger.entries(kind=_RULE)}
        with self._transactions.read() as session:
            return ruled | set(session.scalars(select(PopulationPolicyRow.population)))

    def set_approval(self, population: str, *, required: bool, reason: str, by: str) -> None:
        """Turns the rule on or off; the entry says who did and why."""
        self._ledger.append(entries.approval_required(population=population, required=required, reason=reason, by=by))

    def may_start(self, population: str, *, run: str | None = None, audit: str | None = None) -> bool:
        """Whether a run or an audit may be played now: no approval is asked for, or its own is on the record."""
        if not self.approval_required(population):
            return True
        found = (json.loads(entry.body) for entry in self._ledger.entries(run=run, population=population, kind=_APPROVAL))
        if run is not None:
            return any(facts["what"] == "start" for facts in found)
        return any(facts["what"] == "audit" and facts["audit"] == audit for facts in found)

    def check_resume(self, run: Run) -> None:
        """Refuses to go on with a run that nobody else approved.

        Raises:
          TuttiError: FORBIDDEN if the population asks for an approval and the run has none.
        """
        if not self.may_start(run.spec.population, run=run.id):
            detail = (
                f"population {run.spec.population} asks for another person's approval, and run {run.id[:12]} has none: "
                f"a privacy officer gives it with POST /v1/runs/{run.id[:12]}:approve"
            )
            raise TuttiError(ErrorCode.FORBIDDEN, detail)

    def check_start(self, population: str) -> None:
        """Refuses a run that nobody else approved.

        Raises:
          TuttiError: FORBIDDEN if the population asks for an approval, which only a run that was asked for over REST can get.
        """
        if self.approval_required(population):
            detail = (
                f"population {population} asks for another person's approval: launch the run over REST, where it waits for one"
            )
            raise TuttiError(ErrorCode.FORBIDDEN, detail)
