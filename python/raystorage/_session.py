"""The one default run of a process, so that a Ray loop changes its import only."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING, NoReturn

from . import _exit, _native, _operation
from .config import CheckpointUploadMode, RunConfig
from .errors import AlreadyExistsError
from .run import Metrics, Run

if TYPE_CHECKING:
    from ._context import RunContext
    from ._report import Report
    from .checkpoint import Checkpoint, ReportedCheckpoint

# Re-entrant: a signal handler may report or flush while the main thread is opening the run.
_lock = threading.RLock()
_run: Run | None = None
_generation = 0


def _after_fork_in_child() -> None:
    global _lock
    _lock = threading.RLock()


os.register_at_fork(after_in_child=_after_fork_in_child)


def init(config: RunConfig | None = None) -> Run:
    """Opens the default run of this process, on which the functions of this module act.

    Without this call the first `report()`, `get_checkpoint()` or `get_context()` opens ``RunConfig()``.

    Raises:
        AlreadyExistsError: The default run is open already; `shutdown()` closes it.
        StorageError: As `Run`.
    """
    global _run, _generation
    with _lock:
        if _run is not None and not _run._closed and _generation == _native.generation():
            raise AlreadyExistsError(
                f"this process has the run {_run.path} open already; call raystorage.shutdown() first, "
                "or use Run(...) for a second one",
                details={"path": _run.path},
            )
        _run = Run(config)
        _generation = _native.generation()
        return _run


def _current() -> Run:
    run = _run
    if run is not None and not run._closed:
        return run
    with _lock:
        if _run is not None and not _run._closed:
            return _run
        return init()


def report(
    metrics: Metrics,
    checkpoint: Checkpoint | None = None,
    *,
    checkpoint_dir_name: str | None = None,
    checkpoint_upload_mode: CheckpointUploadMode = CheckpointUploadMode.ASYNC,
    delete_local_checkpoint_after_upload: bool | None = None,
    **unknown: NoReturn,
) -> Report:
    """Reports metrics and, if given, a checkpoint to the default run: see `Run.report`."""
    return _current().report(
        metrics,
        checkpoint,
        checkpoint_dir_name=checkpoint_dir_name,
        checkpoint_upload_mode=checkpoint_upload_mode,
        delete_local_checkpoint_after_upload=delete_local_checkpoint_after_upload,
        **unknown,
    )


def get_checkpoint() -> Checkpoint | None:
    """The checkpoint to go on from, None on a fresh run: see `Run.get_checkpoint`."""
    return _current().get_checkpoint()


def get_context() -> RunContext:
    """The place of this process in its job, and its run."""
    return _current().context


def get_all_reported_checkpoints(timeout_s: float | None = None) -> list[ReportedCheckpoint]:
    """The committed checkpoints of the default run, oldest first: see `Run.get_all_reported_checkpoints`."""
    return _current().get_all_reported_checkpoints(timeout_s)


def flush(timeout_s: float | None = None) -> None:
    """Waits until every report of the default run has ended: see `Run.flush`. Does nothing without a run."""
    run = _run
    if run is not None and not run._closed:
        run.flush(timeout_s)


def shutdown(timeout_s: float | None = None) -> None:
    """Closes every open run of this process and stops the library's threads. `atexit` does this too.

    Args:
        timeout_s: Seconds in all; None, the default, waits without limit.

    Raises:
        TimedOutError: The time is up; what is captured is finished when the run is opened again.
        StorageError: A report failed that nobody has waited for. Everything is closed.
    """
    left_s = _operation.countdown(timeout_s)
    global _run
    with _lock:
        failure: Exception | None = None
        for run in _exit.own_runs():
            try:
                run._close(left_s())
            except Exception as error:  # noqa: BLE001 - the others are closed first
                failure = failure or error
        _exit.stop(left_s())
        _run = None
    if failure is not None:
        raise failure
