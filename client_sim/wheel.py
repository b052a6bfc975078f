"""Who wakes up when: a timing wheel over arrays, so that a wake-up of millions of devices costs a sort and not objects."""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt


class WakeWheel:
    """Every device has one next wake-up; `pop` hands out those of one slot of time in the order of their times.

    Args:
      wakes_s: float64, shape (n,): the first wake-up of each device; kept up to date in place, so a copy is a snapshot.
      slot_s: width of a slot, in seconds.

    >>> wheel = WakeWheel(np.array([25.0, 3.0, 1.0]), slot_s=10.0)
    >>> [devices.tolist() for devices in wheel.until(20.0)]
    [[2, 1]]
    """

    def __init__(self, wakes_s: npt.NDArray[np.float64], *, slot_s: float) -> None:
        if slot_s <= 0:
            raise ValueError(f"slot_s must be above 0, not {slot_s}")
        self.wakes_s = wakes_s
        self.slot_s = slot_s
        self._slots: dict[int, list[npt.NDArray[np.int64]]] = {}
        self._next = int(np.floor(wakes_s.min() / slot_s)) if len(wakes_s) else 0
        self.push(np.arange(len(wakes_s)), wakes_s)

    def push(self, devices: npt.NDArray[np.int64], times_s: npt.NDArray[np.float64]) -> None:
        """Sets the next wake-up of `devices`, none of which is waiting in the wheel; a time already past means at once."""
        if len(devices) == 0:
            return
        self.wakes_s[devices] = times_s
        slots = np.maximum(np.floor(times_s / self.slot_s).astype(np.int64), self._next)
        order = np.argsort(slots, kind="stable")
        starts = np.flatnonzero(np.diff(slots[order], prepend=-1))
        for slot, group in zip(slots[order[starts]].tolist(), np.split(devices[order], starts[1:]), strict=True):
            self._slots.setdefault(slot, []).append(group)

    def until(self, end_s: float) -> Iterator[npt.NDArray[np.int64]]:
        """The devices of each slot that begins before `end_s`, ordered by time, then by device."""
        while self._next * self.slot_s < end_s:
            waiting = self._slots.pop(self._next, None)
            self._next += 1
            if waiting is not None:
                devices = np.concatenate(waiting)
                yield devices[np.lexsort((devices, self.wakes_s[devices]))]
