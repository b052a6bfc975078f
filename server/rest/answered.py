"""`Idempotency-Key`: the same request is answered again, not done again (draft-ietf-httpapi-idempotency-key-header)."""

from collections.abc import Callable
from dataclasses import dataclass

from contract.clock import wall_time
from contract.errors import ErrorCode, TuttiError
from server.store.engine import Transactions
from server.store.service_tables import AnsweredRequestRow

ABANDONED_AFTER_S = 600.0
"""A request without an answer for so long died with its server; its key may be used again."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What is told a second time in the same words."""

    status: int
    body: str
    location: str | None = None


def _seconds() -> float:
    return wall_time().timestamp()


class AnsweredRequests:
    """The keyed requests of one store."""

    def __init__(self, transactions: Transactions, *, now_s: Callable[[], float] = _seconds) -> None:
        self._transactions, self._now_s = transactions, now_s

    def once(self, *, principal: str, key: str | None, digest: str, act: Callable[[], Answer]) -> Answer:
        """The answer of `act`, or the one that it gave before under this key. A request that fails leaves its key free.

        Raises:
          TuttiError: CONFLICT if the key was used for another request (`digest`), or its first request is not answered yet.
        """
        if key is None:
            return act()
        known = self._begin(principal, key, digest)
        if known is not None:
            return known
        try:
            answer = act()
        except BaseException:
            self._forget(principal, key)
            raise
        with self._transactions.begin() as session:
            row = session.get_one(AnsweredRequestRow, (principal, key))
            row.status, row.body, row.location = answer.status, answer.body, answer.location
        return answer

    def _begin(self, principal: str, key: str, digest: str) -> Answer | None:
        now = self._now_s()
        with self._transactions.begin() as session:
            row = session.get(AnsweredRequestRow, (principal, key), with_for_update=True)
            if row is None:
                session.add(AnsweredRequestRow(principal=principal, key=key, digest=digest, began_at=now))
                return None
            if row.digest != digest:
                raise TuttiError(ErrorCode.CONFLICT, "this idempotency key was used for another request")
            if row.status is not None and row.body is not None:
                return Answer(row.status, row.body, row.location)
            if now - row.began_at < ABANDONED_AFTER_S:
                raise TuttiError(ErrorCode.CONFLICT, "the first request with this idempotency key is not answered yet")
            row.began_at = now
        return None

    def _forget(self, principal: str, key: str) -> None:
        with self._transactions.begin() as session:
            row = session.get(AnsweredRequestRow, (principal, key))
            if row is not None:
                session.delete(row)
