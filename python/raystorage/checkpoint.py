"""A checkpoint: a directory of files, on this machine or in a storage."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Callable

from . import _native, _operation, _paths, metrics
from .errors import ChecksumError, InvalidArgumentError, StorageError

if TYPE_CHECKING:
    from ._operation import ProgressCallback


class Checkpoint:
    """A directory of files that a training loop can go on from.

    Args:
        path: A directory or a URI. A relative path is made absolute at once, ``~`` is expanded.
        storage_options: Options of the storage backend; local paths take none.

    Example:
        >>> with checkpoint.as_directory() as directory:          # doctest: +SKIP
        ...     model.load_state_dict(torch.load(directory + "/model.pt"))
    """

    def __init__(self, path: str | os.PathLike[str], storage_options: Mapping[str, Any] | None = None) -> None:
        """Names a checkpoint; nothing is looked up before it is used."""
        self._path = _paths.settled(_paths.text(path))
        self._storage_options = None if storage_options is None else dict(storage_options)
        self._staging_dir: str | None = None

    @classmethod
    def from_directory(cls, path: str | os.PathLike[str]) -> Checkpoint:
        """A checkpoint from a local directory, to be reported."""
        return cls(path)

    @property
    def path(self) -> str:
        """The directory, or the URI."""
        return self._path

    def to_directory(
        self,
        path: str | os.PathLike[str] | None = None,
        *,
        include: str | Iterable[str] | None = None,
        verify: bool = True,
        progress: ProgressCallback = None,
    ) -> str:
        """Copies the files to a local directory, with their modes and times.

        Args:
            path: Created, or merged into when it exists. Defaults to a new directory below `tempfile.gettempdir()`,
                which is the caller's to remove.
            include: The files that are wanted, and no byte of others is fetched: a path relative to the checkpoint, or
                a pattern, or several. What is the path of something in the checkpoint means just that; else ``*`` is
                any run of characters within a component, ``?`` one of them, ``[a-z]`` and ``[!a-z]`` one of a set or
                outside it, and ``**`` any number of directories, or at the end everything below. A directory brings
                everything below it, a symbolic link what it leads to. Nothing in `path` says afterwards that it holds a
                part. Defaults to all.
            verify: Whether every byte is checked against the manifest first. Nothing appears in `path` unless all of
                it is good.
            progress: Called about ten times a second in this thread with a dict of `bytes_done`, `bytes_total`,
                `files_done`, `files_total` and `phase`.

        Returns:
            The local directory.

        Raises:
            ChecksumError: The bytes are not those that were reported.
            NotFoundError: There is no such checkpoint, or it was evicted; or a path or pattern of `include`, which is
                named, means nothing in it.
            InvalidArgumentError: The path is a run's, or holds runs; or `include` would go to a directory in a run or a
                checkpoint, where a part would be taken for a whole.
            PreconditionError: Objects that were not reported here, so that nothing says what their bytes should be,
                were replaced while they were fetched.
        """
        if path is None:
            import tempfile
            import uuid

            target = os.path.join(tempfile.gettempdir(), f"checkpoint_tmp_{uuid.uuid4().hex}")
        else:
            target = os.path.abspath(os.path.expanduser(_paths.text(path)))
        arguments = (_native.encode(target, "path"), int(verify))
        what = f"restoring {self!r}"
        if include is None:
            self._run("checkpoint_download_start", *arguments, what=what, progress=progress)
        else:
            self._run("checkpoint_download_files_start", _included(include), *arguments, what=what, progress=progress)
        return target

    @contextlib.contextmanager
    def as_directory(self) -> Iterator[str]:
        """A local directory with the files, to read only, while the ``with`` block lasts.

        Nothing is copied where the storage is a local disk. Otherwise the processes of this machine share one copy.
        The bytes are verified once. A plain directory (`from_directory`) is used as it is.
        """
        plain = self._plain_directory()
        if plain is not None:
            yield plain
            return
        staging = None if self._staging_dir is None else _native.encode(self._staging_dir, "staging_dir")
        document = self._run("checkpoint_acquire_start", staging, what=f"opening {self!r}")
        try:
            yield document["path"]
        finally:
            # In a forked child the lease is the parent's to give back.
            with contextlib.suppress(StorageError):
                _native.call("checkpoint_release", _native.encode(document["lease"], "lease"))

    def verify(self, *, progress: ProgressCallback = None) -> dict[str, Any]:
        """Compares every byte with the manifest; of objects whose CRC-32C the store keeps, only that.

        Returns:
            ``{"path", "ok", "verified", "files", "bytes", "problems"}``; `verified` is False where there is no
            manifest to compare with, as for Ray's checkpoints.

        Raises:
            ChecksumError: Bytes or files are not those that were reported; `details` has the document.
        """
        document = self._verify_document(progress)
        if not document.get("ok"):
            problems = document.get("problems") or []
            first = "; ".join(f"{item.get('file')}: {item.get('problem')}" for item in problems[:3])
            more = f" and {len(problems) - 3} more" if len(problems) > 3 else ""
            text = f"the checkpoint {_paths.redacted(self._path)} is damaged: {first}{more}"
            raise ChecksumError(text, details=document)
        return document

    def get_metadata(self) -> dict[str, Any]:
        """The metadata that was set; ``{}`` when none was."""
        document: dict[str, Any] = self._run("checkpoint_metadata_start", what=f"reading the metadata of {self!r}")
        return document

    def set_metadata(self, metadata: Mapping[str, Any]) -> None:
        """Replaces the metadata by a dict of JSON values (the same that metrics allow)."""
        text = metrics.encode(metadata)
        self._run("checkpoint_set_metadata_start", text, what=f"setting the metadata of {self!r}")

    def update_metadata(self, metadata: Mapping[str, Any]) -> None:
        """Adds to the metadata; a key that is there gets the new value."""
        self.set_metadata({**self.get_metadata(), **metadata})

    def _verify_document(self, progress: ProgressCallback = None) -> dict[str, Any]:
        document: dict[str, Any] = self._run("checkpoint_verify_start", what=f"verifying {self!r}", progress=progress)
        return document

    def _plain_directory(self) -> str | None:
        directory = _paths.local(self._path)
        if directory is None or not os.path.isdir(directory):
            return None
        return None if os.path.lexists(os.path.join(directory, ".raystorage")) else directory

    def _address(self) -> tuple[bytes, bytes | None]:
        return _native.encode(self._path, "path"), encode_options(self._storage_options)

    def _run(
        self,
        function: str,
        *arguments: Any,  # noqa: ANN401
        what: str,
        progress: ProgressCallback = None,
    ) -> Any:  # noqa: ANN401
        return _operation.run(function, *self._address(), *arguments, what=what, progress=progress)

    def __repr__(self) -> str:
        """The path, without credentials that it may carry."""
        return f"Checkpoint(path={_paths.redacted(self._path)!r})"

    def __eq__(self, other: object) -> bool:
        """Checkpoints are equal when their paths and options are."""
        if not isinstance(other, Checkpoint):
            return NotImplemented
        return self._path == other._path and self._storage_options == other._storage_options

    def __hash__(self) -> int:
        """Hashes the path."""
        return hash(self._path)


def _included(include: str | Iterable[str]) -> bytes:
    """Paths and patterns as JSON; a single one is no list of letters."""
    texts = [include] if isinstance(include, str) else list(include)
    for text in texts:
        if not isinstance(text, str):
            raise InvalidArgumentError(
                f"include must hold strings, not {text!r}", details={"name": "include", "allowed": "paths and patterns"}
            )
        _native.encode(text, "include")
    return json.dumps(texts, ensure_ascii=False).encode("utf-8", "surrogateescape")


def encode_options(storage_options: Mapping[str, Any] | None) -> bytes | None:
    """Options of a backend as JSON.

    Raises:
        InvalidArgumentError: They hold something that JSON does not. The values are not named: they may be secret.
    """
    if storage_options is None:
        return None
    try:
        return json.dumps(dict(storage_options)).encode("ascii")
    except (TypeError, ValueError):
        keys = ", ".join(sorted(str(key) for key in storage_options))
        raise InvalidArgumentError(f"storage_options must hold JSON values only; the keys are {keys}") from None


@dataclass(frozen=True)
class ReportedCheckpoint:
    """A checkpoint of a run with what is known about it.

    Attributes:
        checkpoint: The checkpoint.
        metrics: The metrics that were reported with it.
        name: Its `checkpoint_dir_name`.
        status: ``"committed"``; ``"stray"``: committed by a launch after the point that a later launch went back to;
            ``"superseded"``: its name means a newer one; ``"unverified"``: without a manifest, as Ray's.
        latest: Whether it is the one to go on from.
        epoch: Which launch of the job reported it, from 1. None for Ray's.
        index: Which `report()` of that launch, from 0. None for Ray's.
        created_at: Seconds since 1970, if known.
        size_bytes: The sum of its files, if known.
        files: How many, if known.
    """

    checkpoint: Checkpoint
    metrics: dict[str, Any]
    name: str
    status: str = "committed"
    latest: bool = False
    epoch: int | None = None
    index: int | None = None
    created_at: float | None = None
    size_bytes: int | None = None
    files: int | None = None


Reader = Callable[[Mapping[str, Any]], Checkpoint]


def reader(storage_options: Mapping[str, Any] | None = None, staging_dir: str | None = None) -> Reader:
    """How a "checkpoint" document of the library becomes a `Checkpoint`."""

    def read(document: Mapping[str, Any]) -> Checkpoint:
        checkpoint = Checkpoint(document["path"], storage_options)
        checkpoint._staging_dir = staging_dir
        return checkpoint

    return read


def reported(document: Mapping[str, Any], read: Reader) -> ReportedCheckpoint:
    """A "checkpoint" document of the library with its metrics."""
    return ReportedCheckpoint(
        checkpoint=read(document),
        metrics=document.get("metrics") or {},
        name=document["name"],
        status=document.get("status", "committed"),
        latest=bool(document.get("latest")),
        epoch=document.get("epoch"),
        index=document.get("index"),
        created_at=document.get("created_at"),
        size_bytes=document.get("bytes"),
        files=document.get("files"),
    )
