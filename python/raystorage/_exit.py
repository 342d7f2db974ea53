"""The end of the process: what is on its way gets a bounded time, and nothing is raised or hangs."""

from __future__ import annotations

import atexit
from typing import TYPE_CHECKING

from . import _log, _native, _operation
from .errors import ForkedProcessError, StorageError, TimedOutError

if TYPE_CHECKING:
    from .run import Run

# The open runs of this process. Held, because a run that nobody refers to still has reports on their way.
_open: list[tuple[int, Run]] = []
_registered_in: int | None = None


def register(run: Run) -> None:
    """Has the run closed at exit."""
    global _registered_in
    generation = _native.generation()
    _open.append((generation, run))
    if _registered_in != generation:
        # multiprocessing clears what a forked child inherits.
        atexit.unregister(_at_exit)
        atexit.register(_at_exit)
        _registered_in = generation


def forget(run: Run) -> None:
    """The run is closed."""
    _open[:] = [entry for entry in _open if entry[1] is not run]


def close_quietly(run: Run) -> None:
    """Closes a run within its `exit_timeout_s`; what goes wrong is logged."""
    if run._closed:
        return
    limit_s = run._config.exit_timeout_s
    try:
        run._close(limit_s)
    except ForkedProcessError:
        return
    except TimedOutError as error:
        if _operation.is_pending(error):
            _log.logger().warning(
                "%s: not everything was stored within %g s; what is captured is finished when the run is opened again",
                run.path,
                limit_s,
            )
        else:
            _log.logger().warning("%s: a report failed: %s", run.path, error)
    except KeyboardInterrupt:
        _log.logger().warning("%s: interrupted; what is captured is finished when the run is opened again", run.path)
    except StorageError as error:
        _log.logger().warning("%s: a report failed: %s", run.path, error)


def own_runs() -> list[Run]:
    """The open runs of this process, not of its parents."""
    generation = _native.generation()
    return [run for opened_in, run in _open if opened_in == generation]


def stop(timeout_s: float | None) -> None:
    """Stops the library's threads, if this process has started any."""
    if _native.is_loaded() and _registered_in == _native.generation():
        _operation.wait("shutdown", None, timeout_s, "stopping the library")


def _at_exit() -> None:
    runs = own_runs()
    for run in runs:
        close_quietly(run)
    try:
        stop(10.0)
    except (StorageError, KeyboardInterrupt) as error:
        _log.logger().warning("raystorage did not stop cleanly: %s", str(error) or "interrupted")
