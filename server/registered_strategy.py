"""A run that goes on keeps the strategy that it was registered with.

An optimiser ends at slightly different points on another machine or in another version, and noise that was correlated by one strategy
cannot go on with another. Everything else of a mechanism follows from the task exactly.
"""

from dataclasses import replace

from privacy import events, strategies
from privacy.events import BltEvent
from privacy.ledger import blt_bound, forms
from privacy.ledger.entries import EntryKind
from privacy.strategies import BufferedToeplitz
from server.mechanisms import CentralMechanism
from server.store.store import Store
from server.store.values import Run
from server.tasks import PreparedTask


def as_registered(store: Store, run: Run, prepared: PreparedTask) -> PreparedTask:
    """`prepared` with the BLT strategy of the run's registration, if that is one which its task gives.

    Whether the whole mechanism is the one that was registered is checked where the run goes on (`server.recorder`): what is not taken over
    here, because no task gives it, is refused there.
    """
    mechanism = prepared.mechanism
    if not isinstance(mechanism, CentralMechanism) or not isinstance(mechanism.plan.strategy, BufferedToeplitz):
        return prepared
    planned = _planned(store, run)
    if planned is None or any(blt_bound.faults(prepared.spec, planned, length=prepared.model.num_parameters)):
        return prepared
    strategy = strategies.buffered(buf_decay=planned.buf_decay, output_scale=planned.output_scale)
    return replace(prepared, mechanism=replace(mechanism, plan=replace(mechanism.plan, strategy=strategy)))


def _planned(store: Store, run: Run) -> BltEvent | None:
    for entry in store.ledger.entries(run=run.id, kind=EntryKind.RUN_REGISTERED.value, limit=1):
        planned = events.from_json(forms.read(entry.body)["planned"])
        return planned if isinstance(planned, BltEvent) else None
    return None
