"""Uploads in flight: a few buffers, hashed as they fill, handed over whole or not at all."""

import hashlib
from typing import Any

from contract.ids import Digest, SessionId
from contract.messages import MAX_CHUNK_BYTES, AbortReason

MOST_IN_FLIGHT = 8
"""Uploads that may be in memory at once."""
STALL_S = 5.0
"""An upload that has brought nothing for so long gives its place up when another device asks for one."""
LONGEST_S = 300.0
"""An upload that takes longer gives its place up, however steadily it trickles."""


class Upload:
    """One device's bytes, `num_bytes` of them, with the SHA-256 of what is there so far."""

    def __init__(self, *, num_bytes: int, sha256: Digest, now_s: float, buffer: bytearray | None = None) -> None:
        self.num_bytes, self.sha256 = num_bytes, sha256
        self._buffer = bytearray(num_bytes) if buffer is None else buffer
        self._hash: Any = hashlib.sha256()
        self.offset = 0
        self.opened_s = self.touched_s = now_s

    def add(self, offset: int, data: bytes | memoryview, now_s: float) -> AbortReason | None:
        """Takes a chunk that continues what is there; one that is there already is passed over. The fault, if there is one."""
        if len(data) > MAX_CHUNK_BYTES or offset + len(data) > self.num_bytes or not data:
            return AbortReason.WRONG_LENGTH
        if offset > self.offset:
            return AbortReason.WRONG_OFFSET
        fresh = data[self.offset - offset :]
        self._buffer[self.offset : self.offset + len(fresh)] = fresh
        self._hash.update(fresh)
        self.offset += len(fresh)
        self.touched_s = now_s
        return None

    def whole(self) -> bytearray | AbortReason:
        """All bytes, if they are there and have the hash that was announced."""
        if self.offset != self.num_bytes:
            return AbortReason.WRONG_OFFSET
        return self._buffer if self._hash.hexdigest() == self.sha256 else AbortReason.WRONG_HASH

    @property
    def buffer(self) -> bytearray:
        """The memory behind the upload: what is in it beyond the offset is anything."""
        return self._buffer

    def stalled(self, now_s: float) -> bool:
        """Whether another device should have this place."""
        return now_s - self.touched_s > STALL_S or now_s - self.opened_s > LONGEST_S


class Uploads:
    """At most `MOST_IN_FLIGHT` uploads by session: memory O(8 d), however many devices want to upload.

    >>> uploads = Uploads()
    >>> opened = [uploads.open(SessionId(str(i)), num_bytes=4, sha256=Digest(""), now_s=0.0) is not None for i in range(9)]
    >>> opened.count(True), uploads.open(SessionId("8"), num_bytes=4, sha256=Digest(""), now_s=STALL_S + 1) is not None
    (8, True)
    """

    def __init__(self) -> None:
        self._open: dict[SessionId, Upload] = {}
        self._spare: list[bytearray] = []
        self.mean_s = 0.1

    def __len__(self) -> int:
        return len(self._open)

    def get(self, session: SessionId) -> Upload | None:
        """The upload of `session`, if it is in flight."""
        return self._open.get(session)

    def open(self, session: SessionId, *, num_bytes: int, sha256: Digest, now_s: float) -> Upload | None:
        """A place for `session`, or None if all are taken by uploads that move."""
        if len(self._open) >= MOST_IN_FLIGHT:
            for other in [name for name, upload in self._open.items() if upload.stalled(now_s)]:
                self.drop(other)
        if len(self._open) >= MOST_IN_FLIGHT:
            return None
        spare = self._spare.pop() if self._spare else None
        buffer = spare if spare is not None and len(spare) == num_bytes else None
        upload = self._open[session] = Upload(num_bytes=num_bytes, sha256=sha256, now_s=now_s, buffer=buffer)
        return upload

    def finished(self, session: SessionId, now_s: float, *, reusable: bool = False) -> None:
        """Forgets an upload that was taken, and learns how long one takes.

        Args:
          reusable: nobody looks at its bytes any more, so that another upload may have their memory.
        """
        upload = self._open.pop(session, None)
        if upload is not None:
            self.mean_s += 0.2 * (now_s - upload.opened_s - self.mean_s)
            if reusable and len(self._open) + len(self._spare) < MOST_IN_FLIGHT:
                self._spare.append(upload.buffer)

    def drop(self, session: SessionId) -> None:
        """Forgets an upload."""
        self._open.pop(session, None)

    def clear(self) -> None:
        """Forgets all of them, and lets their memory go."""
        self._open.clear()
        self._spare.clear()
