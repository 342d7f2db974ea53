"""The library's log, pulled at API calls into `logging.getLogger("raystorage")`.

Without any set-up, warnings and errors reach stderr as `logging` does it for everybody. ``RAYSTORAGE_LOG=debug|info|
warning|error`` sets the level, and adds a handler for stderr where the program has set up none.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from . import _native

if TYPE_CHECKING:
    import logging

_LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40}
# A report without a checkpoint takes microseconds; looking at the log each time would be a tenth of that.
_PERIOD_S = 0.05

_logger: logging.Logger | None = None
_next_look = 0.0


def logger() -> logging.Logger:
    """The logger of this package, set up from the environment on first use."""
    global _logger
    if _logger is None:
        import logging

        _logger = logging.getLogger("raystorage")
        _configure(_logger, os.environ.get("RAYSTORAGE_LOG", ""))
    return _logger


def _configure(target: logging.Logger, level: str) -> None:
    import logging

    if not level:
        return
    if level.lower() not in _LEVELS:
        target.warning("RAYSTORAGE_LOG=%r is ignored: it must be one of %s", level, ", ".join(_LEVELS))
        return
    target.setLevel(_LEVELS[level.lower()])
    if not target.hasHandlers():
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(asctime)s raystorage %(levelname)s: %(message)s"))
        target.addHandler(handler)


def drain_soon() -> None:
    """Drains when the last look is a while ago."""
    if time.monotonic() >= _next_look:
        drain()


def drain() -> None:
    """Hands every line that the library has logged so far to `logging`."""
    global _next_look
    _next_look = time.monotonic() + _PERIOD_S
    while True:
        line = _native.next_log_line()
        if line is None:
            return
        level = _LEVELS.get(str(line.get("level")), 30)
        logger().log(level, "%s", line.get("message", ""), extra={"raystorage": line})
