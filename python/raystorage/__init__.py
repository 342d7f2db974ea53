"""Durable checkpoints and metrics for training loops.

A loop calls `report(metrics, checkpoint)`. The checkpoint is stored without the loop waiting for the storage, whole or
not at all; later anyone opens the run and gets back exactly the bytes that were reported. Ray Train's terms and run
directories, no cluster needed.

Example:
    >>> import raystorage                                                              # doctest: +SKIP
    >>> from raystorage import Checkpoint, CheckpointConfig, RunConfig
    >>> raystorage.init(RunConfig(name="digits", checkpoint_config=CheckpointConfig(num_to_keep=3)))
    >>> start = raystorage.get_checkpoint()                                            # None on a fresh run
    >>> for epoch in range(10):
    ...     ...
    ...     raystorage.report({"loss": loss}, Checkpoint.from_directory(directory))
"""

from ._context import RunContext, StorageContext
from ._report import Report, ReportState
from ._session import (
    flush,
    get_all_reported_checkpoints,
    get_checkpoint,
    get_context,
    init,
    report,
    shutdown,
)
from .checkpoint import Checkpoint, ReportedCheckpoint
from .config import CheckpointConfig, CheckpointUploadMode, RunConfig
from .errors import (
    AlreadyExistsError,
    AuthenticationError,
    CancelledError,
    ChecksumError,
    ClosedError,
    ForkedProcessError,
    InternalError,
    InvalidArgumentError,
    LibraryError,
    MissingRanksError,
    NetworkError,
    NoSpaceError,
    NotFoundError,
    NotSupportedError,
    PermissionDeniedError,
    PreconditionError,
    QueueFullError,
    RunInUseError,
    StagingFullError,
    StorageError,
    StorageIOError,
    SupersededError,
    ThrottledError,
    TimedOutError,
)
from .result import Result
from .run import Metrics, Run

__version__ = "0.1.0"

__all__ = [
    "AlreadyExistsError",
    "AuthenticationError",
    "CancelledError",
    "Checkpoint",
    "CheckpointConfig",
    "CheckpointUploadMode",
    "ChecksumError",
    "ClosedError",
    "ForkedProcessError",
    "InternalError",
    "InvalidArgumentError",
    "LibraryError",
    "Metrics",
    "MissingRanksError",
    "NetworkError",
    "NoSpaceError",
    "NotFoundError",
    "NotSupportedError",
    "PermissionDeniedError",
    "PreconditionError",
    "QueueFullError",
    "Report",
    "ReportState",
    "ReportedCheckpoint",
    "Result",
    "Run",
    "RunConfig",
    "RunContext",
    "RunInUseError",
    "StagingFullError",
    "StorageContext",
    "StorageError",
    "StorageIOError",
    "SupersededError",
    "ThrottledError",
    "TimedOutError",
    "__version__",
    "flush",
    "get_all_reported_checkpoints",
    "get_checkpoint",
    "get_context",
    "init",
    "report",
    "shutdown",
]
