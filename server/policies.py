"""What a population asks for before a run starts or a model leaves: another person's approval. Rule and approvals are on the record."""

import json

from sqlalchemy import select

from contract.errors import ErrorCode, TuttiError
from privacy.ledger import entries
from server.store.engine import Transactions
from server.store.ledger import Ledger
from server.store.service_tables import PopulationPolicyRow

_RULE = entries.EntryKind.APPROVAL_REQUIRED.value


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
