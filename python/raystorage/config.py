"""How a run is set up. Values are checked when a configuration is made, not when training has begun."""

from __future__ import annotations

import enum
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, NoReturn

from . import _abi, _paths
from .errors import InvalidArgumentError

if TYPE_CHECKING:
    import os


class CheckpointUploadMode(enum.Enum):
    """What `report()` waits for."""

    #: Returns when the directory is captured: it is the caller's again, the upload goes on. The default here.
    ASYNC = "ASYNC"
    #: Returns when the checkpoint is committed. Ray's default.
    SYNC = "SYNC"
    #: The directory lies inside the run already and is registered as it stands.
    NO_UPLOAD = "NO_UPLOAD"


# Ray's arguments that have no counterpart here, and what to do instead.
_RAY_CHECKPOINT_CONFIG = {
    "checkpoint_frequency": "call report(..., checkpoint=...) as often as you want checkpoints",
    "checkpoint_at_end": "report a checkpoint after the loop",
}
_RAY_RUN_CONFIG = {
    "storage_filesystem": "give a storage_path; backends are chosen by its scheme",
    "failure_config": "start the script again with the same name: it goes on from the latest checkpoint",
    "callbacks": "call them from the training loop",
    "sync_config": "there is nothing to sync: report() writes to storage_path itself",
    "worker_runtime_env": "there are no workers to start",
    "logging_config": 'use logging.getLogger("raystorage") or RAYSTORAGE_LOG',
    "log_to_file": 'use logging.getLogger("raystorage") or RAYSTORAGE_LOG',
    "stop": "end the training loop",
    "verbose": "use RAYSTORAGE_LOG=debug",
    "progress_reporter": "use `raystorage show` or `raystorage metrics`",
    "local_dir": "use storage_path, and staging_dir for unfinished uploads",
}


def unknown_argument(owner: str, given: Mapping[str, object], ray: Mapping[str, str]) -> TypeError:
    """The error for an argument that does not exist; Ray's own come with what to do instead."""
    name = next(iter(given))
    if name in ray:
        return TypeError(f"{owner}({name}=...) exists in Ray and not in raystorage: {ray[name]}")
    return TypeError(f"{owner}() got an unexpected keyword argument {name!r}")


def _refuse(name: str, value: object, allowed: str) -> NoReturn:
    raise InvalidArgumentError(f"{name} must be {allowed}, not {value!r}", details={"name": name, "allowed": allowed})


def _choice(name: str, value: object, allowed: Sequence[str]) -> None:
    if value not in allowed:
        _refuse(name, value, " or ".join(repr(choice) for choice in allowed))


def _whole(name: str, value: object, least: int, most: int, unit: str = "", *, optional: bool = True) -> None:
    if value is None and optional:
        return
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        _refuse(name, value, f"a whole number{unit} from {least} to {most}" + (" or None" if optional else ""))


def _seconds(name: str, value: object, *, optional: bool = False) -> None:
    if value is None and optional:
        return
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not number or not math.isfinite(value) or not 0 < value <= 1e9:  # type: ignore[arg-type,operator]
        _refuse(name, value, "a number of seconds above 0" + (", or None for no limit" if optional else ""))


def _text(name: str, value: object) -> None:
    if value is not None and (not isinstance(value, str) or not value):
        _refuse(name, value, "a text that is not empty, or None")


@dataclass(frozen=True)
class CheckpointConfig:
    """Which checkpoints are kept.

    Args:
        num_to_keep: How many. Defaults to None, which keeps all. The latest is always kept, so there may be one more.
        checkpoint_score_attribute: The metric to rank by, ``"a/b"`` for a nested one. Defaults to None: by age. A
            checkpoint without that metric, or with NaN, ranks last.
        checkpoint_score_order: ``"max"`` (the default) or ``"min"``.

    Raises:
        InvalidArgumentError: A value is not allowed.
    """

    num_to_keep: int | None = None
    checkpoint_score_attribute: str | None = None
    checkpoint_score_order: str = "max"

    def __init__(
        self,
        num_to_keep: int | None = None,
        checkpoint_score_attribute: str | None = None,
        checkpoint_score_order: str = "max",
        **unknown: NoReturn,
    ) -> None:
        """See the class."""
        if unknown:
            raise unknown_argument("CheckpointConfig", unknown, _RAY_CHECKPOINT_CONFIG)
        _whole("num_to_keep", num_to_keep, 1, 2**31)
        _text("checkpoint_score_attribute", checkpoint_score_attribute)
        _choice("checkpoint_score_order", checkpoint_score_order, ("max", "min"))
        object.__setattr__(self, "num_to_keep", num_to_keep)
        object.__setattr__(self, "checkpoint_score_attribute", checkpoint_score_attribute)
        object.__setattr__(self, "checkpoint_score_order", checkpoint_score_order)


