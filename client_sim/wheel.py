"""Who wakes up when: a timing wheel over arrays, so that a wake-up of millions of devices costs a sort and not objects."""

import numpy as np
import numpy.typing as npt

_NOBODY = np.empty(0, np.int64)


class WakeWheel:
    """Every device has one next wake-up; `take` hands out those before a time in the order of their times.

    Slots are for speed alone: who is taken when, and in which order, does not depend on their width.

    Args:
      wakes_s: float64, shape (n,): the first wake-up of each device; kept up to date in place, so a copy is a snapshot.
      slot_s: width of a slot, in seconds.

    >>> wheel = WakeWheel(np.array([25.0, 3.0, 1.0, 4.0]), slot_s=10.0)
    >>> wheel.take(4.0).tolist(), wheel.take(30.0).tolist()
    ([2, 1], [3, 0])
    """

    def __init__(self, wakes_s: npt.NDArray[np.float64], *, slot_s: float) -> None:
        if slot_s <= 0:
            raise ValueError(f"slot_s must be above 0, not {slot_s}")
        self.wakes_s = wakes_s
        self.slot_s = slot_s
        self._slots: dict[int, list[npt.NDArray[np.int64]]] = {}
        self._next = int(np.floor(wakes_s.min() / slot_s)) if len(wakes_s) else 0
        self._taken_s = -np.inf
        self._pushed: list[npt.NDArray[np.int64]] = []
        self.push(np.arange(len(wakes_s)), wakes_s)

    def push(self, devices: npt.NDArray[np.int64], times_s: npt.NDArray[np.float64]) -> None:
        """Sets the next wake-up of `devices`, none of which is waiting in the wheel; a time already past means at once."""
        if len(devices) == 0:
            return
        self.wakes_s[devices] = times_s
        self._pushed.append(devices)

    def sort_in(self) -> None:
        """Puts what was pushed into its slots; `take` and `time_of` see to it themselves."""
        if not self._pushed:
            return
        devices, self._pushed = np.concatenate(self._pushed), []
        times_s = self.wakes_s[devices]
        slots = np.maximum(np.floor(times_s / self.slot_s).astype(np.int64), self._next)
        ahead = slots - self._next
        # 16 bits are sorted by their digits, in a tenth of the time.
        order = np.argsort(ahead.astype(np.uint16) if ahead.max() < 1 << 16 else ahead, kind="stable")
        slots, devices = slots[order], devices[order]
        starts = [0, *(np.flatnonzero(slots[1:] != slots[:-1]) + 1).tolist(), len(devices)]
        for slot, start, end in zip(slots[starts[:-1]].tolist(), starts, starts[1:], strict=False):
            self._slots.setdefault(slot, []).append(devices[start:end])

    def take(self, end_s: float) -> npt.NDArray[np.int64]:
        """The devices whose time is before `end_s`, ordered by time, then by device; they wait no longer."""
        self.sort_in()
        last, waiting = max(self._next, int(np.floor(end_s / self.slot_s))), list[npt.NDArray[np.int64]]()
        for slot in range(self._next, last + 1):
            waiting += self._slots.pop(slot, ())
        self._next, self._taken_s = last, end_s
        if not waiting:
            return _NOBODY
        devices = np.concatenate(waiting)
        times_s = self.wakes_s[devices]
        due = times_s < end_s
        if not due.all():
            self._slots[last] = [devices[~due]]
            devices, times_s = devices[due], times_s[due]
        order = np.argsort(times_s)
        ordered_s = times_s[order]
        if (ordered_s[1:] == ordered_s[:-1]).any():
            order = np.lexsort((devices, times_s))
        return devices[order]

    def time_of(self, count: float, *, latest_s: float) -> float:
        """About when `count` more devices will have woken, `latest_s` if that is later; a guess within the slot."""
        self.sort_in()
        slot, end_s = self._next, self._taken_s
        while end_s < latest_s:
            end_s, begin_s = (slot + 1) * self.slot_s, max(slot * self.slot_s, end_s)
            waiting = sum(map(len, self._slots.get(slot, ())))
            if waiting >= count:
                return min(latest_s, begin_s + (end_s - begin_s) * count / max(1, waiting))
            count -= waiting
            slot += 1
        return latest_s
