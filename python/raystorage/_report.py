"""A report that is on its way."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Any

from . import _abi, _native, _operation
from .errors import StorageError, TimedOutError

if TYPE_CHECKING:
    from collections.abc import Generator

    from ._events import Events
    from .checkpoint import Checkpoint, Reader
    from .run import Run


class ReportState(enum.Enum):
    """How far a report has come."""

    #: Being captured: the directory must not change.
    PENDING = "PENDING"
    #: The directory is the caller's again.
    CAPTURED = "CAPTURED"
    #: Checksummed and fsynced: survives a power cut on this host.
    SEALED = "SEALED"
    #: On its way to the storage.
    UPLOADING = "UPLOADING"
    #: Durable.
    COMMITTED = "COMMITTED"
    #: `Report.wait` raises why.
    FAILED = "FAILED"
    #: Cancelled, or skipped at a limit.
    DROPPED = "DROPPED"
    #: The storage did not say; the next opening of the run finds out.
    UNKNOWN = "UNKNOWN"


_STATES = tuple(ReportState(name) for name in _abi.REPORT_STATES)
_ENDED = (ReportState.COMMITTED, ReportState.FAILED, ReportState.DROPPED, ReportState.UNKNOWN)


class Report:
    """What `report()` returns: the checkpoint goes on being stored in the background.

    `wait` for it, ``await`` it in asyncio, or let go of it: nothing is cancelled by that, and a failure that nobody
    has looked at is raised by a later `report()`, `flush()` or `close()`.
    """

    def __init__(
        self, handle: _native.Handle | None, read: Reader, run: Run, error: StorageError | None = None
    ) -> None:
        """Made by `Run.report` only."""
        self._handle = handle
        self._read = read
        self._run = run
        self._error = error

    @property
    def state(self) -> ReportState:
        """How far it has come."""
        if self._handle is None:
            return ReportState.FAILED
        number = _native.report_state(self._handle)
        return _STATES[number] if 0 <= number < len(_STATES) else ReportState.UNKNOWN

    @property
    def done(self) -> bool:
        """Whether it has ended, well or not."""
        return self.state in _ENDED

    def wait(self, timeout_s: float | None = None) -> Checkpoint | None:
        """Waits until the report is durable: the checkpoint committed, the metrics fsynced.

        Args:
            timeout_s: Seconds; None, the default, waits without limit.

        Returns:
            The committed checkpoint; None for a report without one, and for one that was skipped at a limit.

        Raises:
            TimedOutError: The time is up; the report goes on.
            CancelledError: It was cancelled.
            StorageError: Why it failed.
        """
        _operation.wait("report_wait", self._native(), timeout_s, "the report")
        return self.checkpoint

    def cancel(self) -> None:
        """Drops the report, unless its commit has begun."""
        if self._handle is not None:
            _native.call("report_cancel", self._handle)

    @property
    def checkpoint(self) -> Checkpoint | None:
        """The checkpoint once it is committed, else None."""
        if self._handle is None or self.state is not ReportState.COMMITTED:
            return None
        document = _native.call_json("report_checkpoint", self._handle)
        return None if document is None else self._read(document)

    @property
    def info(self) -> dict[str, Any]:
        """State, index, name, bytes, files and times of this report."""
        document: dict[str, Any] = _native.call_json("report_info", self._native())
        return document

    def __await__(self) -> Generator[Any, None, Checkpoint | None]:
        """As `wait()` without limit, without blocking the loop."""
        return self._ended().__await__()

    async def _ended(self) -> Checkpoint | None:
        events: Events = self._run._events()
        while True:
            try:
                _native.call("report_wait", self._native(), 0)
            except TimedOutError as error:
                if not _operation.is_pending(error):
                    raise
                await events.change()
            else:
                return self.checkpoint

    def _native(self) -> _native.Handle:
        if self._handle is None:
            raise self._error or StorageError("the report did not start")
        return self._handle

    def __repr__(self) -> str:
        """The state."""
        try:
            return f"<Report {self.state.value}>"
        except StorageError as error:
            return f"<Report {error.code}>"
