"""Runs on object stores, for the tests of S3."""

from __future__ import annotations

import os
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from raystorage import Checkpoint, CheckpointUploadMode, Report, Run, RunConfig

if TYPE_CHECKING:
    from collections.abc import Iterator

    from servers import Endpoint

MIB = 1 << 20

SYNC = CheckpointUploadMode.SYNC


@contextmanager
def signed_for(endpoint: Endpoint, **more: str) -> Iterator[None]:
    """The environment of a process that may use that store, and no other keys that this machine may have."""
    names = [name for name in os.environ if name.startswith("AWS_")]
    before = {name: os.environ.pop(name) for name in names}
    os.environ.update(endpoint.environment() | more)
    try:
        yield
    finally:
        for name in [name for name in os.environ if name.startswith("AWS_")]:
            del os.environ[name]
        os.environ.update(before)


def open_run(endpoint: Endpoint, name: str = "run", prefix: str = "runs", **options: Any) -> Run:
    """A run below a prefix of the bucket; waits for nothing longer than a test may."""
    settings: dict[str, Any] = {"retry_timeout_s": 30, "heartbeat_s": 1, **options}
    query = settings.pop("query", {})
    return Run(RunConfig(name, endpoint.url(prefix, **query), **settings))


def files_of(directory: str | Path) -> dict[str, bytes]:
    """What lies in a directory, by relative path."""
    root = Path(directory)
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def write(directory: Path, files: dict[str, bytes]) -> Path:
    """A directory with these files."""
    for name, content in files.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return directory


def report(run: Run, directory: Path, metrics: dict[str, Any] | None = None, **options: Any) -> Report:
    """A SYNC report, which returns when it is committed."""
    return run.report(metrics or {}, Checkpoint(directory), checkpoint_upload_mode=SYNC, **options)


def restored(checkpoint: Checkpoint, directory: Path) -> dict[str, bytes]:
    """The checkpoint's files, verified."""
    return files_of(checkpoint.to_directory(directory))
