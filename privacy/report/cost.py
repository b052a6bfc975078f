"""What a run costs: all that was charged, as it was measured, and the looks that it was tuned by, together."""

from collections.abc import Sequence
from dataclasses import dataclass

from privacy import accounting, events, group
from privacy.accounting import Price
from privacy.events import Event, UnboundedEvent
from privacy.ledger import measured
from privacy.report.run_record import Facts, RunRecord, actual_event

NEVER_CHARGED = "no differentially private mechanism has been charged"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunCost:
    """`price` is None where nothing is promised; `why` says why then, and is None elsewhere."""

    price: Price | None
    why: str | None = None
    together: Sequence[Event] = ()

    def of_group(self, size: int) -> Price | None:
        """What it costs a person with so many devices."""
        return None if self.price is None else group.price(self.together, self.price.delta, size=size)


def of(record: RunRecord, event: Facts | None) -> RunCost:
    """The cost of `event`, which holds everything that the run's rounds were charged, and of the run's own looks beside it.

    Guarantee: never less than what `privacy.ledger.spending` counts for this run, but for looks that nothing covers: reports name
    those in their first lines.
    """
    actual = _read(actual_event(event, record))
    if event is None or actual is None or event.get("kind") == UnboundedEvent.kind or record.delta is None:
        return RunCost(price=None, why=NEVER_CHARGED)
    looks = [measured.look(facts) for facts in record.tuned if facts["event"] is not None]
    together = events.simple([actual, *looks])
    unbounded = next((one.reason for one in together if isinstance(one, UnboundedEvent)), None)
    if unbounded is not None:
        return RunCost(price=None, why=unbounded)
    try:
        price = accounting.price(together, record.delta)
    except ValueError as error:
        return RunCost(price=None, why=str(error))
    return (
        RunCost(price=price, together=together)
        if price.bounded
        else RunCost(price=None, why="without noise nothing is promised")
    )


def _read(event: Facts | None) -> Event | None:
    return None if event is None else measured.read_event(event, of="the run")
