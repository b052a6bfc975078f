"""One owner a population: a lease in the store, renewed while the owner lives, taken over only after it ran out.

Every append for a population checks in its own transaction that no other process owns it, so that an owner that slept through its
lease writes nothing.
"""

from collections.abc import Callable
from dataclasses import dataclass

from sqlalchemy import Connection, bindparam, select

from contract.clock import wall_time
from contract.errors import ErrorCode, TuttiError
from server.store.engine import Transactions
from server.store.statements import Statement
from server.store.tables import LeaseRow, table

_LEASES = table(LeaseRow)
_OWNER = Statement(
    select(_LEASES.c.holder, _LEASES.c.epoch, _LEASES.c.until)
    .where(_LEASES.c.population == bindparam("of_population"))
    .with_for_update()
)
LEASE_S = 30.0
"""Seconds for which a lease holds unless it is renewed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """What its holder shows. `until_s` are seconds since 1970: holders on several machines compare them."""

    population: str
    holder: str
    epoch: int
    until_s: float


def _seconds() -> float:
    return wall_time().timestamp()


class PopulationLeases:
    """The leases of one store, and those that this process holds."""

    def __init__(self, transactions: Transactions, *, now_s: Callable[[], float] = _seconds) -> None:
        self._transactions, self._now_s = transactions, now_s
        self._held: dict[str, Lease] = {}

    def take(self, population: str, holder: str, *, lease_s: float = LEASE_S) -> Lease:
        """Takes or renews the lease of a population.

        Raises:
          TuttiError: LEASE_HELD while somebody else's has not run out.
        """
        now = self._now_s()
        with self._transactions.begin() as session:
            row = session.get(LeaseRow, population, with_for_update=True)
            if row is None:
                row = LeaseRow(population=population, holder=holder, epoch=0, until=0.0)
                session.add(row)
            elif row.holder != holder and row.until > now:
                raise _held(population, row.holder)
            if row.holder != holder or row.until <= now:
                row.epoch += 1
            row.holder, row.until = holder, now + lease_s
            lease = Lease(population=population, holder=holder, epoch=row.epoch, until_s=row.until)
        self._held[population] = lease
        return lease

    def renew(self, lease: Lease, *, lease_s: float = LEASE_S) -> Lease:
        """Holds on to a lease that has not run out.

        Raises:
          TuttiError: LEASE_HELD if it ran out and somebody else has it by now.
        """
        return self.take(lease.population, lease.holder, lease_s=lease_s)

    def release(self, lease: Lease) -> None:
        """Lets go; nothing happens if it was lost."""
        self._held.pop(lease.population, None)
        with self._transactions.begin() as session:
            row = session.get(LeaseRow, lease.population, with_for_update=True)
            if row is not None and (row.holder, row.epoch) == (lease.holder, lease.epoch):
                row.until = 0.0

    def owner(self, population: str) -> Lease | None:
        """Whose the population is now."""
        with self._transactions.read() as session:
            row = session.get(LeaseRow, population)
        if row is None or row.until <= self._now_s():
            return None
        return Lease(population=population, holder=row.holder, epoch=row.epoch, until_s=row.until)

    def check(self, connection: Connection, population: str) -> None:
        """Whether this process may write for a population, in the transaction that writes.

        Raises:
          TuttiError: LEASE_HELD if somebody else owns it, or took it after ours ran out.
        """
        row = _OWNER.on(connection, {"of_population": population}).one_or_none()
        if row is None:
            return
        holder, epoch, until = row
        ours = self._held.get(population)
        if ours is None:
            if until > self._now_s():
                raise _held(population, holder)
        elif (holder, epoch) != (ours.holder, ours.epoch):
            raise _held(population, holder)


def _held(population: str, holder: str) -> TuttiError:
    return TuttiError(ErrorCode.LEASE_HELD, f"population {population} is owned by {holder}")
