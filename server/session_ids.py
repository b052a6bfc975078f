"""Session ids and authorization tokens that the server recognises without keeping them.

A session id says which run and which round's check-in it is for, and nothing about the device: the rest is random, and a MAC under
a key of this process proves that it was made here. So a check-in costs the server no memory; only a place in a cohort does.
"""

import hashlib
import hmac
from dataclasses import dataclass, field

from contract.entropy import Entropy
from contract.ids import RunId, SessionId

TAG_CHARACTERS = 16
"""Characters of a run's id that its sessions carry, so that a server with many runs finds the right one."""
_NONCE_BYTES = 16
_MAC_BYTES = 16


@dataclass(frozen=True, slots=True)
class SessionKey:
    """Makes and recognises the sessions of one run while this process lives.

    >>> key = SessionKey(RunId("ab" * 32), bytes(32))
    >>> name = key.make(7, lambda n: bytes(n))
    >>> key.round_of(name), key.round_of(SessionId(name[:-1] + "x")), tag(name)
    (7, None, 'abababababababab')
    """

    run: RunId
    secret: bytes = field(repr=False)

    def make(self, round_index: int, entropy: Entropy) -> SessionId:
        """A fresh session id for a check-in to round `round_index`."""
        text = f"{self.run[:TAG_CHARACTERS]}.{round_index}.{entropy(_NONCE_BYTES).hex()}"
        return SessionId(f"{text}.{self._mac('session', text).hex()}")

    def round_of(self, session: SessionId) -> int | None:
        """The round that `session` checked in to; None if it was not made with this key."""
        text, _, mac = session.rpartition(".")
        if not hmac.compare_digest(mac.encode(), self._mac("session", text).hex().encode()):
            return None
        return int(text.split(".")[1])

    def token(self, session: SessionId) -> bytes:
        """What authorizes the upload of `session`: only the device that got the assignment knows it."""
        return self._mac("upload", session)

    def _mac(self, purpose: str, text: str) -> bytes:
        return hmac.new(self.secret, f"tutti {purpose}\x00{text}".encode(), hashlib.sha256).digest()[:_MAC_BYTES]


def tag(session: SessionId) -> str:
    """The first characters of the id of the run that `session` claims to belong to."""
    return session.partition(".")[0]
