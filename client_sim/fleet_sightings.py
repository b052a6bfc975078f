"""What only a simulation can know of its fleet: who plays which session, whose records rule a release out, who is gone.

Devices tell no server any of it. The processes of the fleet collect it, and their parent joins it with what the server says is in a sum.
"""

from collections import Counter
from collections.abc import Collection

from client_sim.fleet_setup import Seen
from contract.ids import SessionId


class Sightings:
    """In a process of the fleet: what was not told yet.

    Args:
      wanted: whether somebody listens; nothing is kept otherwise.

    >>> sightings = Sightings(wanted=True)
    >>> sightings.plays(SessionId("a"), 3); sightings.barred(4, 0); sightings.barred(4, 0)
    >>> sightings.told()
    Seen(players={'a': 3}, barred={0: 1}, vanished=())
    >>> sightings.told() is None
    True
    """

    def __init__(self, *, wanted: bool) -> None:
        self._wanted = wanted
        self._players: dict[SessionId, int] = {}
        self._barred: Counter[int] = Counter()
        self._vanished: list[SessionId] = []
        self._release, self._counted = -1, set[int]()

    def plays(self, session: SessionId, device: int) -> None:
        """`device` comes to train in `session`."""
        if self._wanted:
            self._players[session] = device

    def barred(self, device: int, release: int) -> None:
        """The own record of `device` does not allow `release`."""
        if not self._wanted:
            return
        if release != self._release:
            self._release, self._counted = release, set()
        if device not in self._counted:
            self._counted.add(device)
            self._barred[release] += 1

    def vanished(self, session: SessionId) -> None:
        """The device that plays `session` is lost without a word."""
        if self._wanted:
            self._vanished.append(session)

    def told(self) -> Seen | None:
        """What is new since the last call; None if nothing is."""
        if not (self._players or self._barred or self._vanished):
            return None
        seen = Seen(self._players, dict(self._barred), tuple(self._vanished))
        self._players, self._barred, self._vanished = {}, Counter(), []
        return seen


class Sighted:
    """In the fleet's parent: what all processes told.

    >>> sighted = Sighted()
    >>> sighted.add(Seen({SessionId("a"): 3}, {0: 1})); sighted.add(Seen({}, {0: 2}))
    >>> sighted.barred(0), sighted.devices([SessionId("a")])
    (3, [3])
    >>> sighted.devices([SessionId("a")]) is None
    True
    """

    def __init__(self) -> None:
        self._players: dict[SessionId, int] = {}
        self._left: set[SessionId] = set()
        self._vanished: list[SessionId] = []
        self._barred: Counter[int] = Counter()

    def add(self, seen: Seen) -> None:
        """One word of one process."""
        self._players |= seen.players
        self._barred.update(seen.barred)
        self._vanished.extend(seen.vanished)

    def barred(self, release: int) -> int:
        """How many devices' own records do not allow `release`."""
        return self._barred[release]

    def vanished(self) -> list[SessionId]:
        """Sessions whose devices were lost since the last call."""
        found, self._vanished = self._vanished, []
        return found

    def devices(self, sessions: Collection[SessionId]) -> list[int] | None:
        """Who played these sessions of a round that is over; None while one of them is unknown.

        They are forgotten then, and so is everybody who had come before the round before it was over.
        """
        if not all(session in self._players for session in sessions):
            return None
        found = [self._players.pop(session) for session in sessions]
        for session in self._left:
            self._players.pop(session, None)
        self._left = set(self._players)
        return found
