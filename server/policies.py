"""What a population asks for before a run starts or a model leaves: another person's approval, on the record."""

from sqlalchemy import select

from server.store.engine import Transactions
from server.store.service_tables import PopulationPolicyRow


class Policies:
    """The policies of one store."""

    def __init__(self, transactions: Transactions) -> None:
        self._transactions = transactions

    def approval_required(self, population: str) -> bool:
        """Whether runs of this population need an approval."""
        with self._transactions.read() as session:
            row = session.get(PopulationPolicyRow, population)
            return row is not None and row.approval_required

    def populations(self) -> list[str]:
        """Every population with a policy."""
        with self._transactions.read() as session:
            return sorted(session.scalars(select(PopulationPolicyRow.population)))

    def set_approval(self, population: str, *, required: bool) -> None:
        """Turns the rule on or off."""
        with self._transactions.begin() as session:
            row = session.get(PopulationPolicyRow, population)
            if row is None:
                session.add(PopulationPolicyRow(population=population, approval_required=required))
            else:
                row.approval_required = required
