"""`RunConfig(handle_sigterm=True)`: a job that is being stopped stores what it has, then stops as before."""

from __future__ import annotations

import os
import signal
import threading
from typing import TYPE_CHECKING, Any, Callable

from . import _log
from .errors import InvalidArgumentError

if TYPE_CHECKING:
    from types import FrameType


class SigtermHandler:
    """Flushes on SIGTERM and then does what would have been done without it."""

    def __init__(self, flush: Callable[[], object]) -> None:
        """Installs the handler.

        Raises:
            InvalidArgumentError: This is not the main thread, which alone may set signal handlers.
        """
        if threading.current_thread() is not threading.main_thread():
            raise InvalidArgumentError("handle_sigterm=True works in the main thread only; open the run there")
        self._flush = flush
        self._pid = os.getpid()
        self._installed = self._handle
        self._previous: Any = signal.signal(signal.SIGTERM, self._installed)

    def remove(self) -> None:
        """Puts the previous handler back, unless somebody has set another one since, or this is another thread."""
        main = threading.current_thread() is threading.main_thread()
        if main and signal.getsignal(signal.SIGTERM) == self._installed:
            signal.signal(signal.SIGTERM, signal.SIG_DFL if self._previous is None else self._previous)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() == self._pid:
            try:
                self._flush()
            except Exception as error:  # noqa: BLE001 - the process is to end, whatever happened
                _log.logger().warning("SIGTERM: not everything could be stored: %s", error)
        if callable(self._previous):
            self._previous(number, frame)
        elif self._previous in (signal.SIG_DFL, None):
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            os.kill(os.getpid(), signal.SIGTERM)
