"""A run: one trainer's hold on the directory `{storage_path}/{name}`."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NoReturn

from . import _exit, _log, _native, _operation, _options, _ranks
from ._context import RunContext, StorageContext
from ._events import Events
from ._report import Report
from ._signals import SigtermHandler
from .checkpoint import Checkpoint, ReportedCheckpoint, reader, reported
from .config import CheckpointUploadMode, RunConfig, unknown_argument
from .errors import (
    ClosedError,
    ForkedProcessError,
    InvalidArgumentError,
    NotSupportedError,
    StorageError,
    SupersededError,
    TimedOutError,
)
from .metrics import encode
from .result import Reading, Result

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self

Metrics = Mapping[str, Any]

# Ray's arguments of report() that have no counterpart here.
_RAY_REPORT = {
    "checkpoint_upload_fn": "report() stores the directory itself; inside Ray, pass a function to ray.train.report()",
    "validation": "validate in the training loop, or another process, and report the metrics",
}
# These end training under on_error="warn" too: the program is wrong, or the run is somebody else's.
_NEVER_A_WARNING = (InvalidArgumentError, ForkedProcessError, ClosedError, SupersededError)


class Run:
    """Opens a run for training: creates it, or goes on with it.

    Opening finishes what a dead trainer of this host had captured, and chooses where to go on from. May be used from
    every thread, and as a context manager that closes the run.

    Args:
        config: Where and how. Defaults to ``RunConfig()``.

    Raises:
        RunInUseError: Another live trainer holds it; the text names it. Takes up to three heartbeats to find out.
        AlreadyExistsError: It exists and ``resume="never"``.
        NotFoundError: It does not and ``resume="must"``.
        NotSupportedError: `world_size` is more than 1.
    """

    def __init__(self, config: RunConfig | None = None) -> None:
        """See the class."""
        self._config = RunConfig() if config is None else config
        if not isinstance(self._config, RunConfig):
            raise InvalidArgumentError(f"config must be a raystorage.RunConfig or None, not {config!r}")
        self._ranks = _ranks.resolve(self._config.rank, self._config.world_size)
        self._handle = self._open()
        self._closed = False
        self._result: Result | None = None
        # Goes on when a close() has run out of time, for the next one.
        self._reading: Reading | None = None
        self._event_pump: Events | None = None
        # Only under on_error="warn": what may fail without anybody looking.
        self._unseen: list[Report] = []
        # The last failure that became a warning.
        self._failure: StorageError | None = None
        self._path = _native.run_path(self._handle)
        self._info: dict[str, Any] = _native.call_json("run_info", self._handle)
        self._read = reader(self._config.storage_options, self._info.get("staging_dir"))
        _exit.register(self)
        self._sigterm = SigtermHandler(self._flush_on_sigterm) if self._config.handle_sigterm else None
        _log.drain()

    def _open(self) -> _native.Handle:
        config, ranks = self._config, self._ranks
        options = _options.run_options(config, ranks)
        path = None if config.storage_path is None else _native.encode(config.storage_path, "storage_path")
        name = None if config.name is None else _native.encode(config.name, "name")
        try:
            operation = _operation.start("run_open_start", path, name, _native.reference(options))
            _operation.finish(operation, "opening the run")
        except NotSupportedError as error:
            if ranks.world_size == 1:
                raise
            text = f"{error} (world_size is {ranks.world_size}: {ranks.source}; RunConfig(world_size=1) overrides it)"
            raise NotSupportedError(text, details=error.details) from None
        return _native.call_handle("run", "operation_take_run", operation)

    @property
    def path(self) -> str:
        """The run's directory or URI."""
        return self._path

    @property
    def name(self) -> str:
        """The run's name."""
        return str(self._info["name"])

    @property
    def info(self) -> dict[str, Any]:
        """What opening found: `epoch`, `resumed_from`, `recovered`, `lost`, `staging_dir` and more."""
        document: dict[str, Any] = _native.call_json("run_info", self._handle)
        return document

    @property
    def context(self) -> RunContext:
        """The place of this process in its job."""
        return RunContext(self._ranks, StorageContext(str(self._info["storage_path"]), self.name, self._path))

    @property
    def stats(self) -> dict[str, Any]:
        """Counters: see docs/c-api.md, "stats".

        `reports`, `pending`, `staged_bytes`, `staging_max_bytes`, `captured_bytes` and `states`; of a store also
        `requests`, `retries`, `throttled`, `bytes_sent` and `bytes_received`.
        """
        document: dict[str, Any] = _native.call_json("run_stats", self._handle)
        return document

    def report(
        self,
        metrics: Metrics,
        checkpoint: Checkpoint | None = None,
        *,
        checkpoint_dir_name: str | None = None,
        checkpoint_upload_mode: CheckpointUploadMode = CheckpointUploadMode.ASYNC,
        delete_local_checkpoint_after_upload: bool | None = None,
        **unknown: NoReturn,
    ) -> Report:
        """Reports metrics and, if given, a checkpoint.

        Args:
            metrics: A dict of numbers (NaN too), text, booleans, None, numpy scalars, and lists and dicts of these.
                They are in the run's log when this returns.
            checkpoint: A local directory, `Checkpoint.from_directory`.
            checkpoint_dir_name: Its name in the run. Defaults to ``checkpoint_<epoch>_<index>``. A name that this
                line of history has committed cannot be used again.
            checkpoint_upload_mode: ``ASYNC``, the default here (Ray's is ``SYNC``), returns when the directory is
                captured: it may be changed or deleted at once. ``SYNC`` returns when the report is durable.
            delete_local_checkpoint_after_upload: True hands the directory over: it is moved, not copied, where that is
                possible. Defaults to False in every mode (Ray's ``ASYNC`` deletes).
            **unknown: None exist; those of Ray are refused with what to do instead.

        Returns:
            The report, to wait for; nothing is lost by not doing so.

        Raises:
            InvalidArgumentError: A metric, name or directory is refused; nothing was written.
            QueueFullError, StagingFullError: A limit was reached under ``when_full="error"``.
            StorageError: This report failed, or an earlier one that nobody has waited for.
        """
        if unknown:
            raise unknown_argument("report", unknown, _RAY_REPORT)
        text = encode(metrics)
        directory = _options.local_directory(checkpoint)
        plain = checkpoint_upload_mode is CheckpointUploadMode.ASYNC
        if plain and checkpoint_dir_name is None and delete_local_checkpoint_after_upload is None:
            mode, options = CheckpointUploadMode.ASYNC, None
        else:
            mode = _options.upload_mode(checkpoint_upload_mode)
            options = _options.report_options(mode, checkpoint_dir_name, delete_local_checkpoint_after_upload)
        _log.drain_soon()
        if self._config.on_error == "raise":
            return self._report(text, directory, options, mode)
        self._warn_of_failures()
        while True:
            try:
                report = self._report(text, directory, options, mode)
            except StorageError as error:
                if isinstance(error, _NEVER_A_WARNING):
                    raise
                self._failure = error
                _warn("a report failed", error)
                if error.details.get("earlier"):
                    continue  # that was another one; this one has not been tried
                return Report(None, self._read, self, error)
            if directory is not None:
                self._unseen.append(report)
            return report

    def _report(self, text: bytes, directory: bytes | None, options: Any, mode: CheckpointUploadMode) -> Report:  # noqa: ANN401
        reference = None if options is None else _native.reference(options)
        handle = _native.call_handle("report", "run_report_start", self._handle, text, directory, reference)
        report = Report(handle, self._read, self)
        if directory is None and mode is CheckpointUploadMode.ASYNC:
            return report
        try:
            if directory is not None:
                _operation.wait("report_wait_captured", handle, None, "the capture")
            if mode is CheckpointUploadMode.SYNC:
                report.wait()
        except StorageError:
            raise
        except BaseException:
            # Ctrl-C, or what a signal handler raised: the caller does not know that anything is on its way.
            with contextlib.suppress(StorageError):
                report.cancel()
            raise
        return report

    def _warn_of_failures(self) -> None:
        for report in [report for report in self._unseen if report.done]:
            self._forget(report)
            self._wait_or_warn("report_wait", report._native(), 0, "a report")

    def _forget(self, report: Report) -> None:
        with contextlib.suppress(ValueError):  # another thread was first
            self._unseen.remove(report)

    def get_checkpoint(self) -> Checkpoint | None:
        """The checkpoint to go on from: the latest committed one; None on a fresh run.

        Before the first commit of this trainer it is the one that was resumed from, verified byte for byte. When that
        is damaged the run falls back to the one before, with a warning that names both.
        """
        document = _operation.run("run_get_checkpoint_start", self._handle, what="looking for the checkpoint")
        return None if document is None else self._read(document)

    def get_all_reported_checkpoints(self, timeout_s: float | None = None) -> list[ReportedCheckpoint]:
        """The committed checkpoints of this run, oldest first, after waiting for what is still on its way.

        Args:
            timeout_s: Seconds; when they are over, the list is what is there. Defaults to None: no limit.
        """
        try:
            self.flush(timeout_s)
        except TimedOutError as error:
            if not _operation.is_pending(error):
                raise
        documents = _native.call_json("run_checkpoints", self._handle)
        found = [reported(document, self._read) for document in documents]
        return [one for one in found if one.status == "committed"]

    def flush(self, timeout_s: float | None = None) -> None:
        """Waits until every report has ended and the metrics are fsynced.

        Args:
            timeout_s: Seconds; None, the default, waits without limit.

        Raises:
            TimedOutError: The time is up; the reports go on.
            StorageError: A report failed that nobody has waited for.
        """
        self._until("run_flush", timeout_s, "the reports of this run")

    def _until(self, function: str, timeout_s: float | None, what: str) -> None:
        """Waits. Under on_error="warn" a failed report becomes a warning, and is remembered."""
        if self._config.on_error == "raise":
            _operation.wait(function, self._handle, timeout_s, what)
            return
        left_s = _operation.countdown(timeout_s)
        for report in list(self._unseen):
            self._wait_or_warn("report_wait", report._native(), left_s(), "a report")
            self._forget(report)
        self._wait_or_warn(function, self._handle, left_s(), what)

    def _wait_or_warn(self, function: str, handle: _native.Handle, timeout_s: float | None, what: str) -> None:
        try:
            _operation.wait(function, handle, timeout_s, what)
        except StorageError as error:
            not_yet = isinstance(error, TimedOutError) and _operation.is_pending(error)
            if not_yet or isinstance(error, _NEVER_A_WARNING):
                raise
            self._failure = error
            _warn("a report failed", error)

    def close(self, timeout_s: float | None = None) -> Result:
        """Flushes, lets go of the run and returns what it holds. Closing again returns the same.

        Args:
            timeout_s: Seconds; None, the default, waits without limit.

        Raises:
            TimedOutError: The time is up, for the end of the run or for reading what it holds. It takes no more
                reports, and `close` may be called again.
            StorageError: A report failed that nobody has waited for. The run is closed.
        """
        left_s = _operation.countdown(timeout_s)
        if not self._closed:
            self._close(left_s())
        if self._result is None:
            self._result = self._read_result(left_s())
        return self._result

    def _read_result(self, timeout_s: float | None) -> Result:
        if self._reading is None:
            self._reading = Reading(self._path, self._config.storage_options)
        try:
            document = self._reading.wait(timeout_s)
        except BaseException as failure:
            if not (isinstance(failure, TimedOutError) and _operation.is_pending(failure)):
                self._reading.cancel()
                self._reading = None
            raise
        return Result._from_document(document, self._config.storage_options, self._failure)

    def _close(self, timeout_s: float | None) -> None:
        try:
            self._until("run_close", timeout_s, "closing the run")
        except StorageError as failure:
            if not (isinstance(failure, TimedOutError) and _operation.is_pending(failure)):
                self._let_go()
            raise
        self._let_go()

    def _let_go(self) -> None:
        self._closed = True
        if self._sigterm is not None:
            self._sigterm.remove()
        _exit.forget(self)

    def _flush_on_sigterm(self) -> None:
        self.flush(self._config.sigterm_timeout_s)

    def _events(self) -> Events:
        if self._event_pump is None:
            self._event_pump = Events(self._handle)
        return self._event_pump

    def __enter__(self) -> Self:
        """The run itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Closes the run. After an exception that wait is bounded by `exit_timeout_s`, and its failure only logged."""
        if kind is None:
            self.close()
            return
        _exit.close_quietly(self)

    def __repr__(self) -> str:
        """The run's directory."""
        return f"<Run {self._path!r}{' closed' if self._closed else ''}>"


def _warn(what: str, error: StorageError) -> None:
    text = f"raystorage: {what}: {error}"
    _log.logger().warning("%s", text)
    warnings.warn(text, RuntimeWarning, stacklevel=4)
