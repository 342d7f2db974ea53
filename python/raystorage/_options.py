"""Configurations and arguments of `report()` as the library's option structs."""

from __future__ import annotations

import enum
import os
from typing import TYPE_CHECKING, Any

from . import _abi, _native, _paths
from .checkpoint import Checkpoint, encode_options
from .config import CheckpointUploadMode
from .errors import InvalidArgumentError

if TYPE_CHECKING:
    from ._ranks import Ranks
    from .config import RunConfig


def run_options(config: RunConfig, ranks: Ranks) -> _abi.RunOptions:
    """`raystorage_run_options` for a configuration."""
    kept = config.checkpoint_config
    options = _abi.RunOptions(
        rank=ranks.rank,
        world_size=ranks.world_size,
        resume=_abi.RESUME.index(config.resume),
        when_full=_abi.WHEN_FULL.index(config.when_full),
        durability=_abi.DURABILITY.index(config.durability),
        max_pending_reports=config.max_pending_reports,
        num_to_keep=kept.num_to_keep or 0,
        retry_timeout_ms=_milliseconds(config.retry_timeout_s),
        drain_timeout_ms=-1 if config.drain_timeout_s is None else _milliseconds(config.drain_timeout_s),
        heartbeat_ms=_milliseconds(config.heartbeat_s),
        orphan_ttl_ms=_milliseconds(config.orphan_ttl_s),
        staging_max_bytes=config.staging_max_bytes or 0,
        max_inflight_bytes=config.max_inflight_bytes or 0,
    )
    options.checkpoint_score_attribute = _optional(kept.checkpoint_score_attribute, "checkpoint_score_attribute")
    options.checkpoint_score_order = _native.encode(kept.checkpoint_score_order, "checkpoint_score_order")
    options.resume_from = _optional(config.resume_from, "resume_from")
    options.staging_dir = _optional(config.staging_dir, "staging_dir")
    options.storage_options_json = encode_options(config.storage_options)
    return options


def _milliseconds(seconds: float) -> int:
    # 0 means the default there.
    return max(1, round(seconds * 1000))


def _optional(text: str | None, what: str) -> bytes | None:
    return None if text is None else _native.encode(text, what)


def upload_mode(given: object) -> CheckpointUploadMode:
    """The mode; Ray's own enum is taken by its names.

    Raises:
        InvalidArgumentError: It is something else.
    """
    if isinstance(given, CheckpointUploadMode):
        return given
    name = given.name if isinstance(given, enum.Enum) else ""
    if name not in CheckpointUploadMode.__members__:
        allowed = ", ".join(f"CheckpointUploadMode.{mode}" for mode in CheckpointUploadMode.__members__)
        raise InvalidArgumentError(f"checkpoint_upload_mode must be one of {allowed}, not {given!r}")
    return CheckpointUploadMode[name]


def report_options(
    mode: CheckpointUploadMode, checkpoint_dir_name: object, delete_local_checkpoint_after_upload: bool | None
) -> _abi.ReportOptions:
    """`raystorage_report_options` for the arguments of `report()`."""
    if not isinstance(checkpoint_dir_name, (str, type(None))):
        kind = type(checkpoint_dir_name).__name__
        raise InvalidArgumentError(f"checkpoint_dir_name must be a str or None, not {kind}")
    if delete_local_checkpoint_after_upload not in (None, True, False):
        raise InvalidArgumentError(
            f"delete_local_checkpoint_after_upload must be a bool or None, not {delete_local_checkpoint_after_upload!r}"
        )
    options = _abi.ReportOptions(
        upload_mode=_abi.UPLOAD_MODES.index(mode.value),
        delete_local_after_upload=int(bool(delete_local_checkpoint_after_upload)),
    )
    options.checkpoint_dir_name = _optional(checkpoint_dir_name, "checkpoint_dir_name")
    return options


def local_directory(checkpoint: Any) -> bytes | None:  # noqa: ANN401 - Ray's are taken too
    """The directory that a reported checkpoint stands for.

    Raises:
        InvalidArgumentError: It is not a checkpoint, or not on this machine.
    """
    if checkpoint is None:
        return None
    if isinstance(checkpoint, (str, os.PathLike)):
        raise InvalidArgumentError(
            f"checkpoint must be a raystorage.Checkpoint, not a path: Checkpoint.from_directory({str(checkpoint)!r})"
        )
    path = getattr(checkpoint, "path", None)
    if not isinstance(path, str):
        raise InvalidArgumentError(f"checkpoint must be a raystorage.Checkpoint or None, not {checkpoint!r}")
    if not isinstance(checkpoint, Checkpoint):
        kind = getattr(getattr(checkpoint, "filesystem", None), "type_name", "local")
        path = path if kind == "local" else f"{kind}://{path}"
    directory = _paths.local(_paths.settled(path))
    if directory is None:
        raise InvalidArgumentError(
            f"a reported checkpoint must be a local directory, and {_paths.redacted(path)!r} is not; "
            "restore it with to_directory() first"
        )
    return _native.encode(directory, "checkpoint")
