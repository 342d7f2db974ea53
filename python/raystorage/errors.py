"""Every error that raystorage raises: one tree under `StorageError`, beside the built-in class where one exists."""

from __future__ import annotations

from typing import Any, Callable


class StorageError(Exception):
    """Something went wrong with the storage, a run or a checkpoint.

    Attributes:
        code: The name of the status in `raystorage.h`, for example ``"NOT_FOUND"``.
        details: Path, operation, errno, attempts and so on, as far as they apply. Never contains a secret.
        retryable: Whether the same call may succeed later without a change by the caller.
    """

    default_code = "INTERNAL"
    code: str
    details: dict[str, Any]
    retryable: bool

    def __init__(
        self,
        message: str,
        *,
        code: str | None = None,
        details: dict[str, Any] | None = None,
        retryable: bool = False,
    ) -> None:
        """Creates an error; `code` defaults to that of the class."""
        super().__init__(message)
        self.message = message
        self.code = code or self.default_code
        self.details = dict(details or {})
        self.retryable = retryable
        if "errno" in self.details:
            # For the classes that are an OSError too.
            setattr(self, "errno", self.details["errno"])  # noqa: B010

    def __str__(self) -> str:
        """One sentence for a person."""
        return self.message

    def __reduce__(self) -> tuple[Callable[..., StorageError], tuple[object, ...]]:
        """Errors travel between processes whole, which `OSError` by itself would not let them."""
        return _rebuild, (type(self), self.message, self.code, self.details, self.retryable)


def _rebuild(
    kind: type[StorageError], message: str, code: str, details: dict[str, Any], retryable: bool
) -> StorageError:
    return kind(message, code=code, details=details, retryable=retryable)


class InvalidArgumentError(StorageError, ValueError):
    """A value was refused before anything was written; the text names it and says what is allowed."""

    default_code = "INVALID_ARGUMENT"


class CancelledError(StorageError):
    """The report or operation was cancelled by the caller."""

    default_code = "CANCELLED"


class TimedOutError(StorageError, TimeoutError):
    """A wait ended before the work did. The work goes on."""

    default_code = "TIMEOUT"


class NotFoundError(StorageError, FileNotFoundError):
    """No such run, checkpoint or file."""

    default_code = "NOT_FOUND"


class AlreadyExistsError(StorageError, FileExistsError):
    """Something is there that must not be: a run under ``resume="never"``, a name that is taken."""

    default_code = "ALREADY_EXISTS"


class PreconditionError(StorageError):
    """The storage changed under us."""

    default_code = "PRECONDITION"


class AuthenticationError(StorageError):
    """No credentials, or wrong ones."""

    default_code = "UNAUTHENTICATED"


class PermissionDeniedError(StorageError, PermissionError):
    """The storage does not allow this."""

    default_code = "PERMISSION_DENIED"


class ChecksumError(StorageError):
    """The bytes are not those that were reported."""

    default_code = "CHECKSUM"


class NetworkError(StorageError, ConnectionError):
    """The network failed."""

    default_code = "NETWORK"


class ThrottledError(StorageError):
    """The storage asked to slow down."""

    default_code = "THROTTLED"


class StorageIOError(StorageError, OSError):
    """A system call failed; `errno`, and in `details` the operation and the path, say which."""

    default_code = "IO"


class QueueFullError(StorageError):
    """`max_pending_reports` was reached."""

    default_code = "QUEUE_FULL"


class ClosedError(StorageError):
    """The run is closed."""

    default_code = "CLOSED"


class ForkedProcessError(StorageError, RuntimeError):
    """A run or report of the parent process was used after `fork()`. The child may open runs of its own."""

    default_code = "FORKED"


class NotSupportedError(StorageError):
    """Not built yet, or not possible here."""

    default_code = "NOT_SUPPORTED"


class InternalError(StorageError):
    """A bug of raystorage."""

    default_code = "INTERNAL"


class StagingFullError(StorageError):
    """`staging_max_bytes` was reached."""

    default_code = "STAGING_FULL"


class SupersededError(StorageError):
    """Another trainer has taken over this run; the text names it."""

    default_code = "SUPERSEDED"


class MissingRanksError(StorageError):
    """A rank did not come; the text names it."""

    default_code = "MISSING_RANKS"


class RunInUseError(StorageError):
    """Another trainer holds this run and is alive; the text names it."""

    default_code = "RUN_IN_USE"


class NoSpaceError(StorageError, OSError):
    """The storage is full, or a quota is reached."""

    default_code = "NO_SPACE"


class LibraryError(StorageError, ImportError):
    """`libraystorage.so` cannot be loaded; the text lists every place that was tried."""

    default_code = "LIBRARY"


# The numbers of `raystorage.h`.
_BY_STATUS: dict[int, type[StorageError]] = {
    1: InvalidArgumentError,
    2: CancelledError,
    3: TimedOutError,
    4: NotFoundError,
    5: AlreadyExistsError,
    6: PreconditionError,
    7: AuthenticationError,
    8: PermissionDeniedError,
    9: ChecksumError,
    10: NetworkError,
    11: ThrottledError,
    12: StorageIOError,
    13: QueueFullError,
    14: ClosedError,
    15: ForkedProcessError,
    16: NotSupportedError,
    17: InternalError,
    18: StagingFullError,
    19: SupersededError,
    20: MissingRanksError,
    21: RunInUseError,
    22: NoSpaceError,
}


def error_for_status(status: int, message: str, details: dict[str, Any], retryable: bool) -> StorageError:
    """The error for a status of the library; a number that this package does not know gives a plain `StorageError`."""
    kind = _BY_STATUS.get(status)
    if kind is None:
        return StorageError(message, code=f"STATUS_{status}", details=details, retryable=retryable)
    return kind(message, details=details, retryable=retryable)
