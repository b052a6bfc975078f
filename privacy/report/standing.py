"""What a run has spent as it stands: of all its entries those that its summary depends on, kept up to date entry by entry."""

import json
from collections.abc import Sequence

from privacy.ledger.entries import EntryKind
from privacy.report.run_record import Facts

_BESIDE_ROUNDS = frozenset(
    kind.value
    for kind in (
        EntryKind.RUN_REGISTERED, EntryKind.PARAMETER_TUNED, EntryKind.ASSUMPTION_CHECKED, EntryKind.AUDIT_RECORDED
    )
)  # fmt: skip


class Standing:
    """The entries of one run that say where it stands: a charge or a committed outcome holds all that was charged before it.

    Guarantee: `summarize` says of `bodies` what it says of all entries that were taken, however many rounds there were. An epsilon
    is therefore cumulative over the outcomes so far, with the worst case for a round that is charged and has no outcome yet.

    >>> standing = Standing()
    >>> for round_index in range(3):
    ...     standing.take(json.dumps({"kind": "round-charged", "round": round_index, "floor": 5, "event": {}}).encode())
    >>> [json.loads(body)["round"] for body in standing.bodies]
    [2]
    """

    def __init__(self) -> None:
        self._kept: list[bytes] = []
        self._newest: list[bytes] = []
        self._charge: Facts | None = None
        self._odd = False

    @property
    def bodies(self) -> Sequence[bytes]:
        """Bodies of entries, the newest round's last."""
        return (*self._kept, *self._newest)

    def take(self, body: bytes) -> None:
        """The body of the run's next entry."""
        facts: Facts = json.loads(body)
        match EntryKind(facts["kind"]):
            case EntryKind.ROUND_CHARGED:
                self._begin(body)
                self._charge = facts
            case EntryKind.ROUND_OUTCOME:
                self._end(facts, body)
            case EntryKind.PARAMETER_TUNED if "covered_by" in facts:
                pass
            case kind if kind.value in _BESIDE_ROUNDS:
                self._kept.append(body)
            case _:
                pass

    def _begin(self, *bodies: bytes) -> None:
        """What is known of an earlier round is told by the next one's event, unless the round was not as it must be."""
        if self._odd:
            self._kept += self._newest
        self._newest, self._odd = [*bodies], False

    def _end(self, facts: Facts, body: bytes) -> None:
        charge = self._charge if self._charge is not None and self._charge["round"] == facts["round"] else None
        if facts["result"] != "committed":
            if charge is not None:
                self._newest.append(body)
            return
        if charge is None:
            self._begin()
        self._newest.append(body)
        self._odd = self._odd or charge is None or facts["reported"] < charge["floor"]
