"""`await report`: the run's event descriptor in an asyncio loop, without a thread."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

from . import _native

if TYPE_CHECKING:
    import asyncio

# The descriptor says that *some* report of the run has changed; this bounds what a missed wake-up costs.
_LONGEST_S = 0.1


class Events:
    """Wakes coroutines, of any loop and thread, when a report of the run may have changed its state."""

    def __init__(self, run: _native.Handle) -> None:
        """Holds the run, whose descriptor this is."""
        self._run = run
        self._descriptor = _native.run_event_fd(run)
        self._waiting: list[tuple[asyncio.AbstractEventLoop, asyncio.Future[None]]] = []

    async def change(self) -> None:
        """Returns after a change, or after a tenth of a second."""
        import asyncio

        loop = asyncio.get_running_loop()
        entry = (loop, loop.create_future())
        if not any(other is loop for other, _ in self._waiting):
            loop.add_reader(self._descriptor, self._readable)
        self._waiting.append(entry)
        timer = loop.call_later(_LONGEST_S, _wake, entry[1])
        try:
            await entry[1]
        finally:
            timer.cancel()
            self._waiting.remove(entry)
            if not any(other is loop for other, _ in self._waiting):
                loop.remove_reader(self._descriptor)

    def _readable(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.read(self._descriptor, 8)
        for loop, future in list(self._waiting):
            with contextlib.suppress(RuntimeError):  # that loop was closed
                loop.call_soon_threadsafe(_wake, future)


def _wake(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
