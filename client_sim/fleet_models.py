"""The models that one fleet process has fetched: each comes over the wire once, for all devices that the process plays."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from contract.ids import Digest

MODELS_KEPT = 2


class ModelShelf:
    """Checked models by digest, the newest `MODELS_KEPT`.

    A simulation's economy: devices of their own would fetch and check a copy each. What is here was checked against the digest under
    which it is asked for, so that no server can give one device another model than it gives the next.

    >>> async def fetched() -> list[bytes | None]:
    ...     shelf, found = ModelShelf(), list[bytes | None]()
    ...     async def device() -> None:
    ...         async with shelf.turn(Digest("d")) as held:
    ...             found.append(held)
    ...             if held is None:
    ...                 shelf.keep(Digest("d"), b"model")
    ...     await asyncio.gather(device(), device())
    ...     return found
    >>> asyncio.run(fetched())
    [None, b'model']
    """

    def __init__(self) -> None:
        self._models: dict[Digest, bytes] = {}
        self._turns: dict[Digest, asyncio.Lock] = {}

    @asynccontextmanager
    async def turn(self, digest: Digest) -> AsyncGenerator[bytes | None, None]:
        """The model with this digest; None for the one caller at a time that is to fetch it."""
        if digest in self._models:
            yield self._models[digest]
            return
        async with self._turns.setdefault(digest, asyncio.Lock()):
            yield self._models.get(digest)

    def keep(self, digest: Digest, parameters: bytes) -> None:
        """From now on there is a model with this digest; the oldest one goes."""
        self._models[digest] = parameters
        while len(self._models) > MODELS_KEPT:
            del self._models[next(iter(self._models))]
        self._turns = {name: turn for name, turn in self._turns.items() if name in self._models or turn.locked()}