@dataclass(frozen=True)
class RunConfig:
    """Where a run lies and how it behaves.

    Args:
        name: The run's directory below `storage_path`: one path component of 1-200 bytes. Defaults to
            ``$RAYSTORAGE_NAME``, else ``raystorage_run-<date>_<time>-<4 hex digits>``. The same name and
            storage_path go on with that run.
        storage_path: ``/abs``, ``~/x``, ``file:///x`` or ``s3://bucket/prefix?option=value``. Defaults to
            ``$RAYSTORAGE_STORAGE_PATH``, ``$RAY_STORAGE``, else ``~/ray_results``.
        storage_options: Options of the store, secrets too; they win over the path's query. Local paths take none.
        checkpoint_config: Which checkpoints are kept. Defaults to all.
        resume: ``"auto"`` (the default) goes on with an existing run, ``"must"`` needs one (`NotFoundError`),
            ``"never"`` refuses one (`AlreadyExistsError`).
        resume_from: The name of an older checkpoint of the run to go on from. Defaults to the latest.
        staging_dir: Where unfinished uploads and this machine's identity lie. Defaults to ``$RAYSTORAGE_STAGING_DIR``,
            ``$RAY_AIR_LOCAL_CACHE_DIR``, else ``/var/tmp/raystorage-<uid>``.
        staging_max_bytes: Bytes captured and not yet committed. Defaults to half of the free space at opening. A single
            checkpoint that is larger is taken when no other is on its way.
        retry_timeout_s: How long a report may go without progress until it fails. Defaults to 3600. A store from
            which no answer of any kind has come yet is given up after 30 s.
        drain_timeout_s: How long opening finishes the reports of a dead trainer. Defaults to 600; None: no limit.
        max_inflight_bytes: Buffers of all that is copied and read at once, 512 KiB each, at least one; on file
            systems 8 MiB at most. Likewise the buffers of uploads to a store, 1 MiB each. Defaults to 64 MiB.
        max_pending_reports: Checkpoints captured and not yet committed. Defaults to 8.
        when_full: What `report()` does at one of these limits: ``"wait"`` (the default), ``"skip"`` this checkpoint,
            or ``"error"``.
        durability: ``"fsync"`` (the default), or ``"none"`` to leave out every fsync, for scratch runs and tests.
        heartbeat_s: How often the holder of a run shows that it lives; it counts as dead after three times that.
            Defaults to 10.
        orphan_ttl_s: Unfinished work of other hosts is collected after this long without change. Defaults to 7 days.
        handle_sigterm: Whether SIGTERM flushes (at most `sigterm_timeout_s`) and then does what it did before. Only
            in the main thread. Defaults to False: signals are left alone.
        sigterm_timeout_s: Defaults to 20.
        exit_timeout_s: How long the end of the interpreter waits for reports that are not committed yet; what is
            captured goes on when the run is opened again. Defaults to 60.
        on_error: ``"raise"`` (the default), or ``"warn"``: a report that fails is logged and training goes on.
        rank: This process among `world_size`. Defaults to the launcher's variables (torchrun, MPI, Slurm), else 0.
        world_size: As `rank`; else 1. More than 1 is not supported yet (`NotSupportedError` at opening).

    Raises:
        InvalidArgumentError: A value is not allowed; the text names it and says what is.
        TypeError: An argument that does not exist here, with what to use instead of Ray's.
    """

    name: str | None = None
    storage_path: str | None = None
    storage_options: Mapping[str, Any] | None = field(default=None, repr=False, hash=False)
    checkpoint_config: CheckpointConfig = field(default_factory=CheckpointConfig)
    resume: str = "auto"
    resume_from: str | None = None
    staging_dir: str | None = None
    staging_max_bytes: int | None = None
    retry_timeout_s: float = 3600.0
    drain_timeout_s: float | None = 600.0
    max_inflight_bytes: int | None = None
    max_pending_reports: int = 8
    when_full: str = "wait"
    durability: str = "fsync"
    heartbeat_s: float = 10.0
    orphan_ttl_s: float = 604800.0
    handle_sigterm: bool = False
    sigterm_timeout_s: float = 20.0
    exit_timeout_s: float = 60.0
    on_error: str = "raise"
    rank: int | None = None
    world_size: int | None = None

    def __init__(
        self,
        name: str | None = None,
        storage_path: str | os.PathLike[str] | None = None,
        storage_options: Mapping[str, Any] | None = None,
        checkpoint_config: CheckpointConfig | None = None,
        *,
        resume: str = "auto",
        resume_from: str | None = None,
        staging_dir: str | os.PathLike[str] | None = None,
        staging_max_bytes: int | None = None,
        retry_timeout_s: float = 3600.0,
        drain_timeout_s: float | None = 600.0,
        max_inflight_bytes: int | None = None,
        max_pending_reports: int = 8,
        when_full: str = "wait",
        durability: str = "fsync",
        heartbeat_s: float = 10.0,
        orphan_ttl_s: float = 604800.0,
        handle_sigterm: bool = False,
        sigterm_timeout_s: float = 20.0,
        exit_timeout_s: float = 60.0,
        on_error: str = "raise",
        rank: int | None = None,
        world_size: int | None = None,
        **unknown: NoReturn,
    ) -> None:
        """See the class."""
        if unknown:
            raise unknown_argument("RunConfig", unknown, _RAY_RUN_CONFIG)
        values = {key: value for key, value in locals().items() if key not in ("self", "unknown")}
        values["storage_path"] = None if storage_path is None else _paths.text(storage_path, "storage_path")
        values["staging_dir"] = None if staging_dir is None else _paths.text(staging_dir, "staging_dir")
        values["checkpoint_config"] = CheckpointConfig() if checkpoint_config is None else checkpoint_config
        for key, value in values.items():
            object.__setattr__(self, key, value)
        self._check()

    def __repr__(self) -> str:
        """What differs from the defaults, without credentials."""
        shown = []
        for item in fields(self):
            value = getattr(self, item.name)
            if not item.repr or value is None or value in (item.default, CheckpointConfig()):
                continue
            shown.append(
                f"{item.name}={_paths.redacted(value)!r}" if isinstance(value, str) else f"{item.name}={value!r}"
            )
        return f"RunConfig({', '.join(shown)})"

    def _check(self) -> None:
        _text("name", self.name)
        _text("resume_from", self.resume_from)
        if self.storage_options is not None and not isinstance(self.storage_options, Mapping):
            _refuse("storage_options", type(self.storage_options).__name__, "a dict or None")
        if not isinstance(self.checkpoint_config, CheckpointConfig):
            _refuse("checkpoint_config", self.checkpoint_config, "a raystorage.CheckpointConfig or None")
        _choice("resume", self.resume, _abi.RESUME)
        _choice("when_full", self.when_full, _abi.WHEN_FULL)
        _choice("durability", self.durability, _abi.DURABILITY)
        _choice("on_error", self.on_error, ("raise", "warn"))
        _choice("handle_sigterm", self.handle_sigterm, (True, False))  # type: ignore[arg-type]
        _whole("staging_max_bytes", self.staging_max_bytes, 1, 2**63 - 1, " of bytes")
        _whole("max_inflight_bytes", self.max_inflight_bytes, 1, 2**63 - 1, " of bytes")
        _whole("max_pending_reports", self.max_pending_reports, 1, 2**20, optional=False)
        _whole("rank", self.rank, 0, 2**31)
        _whole("world_size", self.world_size, 1, 2**31)
        _seconds("retry_timeout_s", self.retry_timeout_s)
        _seconds("drain_timeout_s", self.drain_timeout_s, optional=True)
        _seconds("heartbeat_s", self.heartbeat_s)
        _seconds("orphan_ttl_s", self.orphan_ttl_s)
        _seconds("sigterm_timeout_s", self.sigterm_timeout_s)
        _seconds("exit_timeout_s", self.exit_timeout_s)
        if self.resume_from is not None and self.resume == "never":
            _refuse("resume_from", self.resume_from, 'None when resume="never"')
