"""One thread for work that must not block the event loop; what is asked while it is busy is done together next."""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Generic, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


class BatchThread(Generic[Item, Result]):
    """Gives items to `work` on a thread of its own, at most `most` at once; each result is handed out when it is there.

    Args:
      work: results in the order of its items, one for each. An exception fails the items that have no result yet.
      initialize: runs on the thread before anything else.

    >>> async def doubled() -> list[int]:
    ...     batches = BatchThread[int, int](lambda items: (2 * item for item in items), most=2)
    ...     results = await asyncio.gather(*(batches.submit(item) for item in range(4)))
    ...     batches.close()
    ...     return results
    >>> asyncio.run(doubled())
    [0, 2, 4, 6]
    """

    def __init__(
        self, work: Callable[[Sequence[Item]], Iterator[Result]], *, most: int, initialize: Callable[[], None] | None = None
    ) -> None:
        self._work, self._most = work, most
        self._thread = ThreadPoolExecutor(max_workers=1, initializer=initialize)
        self._waiting: list[tuple[Item, asyncio.Future[Result]]] = []
        self._working: asyncio.Task[None] | None = None

    async def submit(self, item: Item) -> Result:
        """The result of `item`."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Result] = loop.create_future()
        self._waiting.append((item, future))
        if self._working is None:
            self._working = loop.create_task(self._drain(loop))
        return await future

    def close(self) -> None:
        """Lets the thread end; what waits is dropped."""
        self._waiting.clear()
        self._thread.shutdown(wait=True, cancel_futures=True)

    async def _drain(self, loop: asyncio.AbstractEventLoop) -> None:
        await asyncio.sleep(0)  # let everybody who is ready now join the first batch
        try:
            while self._waiting:
                batch = [pair for pair in self._waiting[: self._most] if not pair[1].cancelled()]
                del self._waiting[: self._most]
                if batch:
                    await self._together(loop, batch)
        finally:
            self._working = None

    async def _together(self, loop: asyncio.AbstractEventLoop, batch: "list[tuple[Item, asyncio.Future[Result]]]") -> None:
        working = loop.run_in_executor(self._thread, self._do, loop, batch)
        await asyncio.wait((working,))
        error = working.exception()
        if error is not None:  # whoever still waits for a result gets it
            for _, future in batch:
                if not future.done():
                    future.set_exception(error)

    def _do(self, loop: asyncio.AbstractEventLoop, batch: "list[tuple[Item, asyncio.Future[Result]]]") -> None:
        for (_, future), result in zip(batch, self._work([item for item, _ in batch]), strict=True):
            loop.call_soon_threadsafe(_settle, future, result)


def _settle(future: "asyncio.Future[Result]", result: Result) -> None:
    if not future.done():
        future.set_result(result)
