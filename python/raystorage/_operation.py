"""Waiting for native work: in slices, so that Ctrl-C and progress come through."""

from __future__ import annotations

import atexit
import contextlib
import math
import time
from typing import TYPE_CHECKING, Any, Callable, Optional

from . import _log, _native
from .errors import InvalidArgumentError, StorageError, TimedOutError

if TYPE_CHECKING:
    from ._native import Handle

# What `progress=` takes: called in the caller's thread with
# {"bytes_done", "bytes_total", "files_done", "files_total", "phase"}.
ProgressCallback = Optional[Callable[[dict[str, Any]], object]]

# Cancelled operations that may still be removing what they wrote, and how long they get for it at exit, in seconds.
_cancelled: list[Handle] = []
_CLEAN_UP_S = 5.0


def checked_timeout(timeout_s: float | None) -> float | None:
    """A timeout in seconds: None waits without limit, 0 does not wait.

    Raises:
        InvalidArgumentError: It is negative, NaN or not a number.
    """
    if timeout_s is None:
        return None
    if isinstance(timeout_s, bool) or not isinstance(timeout_s, (int, float)):
        raise InvalidArgumentError(f"timeout_s must be a number of seconds or None, not {timeout_s!r}")
    if math.isnan(timeout_s) or timeout_s < 0:
        raise InvalidArgumentError(f"timeout_s must be 0 or more seconds, or None to wait without limit: {timeout_s!r}")
    return None if math.isinf(timeout_s) else float(timeout_s)


def countdown(timeout_s: float | None) -> Callable[[], float | None]:
    """Seconds that are left of a timeout shared by several waits."""
    timeout_s = checked_timeout(timeout_s)
    deadline = None if timeout_s is None else time.monotonic() + timeout_s
    return lambda: None if deadline is None else max(0.0, deadline - time.monotonic())


def is_pending(error: TimedOutError) -> bool:
    """Whether a TIMEOUT says "not yet"; work that itself ended with a timeout has no such mark."""
    return error.details.get("pending") is True


def wait(
    function: str,
    handle: Handle | None,
    timeout_s: float | None,
    what: str,
    each_slice: Callable[[], object] | None = None,
) -> None:
    """Calls ``function(handle, timeout_ms)`` until it no longer says "not yet".

    Args:
        function: The native function, without its prefix.
        handle: Its first argument; None for a function that takes only a timeout.
        timeout_s: Seconds; None waits without limit.
        what: What is waited for, for the error's text.
        each_slice: Called between two slices.

    Raises:
        TimedOutError: The time is up; the work goes on.
        StorageError: What the work ended with.
    """
    timeout_s = checked_timeout(timeout_s)
    deadline = None if timeout_s is None else time.monotonic() + timeout_s
    arguments = () if handle is None else (handle,)
    try:
        while True:
            slice_ms = _native.SLICE_MS
            if deadline is not None:
                left_ms = math.ceil((deadline - time.monotonic()) * 1000)
                slice_ms = max(0, min(slice_ms, left_ms))
            try:
                return _native.call(function, *arguments, slice_ms)
            except TimedOutError as error:
                if not is_pending(error):
                    raise
                if deadline is not None and time.monotonic() >= deadline:
                    text = f"{what} did not end within {timeout_s:g} s; it goes on"
                    raise TimedOutError(text, details=error.details, retryable=True) from None
            if each_slice is not None:
                each_slice()
            _log.drain()
    finally:
        _log.drain()


def start(function: str, *arguments: Any) -> Handle:  # noqa: ANN401
    """Starts an operation."""
    return _native.call_handle("operation", function, *arguments)


def finish(operation: Handle, what: str, timeout_s: float | None = None, progress: ProgressCallback = None) -> None:
    """Waits for an operation; cancels it when the wait is given up, by time or by Ctrl-C."""

    def show() -> None:
        if progress is not None:
            progress(_native.call_json("operation_progress", operation))

    try:
        wait("operation_wait", operation, timeout_s, what, show)
        show()
    except BaseException:
        cancel(operation)
        raise


def cancel(operation: Handle) -> None:
    """Asks an operation to end, and sees to it that the process does not end before that, within reason."""
    _native.operation_cancel(operation)
    _cancelled[:] = [one for one in _cancelled if not _has_ended(one)] + [operation]
    atexit.unregister(_clean_up)
    atexit.register(_clean_up)


def _has_ended(operation: Handle) -> bool:
    try:
        _native.call("operation_wait", operation, 0)
    except StorageError as error:
        return not (isinstance(error, TimedOutError) and is_pending(error))
    return True


def _clean_up() -> None:
    left_s = countdown(_CLEAN_UP_S)
    while _cancelled:
        # Forked children, impatient people and disks that do not answer: the process ends.
        with contextlib.suppress(StorageError, KeyboardInterrupt):
            wait("operation_wait", _cancelled.pop(), left_s(), "removing what is half done")


def run(
    function: str,
    *arguments: Any,  # noqa: ANN401
    what: str,
    timeout_s: float | None = None,
    progress: ProgressCallback = None,
) -> Any:  # noqa: ANN401 - documents differ
    """Starts an operation, waits for it and returns its document."""
    operation = start(function, *arguments)
    finish(operation, what, timeout_s, progress)
    return _native.call_json("operation_result", operation)
